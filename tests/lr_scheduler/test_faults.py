"""What users reported of other schedulers, by the number of the report, and how it is here."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from support.helpers import PlainMomentum
from support.paths import ROOT
from support.scheduler_cases import FUNCTIONS, optimizer


def sgd(*rates, **options):
    parameters = [ol.Parameter(np.ones(2)) for _ in rates]
    for parameter in parameters:
        parameter.grad = np.ones(2)
    return ol.SGD([{"params": [p], "lr": lr} for p, lr in zip(parameters, rates, strict=True)], **options)


def rates(opt, key="lr"):
    return [group[key] for group in opt.param_groups]


def values(scheduler, n):
    """Counts 0 to n of group 0, by stepping."""
    seen = [rates(scheduler.optimizer)[0]]
    for _ in range(n):
        scheduler.optimizer.step()
        scheduler.step()
        seen.append(rates(scheduler.optimizer)[0])
    return seen


# A run resumed with `last_epoch`

WHOLE = [case for case in FUNCTIONS if "fraction" not in case.name]
RESUMABLE = [case for case in WHOLE if not case.name.startswith("chained") and "_in_" not in case.name]


@pytest.mark.parametrize("case", RESUMABLE, ids=lambda case: case.name)
@pytest.mark.parametrize("where", ["saved after the step", "saved before the step", "at the initial values"])
def test_pytorch_60265_102261_52236_49630_162591_resuming_from_last_epoch_has_no_jump(case, where):
    opt = optimizer(case)
    [scheduler] = case.schedulers(ls, opt)

    class Resumed:
        """The module of schedulers, where the outermost scheduler gets `last_epoch`."""

        def __init__(self, k):
            self.k = k

        def __getattr__(self, name):
            made = getattr(ls, name)
            return functools.partial(made, last_epoch=self.k) if name == type(scheduler).__name__ else made

    whole = [scheduler.at(t) for t in range(case.steps + 1)]
    for k in range(case.steps - 1):
        held = {"saved after the step": whole[k + 1], "saved before the step": whole[k],
                "at the initial values": scheduler.base_lrs}[where]
        fresh = optimizer(case)
        for group, lr, base in zip(fresh.param_groups, held, scheduler.base_lrs, strict=True):
            group.update(lr=lr, initial_lr=base)
        [again] = case.schedulers(Resumed(k), fresh)
        assert again.last_epoch == k + 1
        assert rates(fresh) == again.get_last_lr() == whole[k + 1]
        fresh.step()
        again.step()
        assert rates(fresh) == whole[k + 2]


def test_last_epoch_keeps_a_rate_that_something_else_set():
    opt = sgd(0.0123)
    opt.param_groups[0]["initial_lr"] = 0.1
    scheduler = ls.ExponentialLR(opt, 0.5, last_epoch=4)
    assert values(scheduler, 2) == [0.0123, 0.0123 * 0.5, 0.0123 * 0.5 * 0.5]


def test_last_epoch_needs_the_initial_values():
    with pytest.raises(KeyError, match="needs 'initial_lr' in every group; group 0 has none"):
        ls.StepLR(sgd(0.1), 3, last_epoch=2)


def test_pytorch_88791_warm_restarts_resumed_in_a_longer_cycle():
    whole = ls.CosineAnnealingWarmRestarts(sgd(0.1), 6, 2)
    for k in range(60):
        opt = sgd(0.1)
        opt.param_groups[0]["initial_lr"] = 0.1
        scheduler = ls.CosineAnnealingWarmRestarts(opt, 6, 2, last_epoch=k)
        assert values(scheduler, 5) == [whole.at(t)[0] for t in range(k + 1, k + 7)]


@pytest.mark.parametrize("saved_at", ["before the scheduler's step", "after it"])
def test_lightning_1772_4655_the_resumed_scheduler_is_not_one_off(saved_at):
    def train(opt, scheduler, epochs, save=None):
        seen = {}
        for epoch in epochs:
            seen[epoch] = rates(opt)[0]
            opt.step()
            if save == (epoch, "before the scheduler's step"):
                seen["state"] = opt.state_dict(), scheduler.state_dict()
            scheduler.step()
            if save == (epoch, "after it"):
                seen["state"] = opt.state_dict(), scheduler.state_dict()
        return seen

    opt = sgd(100.0)
    whole = train(opt, ls.MultiStepLR(opt, [4]), range(8))
    for last in range(7):
        opt = sgd(100.0)
        seen = train(opt, ls.MultiStepLR(opt, [4]), range(last + 1), (last, saved_at))
        optimizer_state, scheduler_state = seen["state"]
        fresh = sgd(100.0)
        scheduler = ls.MultiStepLR(fresh, [4])
        scheduler.load_state_dict(scheduler_state)
        fresh.load_state_dict(optimizer_state)
        if saved_at != "after it":
            scheduler.step()
        rest = train(fresh, scheduler, range(last + 1, 8))
        assert rest == {epoch: whole[epoch] for epoch in range(last + 1, 8)}


# A run resumed from a state dict


def test_pytorch_65342_making_a_scheduler_after_loading_the_optimizer():
    opt = sgd(0.1, momentum=0.9)
    scheduler = ls.CosineAnnealingLR(opt, 100)
    values(scheduler, 30)
    fresh = sgd(0.1, momentum=0.9)
    fresh.load_state_dict(opt.state_dict())
    again = ls.CosineAnnealingLR(fresh, 100)
    again.load_state_dict(scheduler.state_dict())
    assert values(again, 20) == values(scheduler, 20)


def test_pytorch_119168_restoring_sequential_leaves_the_optimizer_alone():
    def make(opt):
        return ls.SequentialLR(opt, [ls.LinearLR(opt, 0.1, total_iters=4), ls.CosineAnnealingLR(opt, 8, 3e-5)], [4])

    opt = sgd(0.1, 0.2, momentum=0.9, weight_decay=0.01)
    scheduler = make(opt)
    values(scheduler, 7)
    saved, state = copy.deepcopy(opt.param_groups), scheduler.state_dict()
    fresh = sgd(0.1, 0.2, momentum=0.9, weight_decay=0.01)
    fresh.load_state_dict(opt.state_dict())
    again = make(fresh)
    again.load_state_dict(state)
    for group, old in zip(fresh.param_groups, saved, strict=True):
        assert {k: v for k, v in group.items() if k != "params"} == {k: v for k, v in old.items() if k != "params"}


def test_pytorch_162359_a_rate_is_no_alias_of_the_initial_rate():
    opt = sgd(0.1)
    opt.param_groups[0]["lr"] = np.float64(0.1)
    scheduler = ls.SequentialLR(opt, [ls.LinearLR(opt, 0.1), ls.CosineAnnealingLR(opt, 8)], [5])
    values(scheduler, 5)
    assert type(opt.param_groups[0]["lr"]) is type(opt.param_groups[0]["initial_lr"]) is float
    assert (rates(opt), opt.param_groups[0]["initial_lr"], scheduler.base_lrs) == ([0.1], 0.1, [0.1])


@pytest.mark.parametrize("k", range(12))
def test_pytorch_171515_162591_sequential_goes_on_with_the_right_scheduler(k):
    def make(opt, last_epoch=-1):
        children = [ls.ConstantLR(opt, 0.1, 20), ls.ExponentialLR(opt, 0.9)]
        return ls.SequentialLR(opt, children, [3], last_epoch=last_epoch)

    whole = values(make(sgd(1.0)), 20)
    scheduler = make(sgd(1.0))
    values(scheduler, k)
    loaded = make(sgd(1.0))
    loaded.load_state_dict(scheduler.state_dict())
    assert values(loaded, 5) == whole[k : k + 6]
    counted = make(sgd(1.0), last_epoch=k)
    assert values(counted, 5) == whole[k + 1 : k + 7]


def test_pytorch_29697_multistep_without_the_optimizers_state():
    scheduler = ls.MultiStepLR(sgd(0.1), [2, 4], 0.1)
    values(scheduler, 9)
    fresh = sgd(0.1)
    again = ls.MultiStepLR(fresh, [2, 4], 0.1)
    again.load_state_dict(scheduler.state_dict())
    assert rates(fresh) == again.get_last_lr() == [pytest.approx(0.001)]
    assert values(again, 1)[1] == again.at(10)[0]


@pytest.mark.parametrize("milestones", [[20, 60], [45, 60], [41], [40, 41], []])
def test_pytorch_29697_a_changed_milestone_list_is_respected(milestones):
    opt = sgd(0.1)
    scheduler = ls.MultiStepLR(opt, [30, 60], 0.5)
    values(scheduler, 40)
    fresh = sgd(0.1)
    again = ls.MultiStepLR(fresh, milestones, 0.5)
    fresh.load_state_dict(opt.state_dict())
    again.load_state_dict(scheduler.state_dict())
    assert again.milestones == milestones
    assert rates(fresh) == rates(opt)
    assert values(again, 30)[1:] == [again.at(t)[0] for t in range(41, 71)]


def test_pytorch_52911_the_arguments_are_the_constructors():
    first = ls.CyclicLR(sgd(0.1), 0.01, 0.1, 5, mode="exp_range", gamma=0.9, cycle_momentum=False)
    again = ls.CyclicLR(sgd(0.1), 0.01, 0.1, 5, mode="exp_range", gamma=1.0, cycle_momentum=False)
    values(first, 5)
    again.load_state_dict(first.state_dict())
    assert again.gamma == 1.0
    assert values(again, 5)[1:] == [again.at(t)[0] for t in range(6, 11)]


class Decay:
    def __init__(self, rate):
        self.rates = [rate]

    def __call__(self, t):
        return self.rates[0] ** t


@pytest.mark.parametrize("name", ["LambdaLR", "MultiplicativeLR"])
def test_pytorch_32756_loading_leaves_the_state_dict_alone(name):
    scheduler = getattr(ls, name)(sgd(0.1, 0.2), [Decay(0.5), lambda t: 0.5])
    values(scheduler, 3)
    state = scheduler.state_dict()
    assert state["lr_lambda"] == [{"rates": [0.5]}, None]
    kept = copy.deepcopy(state)
    again = getattr(ls, name)(sgd(0.1, 0.2), [Decay(0.7), lambda t: 0.5])
    for _ in range(2):
        again.load_state_dict(state)
        assert state == kept
    expected = values(scheduler, 4)
    assert values(again, 4) == expected
    again.lr_lambda[0].rates[0] = 0.9
    assert state == kept


def test_a_scale_function_is_saved_like_a_lambda():
    def make(scale_fn):
        return ls.CyclicLR(sgd(0.1), 0.01, 0.1, 5, scale_fn=scale_fn, cycle_momentum=False)

    scheduler = make(Decay(0.5))
    values(scheduler, 12)
    again = make(Decay(0.9))
    again.load_state_dict(json.loads(json.dumps(scheduler.state_dict())))
    assert values(again, 12) == values(scheduler, 12)
    with pytest.raises(ValueError, match="must have None as 'scale_fn'"):
        make(None).load_state_dict(scheduler.state_dict())


# Groups added later


@pytest.mark.parametrize("case", [case for case in FUNCTIONS if "restarts" in case.name], ids=lambda case: case.name)
def test_pytorch_79888_53712_a_group_added_later_is_updated(case):
    opt = optimizer(case)
    [scheduler] = case.schedulers(ls, opt)
    opt.step()
    case.step([scheduler], 0)
    opt.add_param_group({"params": [ol.Parameter(np.ones(1))], "lr": 0.5})
    seen = []
    for k in range(1, case.steps):
        opt.step()
        case.step([scheduler], k)
        assert len(scheduler.get_last_lr()) == 3
        seen.append(rates(opt)[2])
    assert len(set(seen)) > 2


def test_pytorch_104361_62475_20997_plateau_with_a_group_added_later():
    opt = sgd(0.8)
    scheduler = ls.ReduceLROnPlateau(opt, factor=0.5, patience=0, min_lr=0.1)
    scheduler.step(1.0)
    opt.add_param_group({"params": [ol.Parameter(np.ones(1))], "lr": 0.15})
    assert len(scheduler.state_dict()["_last_lr"]) == 2
    scheduler.step(1.0)
    assert rates(opt) == scheduler.get_last_lr() == [0.4, 0.1]
    listed = ls.ReduceLROnPlateau(sgd(0.8), factor=0.5, min_lr=[0.1])
    listed.optimizer.add_param_group({"params": [ol.Parameter(np.ones(1))]})
    with pytest.raises(ValueError, match=r"`min_lr` lists 1 groups.*scheduler\.min_lr\.append"):
        listed.step(1.0)
    assert (listed.last_epoch, listed.best) == (0, None)


# One schedule's own faults


@pytest.mark.parametrize("options", [{"total_steps": 10}, {"epochs": 2, "steps_per_epoch": 5}])
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_flair_2954_pytorch_38170_onecycle_has_no_extra_step(options, anneal_strategy):
    opt = sgd(0.1, momentum=0.9)
    scheduler = ls.OneCycleLR(opt, 1.0, **options, anneal_strategy=anneal_strategy)
    seen = values(scheduler, 10)  # a loop of ten epochs, each with a step at its end
    assert seen[10] == seen[9] == pytest.approx(1 / 25 / 1e4, rel=1e-10)
    assert opt.param_groups[0]["momentum"] == 0.95
    before = scheduler.state_dict()
    for call in (scheduler.step, lambda: scheduler.at(11)):
        with pytest.raises(ValueError, match="`total_steps` is 10; there is no step 11"):
            call()
    assert scheduler.state_dict() == before


@pytest.mark.parametrize(("total_steps", "pct_start"), [(10, 0.1), (4, 0.25), (2, 0.5), (1, 1.0), (1, 0.0), (3, 1.0)])
@pytest.mark.parametrize("three_phase", [False, True])
def test_pytorch_180187_onecycle_with_a_phase_of_no_length(total_steps, pct_start, three_phase):
    pct_start = min(pct_start, 0.5) if three_phase else pct_start
    scheduler = ls.OneCycleLR(sgd(0.1), 1.0, total_steps, pct_start=pct_start, three_phase=three_phase,
                              cycle_momentum=False)
    seen = values(scheduler, total_steps - 1)
    assert all(1 / 25 / 1e4 * (1 - 1e-9) <= lr <= 1 for lr in seen)
    if pct_start * total_steps == 1:
        assert seen[0] == 1 / 25


@pytest.mark.parametrize("argument", ["div_factor", "final_div_factor"])
def test_pytorch_183386_onecycle_does_not_divide_by_zero(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be > 0, got 0"):
        ls.OneCycleLR(sgd(0.1), 1.0, 10, cycle_momentum=False, **{argument: 0})


@pytest.mark.parametrize("T_max", [1, 2, 3, 10])
def test_pytorch_17913_19180_185007_cosine_has_no_division_by_zero(T_max):
    scheduler = ls.CosineAnnealingLR(sgd(0.1), T_max, 0.01)
    assert values(scheduler, 6 * T_max)[::T_max] == [0.1, 0.01] * 3 + [0.1]
    opt = sgd(0.1)
    ls.ExponentialLR(opt, 0.9)
    opt.param_groups[0]["lr"] = 0.05  # off the closed form, where the recurrence divides
    assert np.isfinite(values(ls.CosineAnnealingLR(opt, T_max), 6 * T_max)).all()
    with pytest.raises(ValueError, match="`T_max` must be a whole number >= 1, got 0"):
        ls.CosineAnnealingLR(sgd(0.1), 0)


@pytest.mark.parametrize("T_mult", [1, 2])
def test_pytorch_47560_warm_restarts_come_down_to_eta_min(T_mult):
    """With fractions, as in the paper; whole counts restart one count before, as in torch."""
    scheduler = ls.CosineAnnealingWarmRestarts(sgd(0.1), 10, T_mult, 3.2e-6)
    ends = [10, 20, 30] if T_mult == 1 else [10, 30, 70]
    for end in ends:
        assert scheduler.at(end - 1e-6) == [pytest.approx(3.2e-6, rel=1e-6)]
        assert scheduler.at(end) == [0.1]
    batches, seen = 1000, []
    for batch in range(10 * batches):
        scheduler.optimizer.step()
        scheduler.step(batch / batches)
        seen += rates(scheduler.optimizer)
    assert min(seen) == seen[-1] == pytest.approx(3.2e-6, rel=1e-1)


@pytest.mark.parametrize(("T_0", "T_mult"), [(1, 2), (1, 5), (1, 10), (3, 3), (7, 6)])
def test_warm_restarts_find_their_cycle_without_logarithms(T_0, T_mult):
    """torch finds the cycle of a given epoch by a logarithm, which rounds: log(1000, 10) is below 3."""
    scheduler = ls.CosineAnnealingWarmRestarts(sgd(0.1), T_0, T_mult)
    length, start = T_0, 0
    for _ in range(6):
        scheduler.optimizer.step()
        scheduler.step(start)
        assert rates(scheduler.optimizer) == scheduler.at(start) == [0.1]
        start, length = start + length, length * T_mult


@pytest.mark.parametrize(("scheduler", "expected"), [
    (lambda opt: ls.LinearLR(opt, total_iters=0), [0.1] * 4),
    (lambda opt: ls.LinearLR(opt, 0.5, 0.3, total_iters=0), [0.03] * 4),
    (lambda opt: ls.ConstantLR(opt, 0.1, total_iters=0), [0.1] * 4),
])
def test_pytorch_193682_192655_a_warm_up_of_no_length_is_over(scheduler, expected):
    assert values(scheduler(sgd(0.1)), 3) == expected
    opt = sgd(0.1)
    ls.ConstantLR(opt, 0.5, 99)
    assert values(scheduler(opt), 3) == pytest.approx([value / 2 for value in expected])


def test_pytorch_185006_194712_a_constant_factor_of_zero_ends():
    assert values(ls.ConstantLR(sgd(0.1), 0.0, 3), 5) == [0, 0, 0, 0.1, 0.1, 0.1]
    opt = sgd(0.1)
    chained = ls.ChainedScheduler([ls.ConstantLR(opt, 0.0, 2), ls.ExponentialLR(opt, 0.5)])
    assert values(chained, 4) == pytest.approx([0, 0, 0.025, 0.0125, 0.00625])


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_pytorch_47513_38622_a_relative_threshold_works_for_negative_metrics(mode, sign):
    opt = sgd(0.1)
    scheduler = ls.ReduceLROnPlateau(opt, mode, threshold=0.1, patience=0)
    scheduler.step(-1.0 * sign)
    scheduler.step(-0.95 * sign)  # worse
    assert rates(opt) == [pytest.approx(0.01)]
    scheduler.step(-1.05 * sign)  # better, but by less than the threshold
    assert rates(opt) == [pytest.approx(0.001)]
    scheduler.step(-1.15 * sign)
    assert (rates(opt), scheduler.best) == ([pytest.approx(0.001)], -1.15 * sign)


def test_pytorch_2545_119763_patience_and_cooldown_are_what_their_description_says():
    opt = sgd(0.1)
    scheduler = ls.ReduceLROnPlateau(opt, patience=2, cooldown=1)
    seen = []
    for _ in range(11):
        scheduler.step(0)
        seen += rates(opt)
    # One best epoch, two that are ignored, a reduction after the third; then one of rest before it starts over.
    assert seen == pytest.approx([0.1] * 3 + [0.01] * 4 + [0.001] * 4)


@pytest.mark.parametrize("make", [
    lambda opt: ls.CyclicLR(opt, 0.01, 0.1),
    lambda opt: ls.OneCycleLR(opt, 0.1, 10),
], ids=["CyclicLR", "OneCycleLR"])
def test_turning_a_momentum_on_is_not_silent(make):
    with pytest.warns(UserWarning, match="turns on the momentum of SGD, which was 0; pass cycle_mom") as caught:
        make(sgd(0.1))
    assert caught[0].filename == __file__


def test_a_halving_cycle_ends_at_its_base():
    """torch computes 2 ** (cycle - 1), which overflows after 1,025 cycles."""
    scheduler = ls.CyclicLR(sgd(0.1), 0.01, 0.1, 5, mode="triangular2", cycle_momentum=False)
    assert scheduler.at(10 * 1000 + 5) == scheduler.at(10 * 10**6 + 5) == [0.01]


# Compositions


@pytest.mark.parametrize("swap", [False, True])
def test_pytorch_129565_a_chain_multiplies_warm_restarts_and_milestones(swap):
    opt = sgd(0.1)
    parts = [ls.CosineAnnealingWarmRestarts(opt, 5, eta_min=1e-12), ls.MultiStepLR(opt, [1, 2, 3], 0.1)]
    chained = ls.ChainedScheduler(parts[::-1] if swap else parts)
    alone = ls.CosineAnnealingWarmRestarts(sgd(0.1), 5, eta_min=1e-12)
    assert values(chained, 12) == pytest.approx([alone.at(t)[0] * 0.1 ** min(t, 3) for t in range(13)], rel=1e-12)


@pytest.mark.parametrize("absolute", [
    lambda opt: ls.LambdaLR(opt, lambda t: min(1.0, t / 4)),
    lambda opt: ls.CosineAnnealingWarmRestarts(opt, 4, 2),
    lambda opt: ls.CyclicLR(opt, 0.02, 0.3, 4, cycle_momentum=False),
    lambda opt: ls.CyclicLR(opt, 0.0, 0.3, 4, cycle_momentum=False),
    lambda opt: ls.OneCycleLR(opt, 0.3, 40, cycle_momentum=False),
    lambda opt: ls.SequentialLR(opt, [ls.LinearLR(opt), ls.ExponentialLR(opt, 0.9)], [5]),
    lambda opt: ls.WarmupCosineLR(opt, 4, 16),
    lambda opt: ls.WarmupStableDecayLR(opt, 4, 4, 4),
], ids=["lambda", "restarts", "cyclic", "cyclic from 0", "onecycle", "sequential", "warmup cosine", "warmup stable"])
@pytest.mark.parametrize("first", [True, False])
def test_pytorch_129565_a_chain_multiplies_whatever_overwrites(absolute, first):
    opt = sgd(0.1)
    if first:
        parts = [absolute(opt), ls.StepLR(opt, 3, 0.5), ls.LambdaLR(opt, lambda t: 1 / (1 + t))]
    else:
        parts = [ls.StepLR(opt, 3, 0.5), ls.LambdaLR(opt, lambda t: 1 / (1 + t)), absolute(opt)]
    alone = absolute(sgd(0.1))
    expected = [alone.at(t)[0] * 0.5 ** (t // 3) / (1 + t) for t in range(17)]
    assert values(ls.ChainedScheduler(parts), 16) == pytest.approx(expected, rel=1e-12)


def test_a_chain_goes_on_from_a_hand_set_rate():
    opt = sgd(0.1)
    chained = ls.ChainedScheduler([ls.LambdaLR(opt, lambda t: 1 / (1 + t)), ls.ExponentialLR(opt, 0.9)])
    values(chained, 3)
    opt.param_groups[0]["lr"] = 5.0
    assert values(chained, 2)[1:] == pytest.approx([5 * 0.9 * 4 / 5, 5 * 0.81 * 4 / 6])


def composites():
    def two(opt):
        return ls.SequentialLR(opt, [ls.ConstantLR(opt, 0.5, 2), ls.ConstantLR(opt, 0.2, 10)], [2])

    def product(opt):
        return ls.ChainedScheduler([ls.ConstantLR(opt, 0.5, 4), ls.ExponentialLR(opt, 0.9)])

    def mixed(opt):
        return ls.ChainedScheduler([ls.CosineAnnealingWarmRestarts(opt, 3), ls.ExponentialLR(opt, 0.9)])

    return [two, product, mixed]


@pytest.mark.parametrize("inner", composites())
def test_pytorch_196243_a_composition_in_a_composition_keeps_its_schedule(inner):
    alone = [inner(sgd(0.1)).at(t) for t in range(12)]
    for wrap in (lambda opt: ls.SequentialLR(opt, [inner(opt)], []),
                 lambda opt: ls.ChainedScheduler([inner(opt)]),
                 lambda opt: ls.SequentialLR(opt, [ls.SequentialLR(opt, [inner(opt)], [])], []),
                 lambda opt: ls.ChainedScheduler([ls.SequentialLR(opt, [inner(opt)], [])])):
        assert values(wrap(sgd(0.1)), 11) == [value for value, in alone]


@pytest.mark.parametrize("later", composites())
def test_pytorch_132745_67957_a_composition_as_a_later_scheduler(later):
    opt = sgd(0.1)
    scheduler = ls.SequentialLR(opt, [ls.ConstantLR(opt, 0.3, 99), later(opt)], [5])
    assert values(scheduler, 14) == [0.1 * 0.3] * 5 + [later(sgd(0.1)).at(t)[0] for t in range(10)]


def test_pytorch_168044_a_multiplicative_schedule_restarts_from_the_initial_value():
    opt = sgd(0.1)
    scheduler = ls.SequentialLR(opt, [ls.ConstantLR(opt, 0.3, 99), ls.MultiplicativeLR(opt, lambda t: 0.5)], [2])
    assert values(scheduler, 4) == pytest.approx([0.03, 0.03, 0.1, 0.05, 0.025])


# Schedules elsewhere


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_optax_415_the_first_step_uses_count_zero(case):
    opt = optimizer(case)
    used = []
    [scheduler] = case.schedulers(ls, opt)
    for _ in range(3):
        used.append(rates(opt))
        opt.step()
        scheduler.step()
    assert used == [scheduler.at(0), scheduler.at(1), scheduler.at(2)]


def test_keras_13027_the_count_is_saved():
    scheduler = ls.ExponentialLR(sgd(0.1), 0.5)
    values(scheduler, 7)
    state = json.loads(json.dumps(scheduler.state_dict()))
    again = ls.ExponentialLR(sgd(0.1), 0.5)
    again.load_state_dict(state)
    assert (again.last_epoch, values(again, 3)) == (7, values(scheduler, 3))


# Cycles beside other schedules


CYCLES = {
    "OneCycleLR": lambda o, **k: ls.OneCycleLR(o, max_lr=0.5, total_steps=10, **k),
    "CyclicLR": lambda o, **k: ls.CyclicLR(o, 0.01, 0.5, 4, **k),
}


@pytest.mark.parametrize("cycle", CYCLES.values(), ids=CYCLES)
@pytest.mark.parametrize("first", [True, False])
def test_a_cycle_leaves_the_initial_values_to_the_other_schedules(cycle, first):
    """In torch the cycle's own start takes the place of `initial_lr`, for whatever is made or composed after it."""
    opt = sgd(0.1, 0.2, momentum=0.3)
    if first:
        parts = [cycle(opt), ls.ExponentialLR(opt, 0.5)]
    else:
        parts = [ls.ExponentialLR(opt, 0.5), cycle(opt)]
    alone = cycle(sgd(0.1, 0.2, momentum=0.3))
    scheduler = ls.SequentialLR(opt, parts, [3])
    decay, wave = [[0.1 * 0.5**t, 0.2 * 0.5**t] for t in range(3)], [alone.at(t) for t in range(3)]
    assert [scheduler.at(t) for t in range(6)] == (wave + decay if first else decay + wave)
    assert scheduler.base_lrs == rates(opt, "initial_lr") == [0.1, 0.2]
    assert rates(opt, "initial_momentum") == [0.3, 0.3]


