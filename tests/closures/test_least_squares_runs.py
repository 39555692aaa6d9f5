"""`least_squares` over whole runs: bounds to the bit, resuming, interrupts, and evaluations beside scipy's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bounded_problems import BOUNDED
from support.closures import interrupted
from support.problems import PROBLEMS, Problem
from support.residuals import Array, given

SOME = [problem for problem in PROBLEMS if problem.name in ("Rosenbrock", "Helical valley", "Kowalik and Osborne")]
BOXES = [one for one in BOUNDED if isinstance(one.function, Problem)]


def quiet(residuals: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return np.errstate(all="ignore")(residuals)


# Bounds --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", ["matrix", "pair", "2-point"])
@pytest.mark.parametrize("box", BOXES, ids=lambda box: box.name)
def test_every_point_lies_within_the_bounds(box: Any, form: str) -> None:
    """And the end is a solution: no unknown would move along its gradient within them."""
    residuals = quiet(box.function.residuals)

    def watched(x: Array) -> Array:
        assert (box.low <= x).all()
        assert (x <= box.high).all()
        return residuals(x)

    start = np.clip(box.start, box.low, box.high)
    fit = ol.least_squares(watched, start, given(form, residuals), (box.low, box.high), max_nfev=3000)
    assert fit.success
    limit = 1e-3 if form == "2-point" else 1e-4
    assert box.projected(fit.x) <= limit * max(1.0, fit.cost)
    active = (fit.x == box.high).astype(int) - (fit.x == box.low)
    np.testing.assert_array_equal(fit.active_mask, active)
    assert fit.optimality == max(abs(fit.grad) * ~((active > 0) & (fit.grad <= 0) | (active < 0) & (fit.grad >= 0)))


def target(x: Any) -> Any:
    return x - np.arange(6, dtype=np.float32)


@pytest.mark.parametrize("bounds", [
    (0.7, 3.7), (np.full(6, 0.7), np.full(6, 3.7)), ([0.7] * 6, [3.7] * 6), [(0.7, 3.7)] * 6, [0.7, 3.7]])
@pytest.mark.parametrize("form", ["2-point", "pair", "matrix"])
def test_limits_are_rounded_inwards(bounds: Any, form: str) -> None:
    """0.7 is above the nearest float32, 3.7 below it."""
    jac = {"pair": (lambda x, v: v, lambda x, u: u), "matrix": lambda x: np.eye(6)}.get(form, form)
    fit = ol.least_squares(target, np.full(6, 1, np.float32), jac, bounds)
    low, high = np.nextafter(np.float32(0.7), np.float32(1)), np.nextafter(np.float32(3.7), np.float32(0))
    np.testing.assert_array_equal(fit.x[[0, 4, 5]], [low, high, high])
    np.testing.assert_allclose(fit.x[1:4], [1, 2, 3], rtol=1e-5)
    assert fit.active_mask.tolist() == [-1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("form", ["matrix", "pair", "2-point", "3-point"])
def test_what_is_fixed_stands_still(form: str) -> None:
    low, high = np.array([0.0, 2.0, -np.inf]), np.array([1.0, 2.0, np.inf])

    def fun(x: Array) -> Array:
        return np.array([x[0] - x[1], x[2] - 3 * x[1], x[0] + 1])

    fit = ol.least_squares(fun, [5.0, 5.0, 5.0], given(form, fun), (low, high))
    np.testing.assert_allclose(fit.x, [0.5, 2, 6], rtol=1e-6)
    assert fit.success


def test_nested_bounds() -> None:
    fit = ol.least_squares(lambda x: [x["a"] - 1, x["b"] - np.arange(3)], {"a": np.zeros(()), "b": np.zeros(3)},
                           bounds={"a": (None, 0.5), "b": (0.25, 1)})
    assert (fit.x["a"], fit.x["b"].tolist()) == (0.5, [0.25, 1, 1])
    assert (fit.active_mask["a"], fit.active_mask["b"].tolist()) == (1, [-1, 1, 1])


def test_one_sided_and_infinite_bounds() -> None:
    """Infinite ones are none, so that "lm" takes scipy's default."""
    fun = quiet(SOME[0].residuals)
    for bounds in ((-np.inf, np.inf), (None, None)):
        assert ol.least_squares(fun, [-1.2, 1], bounds=bounds, method="lm").x == pytest.approx([1, 1])
    assert ol.least_squares(fun, [-1.2, 1], bounds=(None, [0.5, np.inf])).x == pytest.approx([0.5, 0.25])


