"""What users reported of schedulers beside and within others, by the number of the report."""

from __future__ import annotations

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from support.helpers import PlainMomentum, rates
from support.rates import sgd, values

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
        return values(scheduler, n, "momentum")

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