@pytest.mark.parametrize("cycle", CYCLES.values(), ids=CYCLES)
def test_a_schedule_made_after_a_cycle_starts_from_the_groups_own_rate(cycle):
    opt = sgd(0.1, momentum=0.9)
    cycle(opt)
    assert ls.ExponentialLR(opt, 0.5).at(1) == [0.05]
    assert ls.ChainedScheduler([ls.CosineAnnealingLR(opt, 8)]).at(0) == [0.1]
    late = ol.Adam([np.ones(2)], lr=0.1, betas=(0.7, 0.99))
    scheduler = cycle(late)
    late.add_param_group({"params": [np.ones(2)], "lr": 0.3, "betas": (0.6, 0.99)})
    scheduler.state_dict()
    assert (rates(late, "initial_lr"), rates(late, "initial_betas[0]")) == ([0.1, 0.3], [0.7, 0.6])
    assert ls.LinearLR(late, 0.5, key="betas[0]").base_lrs == [0.7, 0.6]


@pytest.mark.parametrize("cycle", CYCLES.values(), ids=CYCLES)
def test_the_momentum_is_the_groups_own_while_another_schedule_runs(cycle):
    """In torch a cycle that comes later has set the momentum from the first count on."""
    def make(opt, last_epoch=-1):
        parts = [ls.ExponentialLR(opt, 0.5), cycle(opt), ls.ConstantLR(opt)]
        return ls.SequentialLR(opt, parts, [2, 5], last_epoch=last_epoch)

    def momenta(scheduler, n):
        seen = [rates(scheduler.optimizer, "momentum")[0]]
        for _ in range(n):
            scheduler.optimizer.step()
            scheduler.step()
            seen += rates(scheduler.optimizer, "momentum")
        return seen

    alone = momenta(cycle(sgd(0.1, momentum=0.3)), 2)
    whole = [0.3, 0.3, *alone, 0.3, 0.3, 0.3]
    assert momenta(make(sgd(0.1, momentum=0.3)), 7) == whole
    for k in range(7):
        assert momenta(make(sgd(0.1, momentum=0.3), last_epoch=k), 0) == [whole[k + 1]]
    scheduler = make(sgd(0.1, momentum=0.3))
    scheduler.optimizer.param_groups[0]["momentum"] = 0.7            # by hand: it stays until the cycle begins
    assert momenta(scheduler, 2) == [0.7, 0.7, alone[0]]


