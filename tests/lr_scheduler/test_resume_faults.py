"""What users reported of schedulers that were resumed, or got a group later, by the number of the report."""

from __future__ import annotations

import copy
import functools
import json

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from support.helpers import rates
from support.rates import sgd, values
from support.scheduler_cases import FUNCTIONS, WHOLE, optimizer

# A run resumed with `last_epoch`

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
