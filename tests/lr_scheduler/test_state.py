"""What a schedule goes on from: the count given, groups that join, and values that aren't its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimlite import lr_scheduler as ls
from optimlite.lr_scheduler.kinds import Walked
from support.helpers import SCHEDULES, rates, sgd, stepped
from support.rates import Rate


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_count_given_at_the_start_is_the_count_before(name: str) -> None:
    reference, optimizer = getattr(ls, name)(sgd(), **SCHEDULES[name]), sgd()
    optimizer.param_groups[0].update(initial_lr=0.1, lr=reference.at(2)[0])
    resumed = getattr(ls, name)(optimizer, **SCHEDULES[name], last_epoch=2)
    assert resumed.last_epoch == 3
    assert resumed.get_last_lr() == rates(optimizer) == reference.at(3)
    assert [resumed.at(t) for t in range(8)] == [reference.at(t) for t in range(8)]


@pytest.mark.parametrize(("name", "arguments"), [
    ("SWALR", {"swa_lr": [0.01, 0.02]}), ("MultiplicativeLR", {"lr_lambda": [lambda t: 0.5, lambda t: 0.25]})])
def test_a_count_given_at_the_start_is_that_of_every_group(name: str, arguments: Any) -> None:
    reference, optimizer = getattr(ls, name)(sgd(0.1, 0.3), **arguments), sgd(0.0, 0.0)
    for group, initial, found in zip(optimizer.param_groups, (0.1, 0.3), reference.at(2), strict=True):
        group.update(initial_lr=initial, lr=found)
    getattr(ls, name)(optimizer, **arguments, last_epoch=2)
    assert rates(optimizer) == reference.at(3)


@pytest.mark.parametrize("found", [0.5, 0.2, 0.05])
def test_a_resumed_group_moves_only_from_where_the_schedule_left_it(found: float) -> None:
    """At the initial value or at that of the count before; any other was put there by somebody."""
    optimizer = sgd(found)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    scheduler = ls.ExponentialLR(optimizer, 0.1, last_epoch=0)
    assert scheduler.last_epoch == 1
    assert rates(optimizer) == [pytest.approx({0.5: 0.05, 0.2: 0.2, 0.05: 0.05}[found])]
    optimizer = sgd(found)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    ls.ExponentialLR(optimizer, 0.1, last_epoch=1)
    assert rates(optimizer) == [pytest.approx({0.5: 0.005, 0.2: 0.2, 0.05: 0.005}[found])]


def test_a_new_group_joins_at_its_value_and_is_noted() -> None:
    optimizer = sgd(0.1)
    scheduler = stepped(ls.ExponentialLR(optimizer, 0.5))
    optimizer.add_param_group({"params": [np.ones(2)], "lr": 0.4})
    assert scheduler.at(2) == [0.1 * 0.25, 0.4 * 0.25]
    assert scheduler.base_lrs == [0.1]               # `at` changes nothing
    state = scheduler.state_dict()
    assert (state["base_lrs"], state["_path"], state["_last_lr"]) == ([0.1, 0.4], [0.05, 0.2], [0.05, 0.4])
    assert optimizer.param_groups[1]["initial_lr"] == 0.4
    scheduler.step()
    assert rates(optimizer) == [0.025, 0.2]


def test_a_new_group_joins_with_its_entry_of_every_list() -> None:
    optimizer = sgd(0.1, 0.1)
    scheduler = ls.CyclicLR(optimizer, [0.1, 0.2], [0.3, 0.4], 4, cycle_momentum=False)
    optimizer.add_param_group({"params": [np.ones(2)], "lr": 0.3})
    scheduler.base_lr.append(0.5)
    scheduler.max_lr.append(0.9)
    assert scheduler.at(2) == pytest.approx([0.2, 0.3, 0.7])
    scheduler.step()
    assert rates(optimizer) == pytest.approx([0.15, 0.25, 0.6])


def test_a_recurrence_of_ones_own_is_given_value_initial_value_count_and_group() -> None:
    calls = []

    class Falling(ls.LRScheduler):
        def closed_form(self, base: float, t: int, i: int) -> float:
            return base - 0.01 * t

        def recurrence(self, value: float, base: float, t: int, i: int) -> float:
            calls.append((value, base, t, i))
            return value - 0.01 * base

    optimizer = sgd(0.1, 0.3)
    optimizer.param_groups[1]["initial_lr"] = 0.2
    scheduler = Falling(optimizer)
    assert calls == [(0.3, 0.2, 0, 1)]
    optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 0.5, 0.2
    scheduler.step()
    assert calls[1:] == [(0.5, 0.1, 1, 0)]


class HalfLife(ls.LRScheduler):
    """A schedule as a user writes one, with nothing but its closed form."""

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * 0.5 ** t


class Floored(ls.LRScheduler):
    """A closed form that isn't proportional to the initial value."""

    def closed_form(self, base: float, t: int, i: int) -> float:
        return max(base * 0.5 ** t, 0.1)


class Resting(ls.LRScheduler):
    """It leaves 0 and comes back to it."""

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * [0, 0, 1, 2, 0, 0][t]