@pytest.mark.parametrize("cycle", CYCLES.values(), ids=CYCLES)
def test_a_cycled_momentum_is_what_the_optimizer_allows(cycle):
    opt = sgd(0.1, momentum=1.5)
    for base, high in [(1.0, 2.0), ([1.0], [2])]:
        scheduler = cycle(opt, base_momentum=base, max_momentum=high)
        assert rates(opt, "momentum") == [2.0]
        assert scheduler.base_momentum[0] == 1.0
    opt.step()
    for bad in ({"base_momentum": 1.0}, {"max_momentum": [1.0]}):
        with pytest.raises(ValueError, match=r"_momentum` must be >= 0 and < 1, got 1\.0"):
            cycle(ol.Adam([np.ones(2)]), **bad)


def test_compositions_leave_the_momentum_alone_where_no_cycle_runs():
    opt = sgd(0.1, momentum=0.3)
    parts = [ls.CyclicLR(opt, 0.1, 0.2, 4, cycle_momentum=False), ls.OneCycleLR(opt, 0.5, 10)]
    chain = ls.ChainedScheduler([ls.SequentialLR(opt, parts, [3]), ls.ExponentialLR(opt, 0.9)])
    seen = [rates(opt, "momentum")[0]]
    for _ in range(3):
        opt.step()
        chain.step()
        seen += rates(opt, "momentum")
    assert seen == [0.3, 0.3, 0.3, 0.95]


