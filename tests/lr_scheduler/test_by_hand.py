"""Rates changed by hand: the recurrences go on in proportion to what they find."""

from __future__ import annotations

import math
from typing import Any

import pytest

from optimlite import lr_scheduler as ls
from support.helpers import SCHEDULES, rates, sgd, stepped


def after_hands(name: str, steps: int, changed: int, hand: float = 0.5, put: float = 0.0,
                **arguments: Any) -> tuple[Any, list[Any]]:
    """The scheduler, and the rates of two groups after each count, the second group changed by hand at one of them."""
    optimizer = sgd(0.5, 0.5)
    scheduler = getattr(ls, name)(optimizer, **{**SCHEDULES[name], **arguments})
    seen = []
    for t in range(steps):
        if t == changed:
            optimizer.param_groups[1]["lr"] = put or optimizer.param_groups[1]["lr"] * hand
        scheduler.step()
        seen.append(rates(optimizer))
    return scheduler, seen


PROPORTIONAL = [("StepLR", {}), ("MultiStepLR", {"milestones": [2, 4, 4, 6]}), ("ConstantLR", {}),
                ("LinearLR", {"start_factor": 0.25}), ("LinearLR", {"start_factor": 1.0, "end_factor": 0.5}),
                ("ExponentialLR", {}), ("PolynomialLR", {"power": 2.0}), ("MultiplicativeLR", {}),
                ("WarmupCosineLR", {"min_factor": 0.1}), ("WarmupStableDecayLR", {"min_factor": 0.1})]


@pytest.mark.parametrize("changed", [0, 1, 2, 4])
@pytest.mark.parametrize(("name", "arguments"), PROPORTIONAL)
def test_a_rate_changed_by_hand_goes_on_in_proportion(name: str, arguments: Any, changed: int) -> None:
    _, seen = after_hands(name, 9, changed, **arguments)
    for t, (left, touched) in enumerate(seen):
        assert touched == pytest.approx(left * (0.5 if t >= changed else 1.0), rel=1e-12), t


def test_a_sequence_changed_by_hand_goes_on_in_proportion_until_the_next_takes_over() -> None:
    optimizer = sgd(0.5, 0.5)
    sequence = ls.SequentialLR(optimizer, [ls.LinearLR(optimizer, 0.2), ls.ExponentialLR(optimizer, 0.5)], [3])
    seen = []
    for t in range(6):
        if t in (1, 4):
            optimizer.param_groups[1]["lr"] *= 0.5
        sequence.step()
        left, touched = rates(optimizer)
        seen.append(touched / left)
    assert seen == pytest.approx([1, 0.5, 1, 1, 0.5, 0.5])


def test_each_part_of_a_sequence_goes_on_from_a_hand_set_rate_in_its_own_way() -> None:
    optimizer = sgd(0.1, 0.2)
    sequence = ls.SequentialLR(optimizer, [
        ls.MultiplicativeLR(optimizer, [lambda t: 0.5, lambda t: 0.25]),
        ls.LambdaLR(optimizer, [lambda t: 1.0 + t, lambda t: 2.0 + t]),          # writes over what it finds
        ls.CosineAnnealingLR(optimizer, 2)], [2, 4])                             # rises from the bottom by the half
    for left, touched in [(0.05, 0.075), (0.1, 0.4), (0.2, 0.6), (0.1, 0.2), (0.05, 0.15), (0, 0), (0.05, 0.2)]:
        optimizer.param_groups[1]["lr"] += 0.1
        sequence.step()
        assert rates(optimizer) == pytest.approx([left, touched])


@pytest.mark.parametrize(("name", "arguments", "factor"), [
    ("LinearLR", {"start_factor": 0.25}, 0.25), ("ConstantLR", {"factor": 0.25}, 0.25), ("ExponentialLR", {}, 1.0),
    ("MultiStepLR", {"milestones": [0, 0, 3]}, 0.01), ("StepLR", {}, 1.0), ("PolynomialLR", {}, 1.0),
    ("CosineAnnealingLR", {}, 1.0), ("WarmupCosineLR", {}, 0.5), ("WarmupStableDecayLR", {}, 0.5)])
def test_a_schedule_enters_where_it_finds_the_rate(name: str, arguments: Any, factor: float) -> None:
    """A rate that isn't the initial one was put there by somebody, so the first value is that times the factor."""
    optimizer = sgd(0.3)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    getattr(ls, name)(optimizer, **{**SCHEDULES[name], **arguments})
    assert rates(optimizer) == pytest.approx([0.3 * factor], rel=1e-12)


