"""What a schedule goes on from: its saved state, the count given, groups that join, and rates changed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from optimlite import lr_scheduler as ls
from optimlite.lr_scheduler.kinds import Walked
from support.helpers import SCHEDULES, rates, sgd, stepped


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
    class Rate:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        def __call__(self, t: int) -> float:
            return self.rate

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


# Saved and loaded ----------------------------------------------------------------------------------------------------

def test_a_state_dict_is_a_snapshot_and_loading_copies_it() -> None:
    optimizer = sgd(0.1, 0.2)
    scheduler = stepped(ls.ExponentialLR(optimizer, 0.5), 2)
    state = scheduler.state_dict()
    assert state == {"type": "ExponentialLR", "key": "lr", "last_epoch": 2, "base_lrs": [0.1, 0.2],
                     "_path": [0.025, 0.05], "_last_lr": [0.025, 0.05], "values": {"lr": [0.025, 0.05]}}
    stepped(scheduler, 2)
    assert (state["last_epoch"], state["base_lrs"]) == (2, [0.1, 0.2])
    fresh = ls.ExponentialLR(sgd(0.3, 0.3), 0.5)
    fresh.load_state_dict(state)
    state["base_lrs"][0] = state["_path"][0] = state["_last_lr"][0] = 7.0
    assert (fresh.base_lrs, fresh.get_last_lr()) == ([0.1, 0.2], [0.025, 0.05])
    fresh.get_last_lr()[0] = 9.0
    assert fresh.get_last_lr() == [0.025, 0.05]
    fresh.step()
    assert rates(fresh.optimizer) == [0.0125, 0.025]


def test_the_state_of_a_plateau() -> None:
    optimizer = sgd(1.0)
    scheduler = ls.ReduceLROnPlateau(optimizer, patience=1, cooldown=3)
    for metric in (1, 2, 2, 2):
        scheduler.step(metric)
    assert scheduler.state_dict() == {
        "type": "ReduceLROnPlateau", "key": "lr", "last_epoch": 4, "_last_lr": [0.1], "values": {"lr": [0.1]},
        "best": 1.0, "num_bad_epochs": 0, "cooldown_counter": 2}
    optimizer.add_param_group({"params": [np.ones(2)], "lr": 0.3})
    assert scheduler.state_dict()["_last_lr"] == [0.1, 0.3]
    for metric in (2, 2, 2):
        scheduler.step(metric)
    assert scheduler.state_dict()["num_bad_epochs"] == 1
    fresh = ls.ReduceLROnPlateau(sgd(1.0, 1.0), patience=1, cooldown=3)
    fresh.load_state_dict(scheduler.state_dict())
    assert fresh.state_dict() == scheduler.state_dict()
    fresh.step(2)
    assert rates(fresh.optimizer) == pytest.approx([0.01, 0.03])
    fresh = ls.ReduceLROnPlateau(sgd(1.0))
    fresh.step(3)
    fresh.load_state_dict(ls.ReduceLROnPlateau(sgd(1.0)).state_dict())           # from before the first metric
    assert fresh.state_dict()["best"] is None


def test_states_of_compositions_name_their_parts() -> None:
    optimizer = sgd(0.1)
    chain = ls.ChainedScheduler([ls.ChainedScheduler([ls.StepLR(optimizer, 2)]), ls.LambdaLR(optimizer, abs)])
    assert chain.state_dict()["schedulers"] == [{"type": "StepLR"}, {"type": "LambdaLR", "lr_lambda": [None]}]
    restarts = ls.CosineAnnealingWarmRestarts(optimizer, 4)
    sequence = ls.SequentialLR(optimizer, iter([ls.LinearLR(optimizer), restarts]), iter([3]))
    assert sequence.state_dict()["schedulers"] == [{"type": "LinearLR"}, {"type": "CosineAnnealingWarmRestarts",
                                                                          "fraction": 0}]
    stepped(sequence, 4)
    other = sgd(0.1)
    fresh = ls.SequentialLR(other, [ls.LinearLR(other), ls.CosineAnnealingWarmRestarts(other, 4)], [3])
    fresh.load_state_dict(sequence.state_dict())
    assert fresh.state_dict() == sequence.state_dict()
    stepped(fresh, 2), stepped(sequence, 2)
    assert rates(other) == rates(optimizer)


@pytest.mark.parametrize("build", [lambda o, f: ls.MultiplicativeLR(o, f), lambda o, f: ls.ChainedScheduler(
    [ls.MultiplicativeLR(o, f), ls.ExponentialLR(o, 0.5)])], ids=["alone", "in a chain"])
def test_recurrences_go_on_from_a_loaded_count_without_walking_there(build: Any) -> None:
    calls = []

    def factor(t: int) -> float:
        calls.append(t)
        return 0.5

    scheduler = build(sgd(), factor)
    scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": 1000})
    stepped(scheduler, 2)
    assert calls == [1001, 1002]


def test_attributes_of_callables_are_copied_both_ways() -> None:
    class Decay:
        def __init__(self) -> None:
            self.history = [1.0]

        def __call__(self, t: float) -> float:
            return 0.5

    for build in (lambda o, f: ls.LambdaLR(o, f), lambda o, f: ls.CyclicLR(o, 0.1, 0.2, 4, scale_fn=f,
                                                                           cycle_momentum=False)):
        first, second = Decay(), Decay()
        scheduler = build(sgd(), first)
        state = scheduler.state_dict()
        extra = state["lr_lambda"][0] if "lr_lambda" in state else state["scale_fn"]
        assert extra == {"history": [1.0]}
        first.history.append(2.0)
        assert extra == {"history": [1.0]}
        build(sgd(), second).load_state_dict(scheduler.state_dict())
        assert second.history == [1.0, 2.0]
        second.history.append(3.0)
        assert first.history == [1.0, 2.0]


def test_a_loaded_scale_function_makes_the_values_from_then_on() -> None:
    class Rate:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        def __call__(self, t: float) -> float:
            return self.rate

    one, other = (ls.CyclicLR(sgd(), 0.1, 0.2, 4, scale_fn=Rate(rate), cycle_momentum=False) for rate in (1.0, 0.5))
    assert other.at(1) != one.at(1)
    other.load_state_dict(one.state_dict())
    assert other.at(1) == one.at(1)


def test_fractions_of_epochs_are_kept() -> None:
    scheduler = ls.CosineAnnealingWarmRestarts(sgd(), 4)
    scheduler.step(1.25)
    assert (scheduler.last_epoch, scheduler.state_dict()["fraction"], scheduler.get_last_lr()) == (
        1, 0.25, scheduler.at(1.25))
    fresh = ls.CosineAnnealingWarmRestarts(sgd(), 4)
    fresh.load_state_dict(scheduler.state_dict())
    fresh.step()
    assert (fresh.last_epoch, fresh.state_dict()["fraction"]) == (2, 0.25)
    assert fresh.get_last_lr() == fresh.at(2.25)
    fresh.step(0)
    assert fresh.get_last_lr() == [0.1]


# Changed by hand: the recurrences go on in proportion to what they find ----------------------------------------------

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