def test_the_momentum_of_an_optimizer_without_checks():
    opt = PlainMomentum([np.ones(2)])
    for bad in ("fast", np.inf):
        with pytest.raises((TypeError, ValueError), match="`max_momentum` must be"):
            ls.CyclicLR(opt, 0.1, 0.2, max_momentum=bad)
    ls.CyclicLR(opt, 0.1, 0.2, base_momentum=-1, max_momentum=2)
    assert rates(opt, "momentum") == [2]


@pytest.mark.parametrize("wrap", [lambda o, c: c, lambda o, c: ls.SequentialLR(o, [c], [])], ids=["alone", "composed"])
def test_a_late_group_without_its_momentum_changes_nothing(wrap):
    opt = sgd(0.1, momentum=0.9)
    scheduler = wrap(opt, ls.CyclicLR(opt, 0.1, 0.2, 4, base_momentum=[0.5]))
    opt.add_param_group({"params": [np.ones(2)], "lr": 0.3})
    opt.step()
    with pytest.raises(ValueError, match=r"`base_momentum` lists 1 groups.*scheduler\.base_momentum\.append"):
        scheduler.step()
    assert (scheduler.last_epoch, rates(opt), rates(opt, "momentum")) == (0, [0.1, 0.3], [0.9, 0.9])


