"""Bounds: kept by every trial, in all forms that users write them in, and refused where they can't be meant."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bounded_problems import BOUNDED, Bounded
from support.closures import SEARCHES, Rosenbrock, rosenbrock, square


def test_bounds_are_kept_and_the_minimum_is_that_of_the_box() -> None:
    scipy = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(1)
    for trial in range(20):
        n = 12
        q = rng.standard_normal((n, n))
        matrix, b = q @ q.T + 0.1 * np.eye(n), 5 * rng.standard_normal(n)
        low, high = np.sort(rng.standard_normal((2, n)), axis=0)
        low[rng.random(n) < 0.3] = -np.inf
        x, outside = 3 * rng.standard_normal(n), []

        def closure(x: np.ndarray = x, matrix: np.ndarray = matrix, b: np.ndarray = b, low: np.ndarray = low,
                    high: np.ndarray = high, outside: list[bool] = outside) -> Any:
            outside.append(bool((x < low).any() or (x > high).any()))
            return float(x @ matrix @ x / 2 - b @ x), [matrix @ x - b]

        opt = ol.LBFGS([x], line_search_fn=["strong_wolfe", "hager_zhang"][trial % 2], max_iter=300, max_eval=3000,
                       bounds=(low, high), tolerance_grad=1e-9, tolerance_change=0)
        opt.step(closure)
        assert not any(outside)
        assert opt.result.grad_norm <= 1e-6
        best = scipy.minimize(lambda x, m=matrix, b=b: (x @ m @ x / 2 - b @ x, m @ x - b), np.clip(0, low, high),
                              jac=True, bounds=np.c_[low, high], options={"ftol": 1e-15, "gtol": 1e-10})
        np.testing.assert_allclose(x, best.x, atol=1e-5)


def test_bounded_rosenbrock() -> None:
    problem = Rosenbrock()
    opt = ol.LBFGS({"x": problem.params[0]}, line_search_fn="strong_wolfe", max_iter=200, max_eval=2000,
                   bounds={"x": (None, np.array([0.8, 2.0]))}, tolerance_change=0)
    opt.step(problem)
    np.testing.assert_allclose(problem.params[0], [0.8, 0.64], atol=1e-6)
    assert opt.result.converged


def test_infinite_bounds_are_no_bounds() -> None:
    one, other = Rosenbrock(), Rosenbrock()
    for problem, bounds in ((one, None), (other, (None, None))):
        ol.LBFGS(problem.params, line_search_fn="nocedal_wright", max_iter=100, tolerance_change=0, bounds=bounds
                 ).step(problem)
    np.testing.assert_allclose(one.params[0], other.params[0], rtol=1e-5)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(("start", "least", "most"), [((-2.0, 1.5), 1.5, 35), ((-2.0, 2.0), -0.5, 80)])
def test_a_search_does_not_close_in_on_a_kink(search: str, start: tuple[float, float], least: float, most: int) -> None:
    """The slope jumps where a variable meets its bound: no point there is flat, and a rising slope is enough."""
    result = ol.minimize(rosenbrock, np.array(start), bounds=[(None, None), (least, None)],
                         options={"line_search_fn": search})
    assert result.success
    assert result.nfev <= most


# Forms ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", [
    lambda low, high: np.column_stack([low, high]), zip, lambda low, high: list(zip(low, high, strict=True)),
    lambda low, high: iter([[a, b] for a, b in zip(low, high, strict=True)]), lambda low, high: (low, high),
    lambda low, high: SimpleNamespace(lb=low, ub=high)])
def test_bounds_of_minimize_as_scipy_takes_them(form: Any) -> None:
    result = ol.minimize(square, np.full(3, 3.0), bounds=form(np.array([0.5, -1, 1]), np.array([2.0, 2, 2])))
    np.testing.assert_allclose(result.x, [0.5, 0, 1], atol=1e-6)


@pytest.mark.parametrize("bounds", [(0.5, 2.0), [(0.5, None), (0.5, 2), (0.5, 2)], SimpleNamespace(lb=0.5, ub=2.0)])
def test_numbers_bound_every_element_and_none_bounds_nothing(bounds: Any) -> None:
    result = ol.minimize(lambda x: (float(((x - [0, 1, 3]) ** 2).sum()), 2 * (x - [0, 1, 3])), np.full(3, 5.0),
                         bounds=bounds)
    assert result.success
    np.testing.assert_allclose(result.x, [0.5, 1, 2], atol=1e-6)


@pytest.mark.parametrize(("bounds", "message"), [
    (SimpleNamespace(lb=[0, 0], ub=[1, 1]), "^`bounds.lb` must be one number, or one for each of 3 elements, got 2$"),
    (SimpleNamespace(lb=0, ub=[1, 1]), "^`bounds.ub` must be one number, or one for each of 3 elements, got 2$"),
    (np.zeros((2, 2)), "one pair for each of 3 elements"),
    (zip([0, 0], [1, 1], strict=True), "one pair for each of 3 elements"),
    ([(0, 1), (0, 1), (0, 1, 2)], "one pair for each of 3 elements"),
    ([0, 1, 2], "one pair for each of 3 elements"),
    ((np.inf, np.inf), "must have low < inf, got inf; use None for no bound$"),
    ((None, -np.inf), "must have high > -inf, got -inf; use None for no bound$"),
    ((np.nan, 1), "must have low <= high, got nan and 1"), ((2, 1), "must have low <= high, got 2.0 and 1.0"),
])
def test_bounds_that_can_not_be_meant(bounds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ol.minimize(square, np.ones(3), bounds=bounds)


def test_a_name_that_several_parameters_have_binds_none_of_them() -> None:
    groups = [{"params": [np.ones(2)]}, {"params": [np.ones(2)]}]
    with pytest.raises(ValueError, match="can't be given by the name '0', which 2 parameters have; give a list"):
        ol.LBFGS(groups, line_search_fn="hager_zhang", bounds={"0": (0, 0.5)})


def test_bounds_assigned_later_are_those_of_the_next_step() -> None:
    x = np.full(3, 2.0)
    opt = ol.LBFGS([x], line_search_fn="hager_zhang")
    opt.bounds = (0.5, 3)
    opt.step(lambda: (float(x @ x), [2 * x]))
    assert (x == 0.5).all()
    opt.bounds = None
    opt.step(lambda: (float(x @ x), [2 * x]))
    np.testing.assert_allclose(x, 0, atol=1e-6)
    with pytest.raises(ValueError, match="low <= high"):
        opt.bounds = (1, 0)
    assert opt.bounds is None


def test_limits_between_two_floats_are_rounded_inwards() -> None:
    """float32(0.3) is above 0.3, and so is float32(0.1); 1e39 is beyond all."""
    def limits(low: Any, high: Any) -> tuple[np.ndarray, np.ndarray]:
        opt = ol.LBFGS([np.zeros(6, np.float32)], line_search_fn="hager_zhang", bounds=(low, high))
        [(low, high)] = opt.bounds.arrays.values()
        return low.astype(np.float64), high.astype(np.float64)

    exact = np.array([0.1, 0.3, -0.1, -0.3, 1 / 3, 0.5])
    low, high = limits(exact, exact + 1)
    assert (low >= exact).all()
    assert (high <= exact + 1).all()
    assert max(abs(low - exact).max(), abs(high - exact - 1).max()) < 2e-7
    assert (low[-1], high[-1]) == (0.5, 1.5)
    low, high = limits(-1e39, 1e39)
    assert (-low == high).all()
    assert np.isfinite(high).all()


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_the_gradient_of_a_variable_that_can_not_move_may_be_anything(spoilt: float) -> None:
    x = np.array([1.0, 2.0, 3.0])
    gradients = []

    def closure() -> Any:
        gradients.append(np.array([2 * x[0], spoilt, 2 * x[2]]))
        return float(x @ x), [gradients[-1]]

    opt = ol.LBFGS([x], line_search_fn="hager_zhang", bounds=(np.array([-5, 2.0, -5]), np.array([5, 2.0, 5])))
    opt.step(closure)
    np.testing.assert_allclose(x, [0, 2, 0], atol=1e-6)
    assert opt.result.converged
    assert all(np.array_equal(g[1], spoilt, equal_nan=True) for g in gradients)      # never written


# The set -------------------------------------------------------------------------------------------------------------

# Where rounding decides to which of several stationary points a run comes: scipy's too.
SEVERAL = {"Wood in a box", "HS38", "Biggs EXP6 in a box", "Gaussian in a box"}


@pytest.mark.parametrize("problem", BOUNDED, ids=lambda problem: problem.name)
def test_gradients_of_the_bounded_problems(problem: Bounded) -> None:
    rng = np.random.default_rng(0)
    x = np.clip(problem.start + 0.01 * rng.standard_normal(problem.start.size), problem.low, problem.high)
    loss, gradient = problem(x)
    assert isinstance(loss, float)
    for k in rng.choice(x.size, min(4, x.size), replace=False):
        h = np.zeros(x.size)
        h[k] = 1e-6 * max(1, abs(x[k]))
        slope = (problem(x + h)[0] - problem(x - h)[0]) / (2 * h[k])
        assert slope == pytest.approx(gradient[k], rel=1e-4, abs=1e-4 * max(1, abs(gradient).max()))


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
@pytest.mark.parametrize("problem", BOUNDED, ids=lambda problem: problem.name)
def test_bounded_problems_come_to_scipys_minima_and_active_sets(problem: Bounded, method: str) -> None:
    scipy = pytest.importorskip("scipy.optimize")
    outside: list[bool] = []

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        outside.append(bool((x < problem.low).any() or (x > problem.high).any()))
        return problem(x)

    ours = ol.minimize(fun, problem.start, method=method, bounds=(problem.low, problem.high))
    assert not any(outside)
    assert ours.success
    assert ours.nfev <= 3000
    best = scipy.minimize(problem, problem.start, jac=True, method="L-BFGS-B",
                          bounds=np.c_[problem.low, problem.high], options={"ftol": 1e-15, "gtol": 1e-9})
    if problem.name in SEVERAL:
        assert problem.projected(ours.x) <= 1e-2
        return
    assert ours.fun <= best.fun + 1e-6 * max(1, abs(best.fun))
    # What the gradient holds at a bound with some force is there, to the bit.
    pressed = abs(problem(best.x)[1]) > 1e-2
    held = pressed & (problem.active(best.x) != 0)
    assert (problem.active(ours.x, 0.0)[held] == problem.active(best.x)[held]).all()


@pytest.mark.long
def test_bounded_problems_take_as_many_evaluations_as_scipys() -> None:
    """Totals of the medians over perturbed starts, with the defaults of both, where both come to one point."""
    scipy = pytest.importorskip("scipy.optimize")
    ours, theirs, rng = 0, 0, np.random.default_rng(0)
    for problem in BOUNDED:
        if problem.name in SEVERAL:
            continue
        pairs = np.c_[problem.low, problem.high]
        size = 1e-12 * np.where(problem.start == 0, 1, abs(problem.start))
        starts = [np.clip(problem.start + k * size * rng.uniform(-1, 1, size.shape), problem.low, problem.high)
                  for k in [0, *[1] * 20]]
        ours += np.median([ol.minimize(problem, x0, bounds=pairs).nfev for x0 in starts])
        theirs += np.median([scipy.minimize(problem, x0, jac=True, method="L-BFGS-B", bounds=pairs).nfev
                             for x0 in starts])
    assert ours <= 1.05 * theirs
