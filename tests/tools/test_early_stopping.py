"""EarlyStopping: when it stops, and what it goes back to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import optimlite as ol


def stops_at(values: list[float], **options: Any) -> tuple[int, float, int]:
    """The number of the value at which it is time to stop, and the best one."""
    stopping = ol.EarlyStopping([np.ones(1)], **options)
    at = next((index for index, value in enumerate(values) if stopping.step(value)), -1)
    return at, stopping.best, stopping.best_step


@pytest.mark.parametrize(("values", "options", "expected"), [
    ([3, 2, 1, 1, 1, 1], {"patience": 2}, (4, 1.0, 2)),
    ([3, 2, 1, 0], {"patience": 1}, (-1, 0.0, 3)),
    ([1, 2, 0, 2, 2], {"patience": 2}, (4, 0.0, 2)),
    ([1, 0.95, 0.85, 0.8, 0.5], {"patience": 2, "min_delta": 0.1}, (-1, 0.5, 4)),
    ([1, 0.95, 0.91, 0.5], {"patience": 2, "min_delta": 0.1}, (2, 1.0, 0)),
    ([0.5, 0.6, 0.55, 0.6], {"patience": 2, "mode": "max"}, (3, 0.6, 1)),
    ([math.nan, math.nan, 1], {"patience": 2}, (1, math.nan, -1)),
    ([math.inf, 1, math.nan, math.inf], {"patience": 2}, (3, 1.0, 1)),
])
def test_when_it_stops(values: Any, options: Any, expected: Any) -> None:
    assert repr(stops_at(values, **options)) == repr(expected)


def test_the_best_comes_back_with_the_optimizers_state() -> None:
    """The run goes on from there as it would have then, to the bit."""
    runs = []
    for wander in (0, 5):
        w = np.array([4.0, -3.0])
        opt = ol.Adam([w], lr=0.1)
        stopping = ol.EarlyStopping(opt, patience=20)
        for step in range(10):
            opt.step(grads=[2 * w])
            stopping.step(10 - step)
        for _ in range(wander):
            opt.param_groups[0]["lr"] = 3.0
            opt.step(grads=[-w])
            assert not stopping.step(100)
        if wander:
            assert stopping.wait == wander
        stopping.restore()
        opt.step(grads=[2 * w])
        runs.append((w, opt.state_dict()))
    assert runs[0][0].tobytes() == runs[1][0].tobytes()
    assert str(runs[0][1]) == str(runs[1][1])


def test_parameters_alone_and_groups_that_come_later() -> None:
    params = {"W": np.ones((2, 2), order="F"), "b": [np.ones(3)[::2]]}
    stopping = ol.EarlyStopping(params)
    stopping.step(1.0)
    params["W"][...] = 7
    params["b"][0][...] = 7
    stopping.restore()
    assert params["W"].tolist() == [[1, 1], [1, 1]]
    assert params["b"][0].tolist() == [1, 1]

    opt = ol.SGD([np.ones(2)])
    stopping = ol.EarlyStopping(opt)
    stopping.step(3)
    late = np.ones(2)
    opt.add_param_group({"params": [late]})
    stopping.step(2)
    late[:] = 5
    stopping.restore()
    assert late.tolist() == [1, 1]


@pytest.mark.parametrize(("options", "message"), [
    ({"patience": 0}, "`patience` must be an integer >= 1, got 0"), ({"min_delta": -1}, "`min_delta` must be >= 0"),
    ({"mode": "mean"}, "`mode` must be 'min' or 'max', got 'mean'"), ({"delta": 1}, "no argument `delta`")])
def test_what_is_refused(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.EarlyStopping([np.ones(2)], **options)
    with pytest.raises(TypeError, match="`value` must be a number, got 'a'"):
        ol.EarlyStopping([np.ones(2)]).step("a")                 # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="there is nothing to restore"):
        ol.EarlyStopping([np.ones(2)]).restore()


def test_values_may_be_of_any_type_and_nan_of_any_is_no_improvement() -> None:
    stopping = ol.EarlyStopping([np.ones(2)], patience=2)
    values: list[Any] = [np.float32("nan"), np.ones(1, np.float32), np.array(math.nan), np.int64(3)]
    assert [stopping.step(value) for value in values] == [False, False, False, True]
    assert stopping.best == 1


def test_an_array_that_was_locked_is_refused_before_anything_is_restored() -> None:
    first, locked = np.ones(2), np.ones(2)
    stopping = ol.EarlyStopping([first, locked])
    stopping.step(1.0)
    first[:] = locked[:] = 2
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="parameter '1' must be writeable, and became read-only since it was given"):
        stopping.restore()
    assert first.tolist() == [2, 2]