def test_a_chain_enters_where_it_finds_the_rate() -> None:
    optimizer = sgd(0.3)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    ls.ChainedScheduler([ls.ConstantLR(optimizer, 0.25), ls.ExponentialLR(optimizer, 0.5)])
    assert rates(optimizer) == [0.3 * 0.25]


def test_a_cosine_changed_by_hand_scales_what_is_above_its_floor() -> None:
    scheduler, seen = after_hands("CosineAnnealingLR", 9, 1, eta_min=0.1)
    half = (0.5 * seen[0][0] - 0.1) / (seen[0][0] - 0.1)
    for t in (1, 2, 3):
        assert seen[t][1] - 0.1 == pytest.approx(half * (seen[t][0] - 0.1), rel=1e-12, abs=1e-15)
    assert seen[3] == [pytest.approx(0.1), pytest.approx(0.1)]
    # Above the bottom it rises as the closed form does.
    for t in (4, 5, 6, 7):
        assert seen[t][1] == pytest.approx(scheduler.at(t + 1)[1], rel=1e-9)
    for bottom in (4, 12):                                                       # in the bottom itself
        _, seen = after_hands("CosineAnnealingLR", 14, bottom, hand=2.0, eta_min=0.1)
        assert seen[bottom][1] == pytest.approx(0.2 + 0.4 * (1 - math.cos(math.pi / 4)) / 2, rel=1e-12)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_an_annealing_changed_by_hand_still_ends_at_its_constant(strategy: str) -> None:
    _, seen = after_hands("SWALR", 12, 4, anneal_strategy=strategy, swa_lr=0.1)
    left = [(value - 0.1) for value, _ in seen]
    off = (0.5 * (left[3] + 0.1) - 0.1) / left[3]
    for t in range(4, 9):
        assert seen[t][1] - 0.1 == pytest.approx(off * left[t], rel=1e-9)
    assert seen[9:] == [[0.1, 0.1]] * 3
    _, seen = after_hands("SWALR", 12, 11, swa_lr=0.1)                             # after the end it is put back
    assert seen[-1] == [0.1, 0.1]
    optimizer = sgd(0.3)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    ls.SWALR(optimizer, 0.1)
    assert rates(optimizer) == [0.3]


@pytest.mark.parametrize("name", ["LambdaLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"])
def test_a_schedule_without_a_recurrence_writes_over_what_it_finds(name: str) -> None:
    scheduler, seen = after_hands(name, 4, 1)
    assert all(one == other for one, other in seen)
    optimizer = sgd(0.3)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    getattr(ls, name)(optimizer, **SCHEDULES[name], last_epoch=1)
    assert rates(optimizer) == scheduler.at(2)[:1]


def test_factors_of_zero_start_again_from_the_initial_rate() -> None:
    for put in (0.0, 0.3):
        _, seen = after_hands("WarmupCosineLR", 3, 0, put=put, start_factor=0.0)
        assert seen[0] == [0.25, 0.25]               # nothing to be in proportion to
    _, seen = after_hands("ConstantLR", 7, 1, factor=0.0)
    assert [row[1] for row in seen] == [0, 0, 0, 0, 0.5, 0.5, 0.5]
    _, seen = after_hands("ConstantLR", 7, 1, put=0.3, factor=0.0)
    assert [row[1] for row in seen] == [0, 0.3, 0.3, 0.3, 0.5, 0.5, 0.5]
    optimizer = sgd(0.1, 0.2)
    chain = stepped(ls.ChainedScheduler([ls.LambdaLR(optimizer, [lambda t: t != 2, lambda t: 2 * (t != 2)]),
                                         ls.ExponentialLR(optimizer, 0.5)]), 2)
    assert rates(optimizer) == [0, 0]
    optimizer.param_groups[1]["lr"] = 0.3
    chain.step()
    assert rates(optimizer) == pytest.approx([0.1 * 0.125, 0.2 * 2 * 0.125])


def test_after_an_end_at_zero_a_rate_set_by_hand_stays() -> None:
    _, seen = after_hands("LinearLR", 7, 5, put=0.3, start_factor=1.0, end_factor=0.0)
    assert seen[4:] == [[0, 0], [0, 0.3], [0, 0.3]]