# A cosine beside another decay


BELOW = {
    "chain": lambda o: [ls.ChainedScheduler([ls.StepLR(o, 2, 0.1), ls.CosineAnnealingLR(o, T_max=4, eta_min=0.02)])],
    "the other way": lambda o: [ls.ChainedScheduler([ls.CosineAnnealingLR(o, 4, 0.02), ls.StepLR(o, 2, 0.1)])],
    "side by side": lambda o: [ls.StepLR(o, 2, 0.1), ls.CosineAnnealingLR(o, 4, 0.02)],
    "two cosines": lambda o: [ls.ChainedScheduler([ls.CosineAnnealingLR(o, 3), ls.CosineAnnealingLR(o, 4, 0.02)])],
    "rising": lambda o: [ls.ChainedScheduler([ls.StepLR(o, 2, 0.1), ls.CosineAnnealingLR(o, 4, eta_min=0.3)])],
}


@pytest.mark.parametrize("build", BELOW.values(), ids=BELOW)
def test_a_cosine_beside_another_decay_stays_above_zero(build):
    """torch's goes below zero: a distance below `eta_min` grows with the cosine."""
    opt = sgd(0.1)
    schedulers = build(opt)
    for _ in range(40):
        opt.step()
        for scheduler in schedulers:
            scheduler.step()
        assert rates(opt)[0] >= 0
    fresh = sgd(0.1)
    again = build(fresh)
    fresh.load_state_dict(opt.state_dict())
    for scheduler, other in zip(again, schedulers, strict=True):
        scheduler.load_state_dict(other.state_dict())
    assert rates(fresh) == rates(opt)


