"""Runs of `minimize` to go on with: their states, from results, callbacks and interrupts, give the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.closures import interrupted, rosenbrock

RUNS = [("lbfgs", {}), ("cg", {}), ("cg", {"beta": "hager-zhang"}), ("lbfgs", {"line_search_fn": "strong_wolfe"}),
        ("lbfgs", {"line_search_fn": "hager_zhang", "maxcor": 3, "c2": 0.5})]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("method", "options"), RUNS)
@pytest.mark.parametrize("bounds", [None, (-1.5, 0.7)])
@pytest.mark.parametrize("saved", [False, True])
def test_a_run_goes_on_with_the_same_bits(
        method: str, options: dict[str, Any], bounds: Any, dtype: Any, saved: bool, tmp_path: Path) -> None:
    x0 = {"a": np.full(4, -1.2, dtype), "b": [np.zeros(2, dtype)]}

    def fun(x: Any) -> Any:
        loss, g = rosenbrock(np.concatenate([x["a"], x["b"][0]]).astype(np.float64))
        return loss, {"a": g[:4], "b": [g[4:]]}

    whole = ol.minimize(fun, x0, method=method, options={**options, "maxiter": 40}, bounds=bounds)
    part = ol.minimize(fun, x0, method=method, options={**options, "maxiter": 7}, bounds=bounds)
    state = part.state
    if saved:
        ol.save(tmp_path / "run", run=state)
        state = ol.load(tmp_path / "run")["run"]
    for _ in range(2):                           # a state is read only
        rest = ol.minimize(fun, state=state, options={"maxiter": 33})
        assert rest.nit == whole.nit - 7
        assert rest.status == whole.status
        assert same_bits(rest.x["a"], whole.x["a"])
        assert same_bits(rest.x["b"][0], whole.x["b"][0])
        assert rest.fun == whole.fun


@pytest.mark.parametrize(("method", "options"), RUNS)
@pytest.mark.parametrize("at", [1, 2, 3, 5, *range(8, 50, 5)])
def test_a_run_goes_on_after_an_interrupt(method: str, options: dict[str, Any], at: int) -> None:
    whole = ol.minimize(rosenbrock, np.full(4, -1.2), method=method, options={**options, "maxiter": 60})
    with pytest.raises(KeyboardInterrupt) as caught:
        ol.minimize(interrupted(rosenbrock, at), np.full(4, -1.2), method=method, options={**options, "maxiter": 60})
    rest = ol.minimize(rosenbrock, state=caught.value.state)         # type: ignore[attr-defined]
    assert same_bits(rest.x, whole.x)


@pytest.mark.parametrize(("method", "options"), RUNS)
def test_a_callback_sees_the_state(method: str, options: dict[str, Any]) -> None:
    states = []
    whole = ol.minimize(rosenbrock, np.full(4, -1.2), method=method, options=options,
                        callback=lambda intermediate_result: states.append(intermediate_result.state))
    assert len(states) == whole.nit
    for state in states[:-1:4]:
        assert same_bits(ol.minimize(rosenbrock, state=state).x, whole.x)


def test_what_is_no_state() -> None:
    with pytest.raises(TypeError, match="`state` must be the `state` of a result, of a callback's"):
        ol.minimize(rosenbrock, state={"x": 1})
    state = ol.minimize(rosenbrock, np.zeros(3), options={"maxiter": 2}).state
    with pytest.raises(ValueError, match="`state` is one of method 'lbfgs', got method='CG'; leave it out"):
        ol.minimize(rosenbrock, state=state, method="CG")