# Resuming ------------------------------------------------------------------------------------------------------------

def resume(problem: Problem, form: str, state: Any, **options: Any) -> Any:
    fun = quiet(problem.residuals)
    return ol.least_squares(fun, jac=given(form, fun), state=state, **options)


@pytest.mark.parametrize("form", ["matrix", "pair"])
@pytest.mark.parametrize("method", ["lm", "trust-region", "gauss-newton"])
@pytest.mark.parametrize("problem", SOME, ids=lambda p: p.name)
def test_a_resumed_run_has_the_bits_of_the_whole_one(problem: Problem, method: str, form: str, tmp_path: Path) -> None:
    fun, states = quiet(problem.residuals), []
    whole = ol.least_squares(fun, problem.start, given(form, fun), method=method,
                             callback=lambda intermediate_result: states.append(intermediate_result.state))
    for state in states[:6]:
        ol.save(tmp_path / "run", run=state)
        rest = resume(problem, form, ol.load(tmp_path / "run")["run"])
        assert (rest.x == whole.x).all()
        assert rest.message == whole.message


@pytest.mark.parametrize("form", ["matrix", "pair", "2-point"])
@pytest.mark.parametrize("problem", SOME[:2], ids=lambda p: p.name)
def test_an_interrupt_carries_the_state(problem: Problem, form: str) -> None:
    """At any call of the user's functions; the rest has the bits of the run without it."""
    fun = quiet(problem.residuals)
    whole = ol.least_squares(fun, problem.start, given(form, fun))
    for stop in range(1, whole.nfev, 4):
        with pytest.raises(KeyboardInterrupt) as caught:
            ol.least_squares(interrupted(fun, stop), problem.start, given(form, fun))
        rest = resume(problem, form, caught.value.state)         # type: ignore[attr-defined]
        assert (rest.x == whole.x).all()


def test_a_state_of_another_method_is_refused() -> None:
    state = ol.least_squares(SOME[0].residuals, [-1.2, 1]).state
    with pytest.raises(ValueError, match="`state` is one of method 'lm', got method='trf'; leave it out"):
        ol.least_squares(SOME[0].residuals, state=state, method="trf")


def test_a_result_is_pickled() -> None:
    import pickle

    fit = ol.least_squares(SOME[0].residuals, [-1.2, 1])
    again = pickle.loads(pickle.dumps(fit))
    assert (again.x == fit.x).all()
    assert again.status == fit.status
    assert type(again).__name__ == "LeastSquaresResult"


# Evaluations ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("others", [pytest.param(0, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize(("problems", "method", "scipys"), [
    ("Moré, Garbow & Hillstrom", "lm", "scipy lm"), ("Moré, Garbow & Hillstrom", "trust-region", "scipy trf"),
    ("NIST", "lm", "scipy lm"), ("NIST", "trust-region", "scipy trf"), ("with bounds", "trust-region", "scipy trf")])
def test_evaluations_beside_scipys(problems: str, method: str, scipys: str, others: int) -> None:
    """Totals of medians over starts that rounding tells apart; what scipy solves is solved."""
    pytest.importorskip("scipy.optimize")
    from benchmarks.least_squares import COLUMNS, SETS, typical

    ours, theirs = ([typical(fit, COLUMNS[name], others) for fit in SETS[problems]] for name in (method, scipys))
    assert sum(count.evaluations for count in ours) <= 1.2 * sum(count.evaluations for count in theirs)
    for fit, mine, other in zip(SETS[problems], ours, theirs, strict=True):
        assert mine.solved or not other.solved, fit.name