@pytest.mark.parametrize("initial", [0.1, 0.01])
@pytest.mark.parametrize("found", [0.0, 0.005, 0.019, 0.02, 0.05])
@pytest.mark.parametrize("t", range(1, 17))
def test_a_cosine_lowers_no_value_below_what_it_found_and_its_floor(initial, found, t):
    scheduler = ls.CosineAnnealingLR(sgd(initial), 4, 0.02)
    assert scheduler.recurrence(found, initial, t, 0) >= min(found, 0.02, scheduler.at(t)[0])


def test_a_plateau_and_a_hand_below_the_floor_of_a_cosine():
    opt = sgd(0.1)
    cosine, plateau = ls.CosineAnnealingLR(opt, 4, 0.02), ls.ReduceLROnPlateau(opt, patience=0)
    for k in range(24):
        opt.step()
        cosine.step()
        plateau.step(1.0)
        if k == 9:
            opt.param_groups[0]["lr"] = 0.001
        assert rates(opt)[0] >= 0


# Numbers of NumPy


NUMBERS = {"one element": lambda v: np.array([v]), "no axis": np.array, "a matrix": lambda v: np.array([[v]]),
           "float32": np.float32, "float64": np.float64}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("where", ["lr", "initial_lr", "both"])
def test_a_rate_may_be_a_number_of_any_type(number, where):
    """`param_groups[0]["lr"] = np.array([.1])` works in `step`, so it works in schedulers."""
    names = ["lr", "initial_lr"] if where == "both" else [where]
    for make in (lambda o: ls.StepLR(o, 1, 0.5), lambda o: ls.ChainedScheduler([ls.StepLR(o, 1, 0.5)]),
                 lambda o: ls.SequentialLR(o, [ls.StepLR(o, 1, 0.5)], [])):
        opt = sgd(0.5)
        opt.param_groups[0].update(dict.fromkeys(names, number(0.5)))
        scheduler = make(opt)
        assert (scheduler.base_lrs, scheduler.at(1)) == ([0.5], [0.25])
        opt.steps_taken = 1
        opt.param_groups[0]["lr"] = number(0.25)                 # off the schedule, which goes on from there
        assert values(scheduler, 1)[1] == 0.125
        assert type(opt.param_groups[0]["lr"]) is float
        json.dumps(scheduler.state_dict())
        opt.param_groups[0]["lr"] = number(0.75)
        assert scheduler.state_dict()["values"] == {"lr": [0.75]}