@pytest.mark.parametrize(("schedule", "base", "value", "t", "expected"), [
    (HalfLife, 1.0, 3.0, 2, 1.5),                  # in proportion
    (HalfLife, 0.0, 3.0, 2, 1.5),                  # as from any initial value, where it is 0
    (HalfLife, 1.0, 3.0, 0, 3.0),                  # it enters at the initial value
    (Floored, 0.4, 3.0, 1, 1.5), (Floored, 0.4, 3.0, 9, 3.0), (Floored, 0.4, 3.0, 2, 1.5),
    (Resting, 1.0, 3.0, 1, 3.0),                   # it stands still
    (Resting, 1.0, 3.0, 2, 1.0),                   # it leaves 0
    (Resting, 1.0, 3.0, 3, 6.0), (Resting, 1.0, 3.0, 4, 0.0), (Resting, 1.0, 3.0, 5, 3.0), (Resting, 1.0, 3.0, 0, 0.0),
    (Resting, 0.0, 3.0, 2, 0.0)])
def test_another_value_goes_on_in_proportion_to_the_closed_form(schedule: Any, base: float, value: float, t: int,
                                                                expected: float) -> None:
    assert schedule(sgd(base)).recurrence(value, base, t, 0) == pytest.approx(expected, rel=1e-15)


def test_each_group_goes_on_in_proportion_to_its_own_closed_form() -> None:
    class PerGroup(ls.LRScheduler):
        def closed_form(self, base: float, t: int, i: int) -> float:
            return base * [0.5, 0.25][i] ** t * (t != 2)

    optimizer = sgd(1.0, 1.0)
    scheduler = PerGroup(optimizer)
    for expected in ([4.0, 2.0], [0.0, 0.0], [1 / 8, 1 / 64], [4.0, 2.0]):
        for group in optimizer.param_groups:
            group["lr"] = 8.0
        scheduler.step()
        assert rates(optimizer) == expected


def test_an_annealing_that_stands_still_leaves_every_bit() -> None:
    assert 0.05 + (0.21 - 0.05) != 0.21
    for schedule in (ls.CosineAnnealingLR(sgd(0.3), 9, 0.05), ls.SWALR(sgd(0.3), 0.05)):
        assert schedule.recurrence(0.21, 0.3, 0, 0) == 0.21


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name not in ("OneCycleLR", "CyclicLR")])
def test_the_recurrence_leads_from_the_closed_form_to_the_closed_form(name: str) -> None:
    """So a value that was changed, and changed back, is on the schedule again."""
    scheduler = getattr(ls, name)(sgd(0.3), **SCHEDULES[name])
    for t in range(9):
        before = scheduler.at(t - 1)[0] if t else 0.3
        assert scheduler.recurrence(before, 0.3, t, 0) == pytest.approx(scheduler.at(t)[0], rel=1e-12, abs=1e-17)


@pytest.mark.parametrize(("name", "arguments"), [("ExponentialLR", {"gamma": 0.5}), ("StepLR", {"step_size": 1}),
                                                 ("MultiStepLR", {"milestones": range(3000)})])
def test_a_decay_carries_a_value_on_where_its_own_powers_are_zero(name: str, arguments: Any) -> None:
    scheduler = getattr(ls, name)(sgd(0.3), **arguments)
    assert scheduler.at(2000) == [0.0]
    assert scheduler.recurrence(0.4, 0.3, 2000, 0) == 0.4 * scheduler.gamma


def test_a_schedule_of_ones_own_goes_on_from_a_rate_set_by_hand() -> None:
    optimizer = sgd(0.8)
    scheduler = stepped(HalfLife(optimizer))
    optimizer.param_groups[0]["lr"] = 0.1
    stepped(scheduler, 2)
    assert rates(optimizer) == [0.025]
    assert scheduler.at(3) == [0.1]


def test_functions_that_are_loaded_change_the_walk_from_its_start() -> None:
    for wrap in (lambda o, part: part, lambda o, part: ls.ChainedScheduler([part, ls.ExponentialLR(o, 1.0)]),
                 lambda o, part: ls.ChainedScheduler([part, ls.LambdaLR(o, lambda t: 1.0)]),
                 lambda o, part: ls.SequentialLR(o, [part], [])):
        one, other = sgd(1.0), sgd(1.0)
        saved = wrap(one, ls.MultiplicativeLR(one, Rate(0.5))).state_dict()
        scheduler = wrap(other, ls.MultiplicativeLR(other, Rate(0.25)))
        assert scheduler.at(3) == [1 / 64]
        scheduler.load_state_dict(saved)
        assert scheduler.at(3) == [1 / 8]


def test_a_walk_goes_on_from_where_it_was_and_starts_over_for_another() -> None:
    calls = []

    def added(value: float, base: float, t: int, i: int) -> float:
        calls.append(t)
        return value + base * t

    class Sums(Walked):
        recurrence = staticmethod(added)

    walk = Sums(sgd()).closed_form
    calls.clear()
    assert walk(2.0, 3, 0) == 2.0 + 2.0 * (0 + 1 + 2 + 3)
    assert calls == [0, 1, 2, 3]
    assert walk(2.0, 5, 0) == 2.0 + 2.0 * 15
    assert calls == [0, 1, 2, 3, 4, 5]
    assert walk(2.0, 5, 0) == 2.0 + 2.0 * 15     # there already
    assert calls == [0, 1, 2, 3, 4, 5]
    assert walk(2.0, 1, 0) == 2.0 + 2.0 * 1      # back: from the start
    assert calls[6:] == [0, 1]
    assert walk(3.0, 1, 0) == 3.0 + 3.0 * 1      # another initial value
    assert walk(2.0, 0, 1) == 2.0                # another group
    assert walk(3.0, 2, 0) == 3.0 + 3.0 * 3
    assert calls[8:] == [0, 1, 0, 2]
