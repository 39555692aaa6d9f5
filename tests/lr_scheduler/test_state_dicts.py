"""State dicts of schedules: snapshots of progress, of compositions, and of the attributes of callables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimlite import lr_scheduler as ls
from support.helpers import rates, sgd, stepped
from support.rates import Rate


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