@pytest.mark.parametrize("number", [*NUMBERS.values(), np.int64], ids=[*NUMBERS, "int64"])
def test_metrics_and_factors_may_be_numbers_of_any_type(number):
    opt = sgd(1.0)
    plateau = ls.ReduceLROnPlateau(opt, factor=0.5, patience=0)
    for metric in (2, 1, 1):
        plateau.step(number(metric))
    assert (plateau.best, rates(opt)) == (1.0, [0.5])
    json.dumps(plateau.state_dict())
    assert ls.LambdaLR(sgd(0.5), lambda t: number(1 + t)).at(2) == [1.5]
    assert ls.MultiplicativeLR(sgd(0.5), lambda t: number(2)).at(2) == [2.0]
    assert ls.CyclicLR(sgd(0.1), 0, 1, 2, scale_fn=lambda c: number(3), cycle_momentum=False).at(2) == [3.0]


def test_a_pair_may_be_an_array():
    opt = ol.Adam([np.ones(2)])
    opt.param_groups[0]["betas"] = np.array([0.8, 0.99])
    scheduler = ls.StepLR(opt, 1, 0.5, key="betas[0]")
    assert scheduler.at(1) == [0.4]
    scheduler.optimizer.steps_taken = 1
    scheduler.step()
    assert opt.param_groups[0]["betas"] == (0.4, 0.99)


# A warm-up to the end


def test_a_warm_up_may_be_the_whole_schedule():
    scheduler = ls.WarmupCosineLR(sgd(0.5), 4, 4, min_factor=0.1)
    assert values(scheduler, 6) == [0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert ls.WarmupCosineLR(sgd(0.5), 1, 1).at(1) == [0.5]
    assert ls.WarmupCosineLR(sgd(0.5), 3, 4).at(4) == [0]


# The documentation


def test_the_documentation_shows_every_schedule_and_every_report_has_a_test():
    text = (ROOT / "docs" / "schedulers.md").read_text()
    for name in ls.__all__:
        if name != "LRScheduler":
            assert f"### {name}\n" in text
            assert (ROOT / "docs" / "pictures" / "schedules" / f"{name}.png").is_file()
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    reports = re.findall(r"\d{4,6}", text[text.index("## Corrected"):])
    named = re.findall(r"\d{4,6}", " ".join(re.findall(r"def (test_\w+)", tests)))
    assert set(reports) - {"2018", "2017"} <= set(named)
    assert len(set(reports)) > 30


@pytest.mark.parametrize("make", [
    lambda o: ls.ExponentialLR(o, 1e300), lambda o: ls.StepLR(o, 1, 1e300),
    lambda o: ls.MultiStepLR(o, [1, 2], 1e300),
    lambda o: ls.CyclicLR(o, 0.1, 1, 2, mode="exp_range", gamma=1e300, cycle_momentum=False)],
    ids=["exponential", "step", "milestones", "cyclic"])
def test_a_rate_beyond_all_numbers_is_refused_by_name(make: Callable[[ol.Optimizer], ls.LRScheduler]) -> None:
    """Powers that overflow raised an OverflowError that named nothing; products of torch's recurrences are infinite."""
    p = ol.Parameter(np.ones(2))
    p.grad = np.ones(2)
    sgd = ol.SGD([p], lr=0.1)
    scheduler = make(sgd)
    for _ in range(3):
        sgd.param_groups[0]["lr"], rate = 0.1, sgd.param_groups[0]["lr"]
        sgd.step()
        sgd.param_groups[0]["lr"] = rate
        scheduler.step()
    assert scheduler.at(3) == [np.inf]
    sgd.param_groups[0]["lr"] = np.inf
    before = p.data.copy()
    with pytest.raises(ValueError, match="`lr` must be finite, got inf"):
        sgd.step()
    assert np.array_equal(p.data, before)
