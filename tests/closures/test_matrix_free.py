"""`least_squares` without a matrix: the same solutions, fewer products than L-BFGS needs, and a bounded memory."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.inverse import Blur, applications
from support.paths import ROOT
from support.problems import PROBLEMS, Problem
from support.residuals import Array, given

# Conjugate gradients need to be told of units that differ by so much: a matrix shows them, an operator doesn't.
UNITS = ("Meyer", "Osborne 1")


@pytest.mark.parametrize("problem", [
    problem if index % 6 == 0 else pytest.param(problem, marks=pytest.mark.slow)
    for index, problem in enumerate(PROBLEMS)], ids=lambda p: p.name)
@pytest.mark.parametrize("history_size", [0, 10])
def test_problems_are_solved(problem: Problem, history_size: int) -> None:
    with np.errstate(all="ignore"):
        fit = ol.least_squares(problem.residuals, problem.start, given("pair", problem.residuals), max_nfev=3000,
                               history_size=history_size,
                               x_scale=abs(problem.start) if problem.name in UNITS else None)
    assert fit.success
    assert problem.solved(2 * fit.cost, 2 * fit.grad)


@pytest.mark.slow
@pytest.mark.parametrize("within", [1e-4, 1e-6])
def test_deblurring_takes_fewer_products_than_lbfgs(within: float) -> None:
    """Until the cost is so close to the least, in parts of it."""
    ours, theirs = applications(Blur(), within)
    assert ours < theirs


def test_a_linear_problem_is_one_run_of_conjugate_gradients() -> None:
    """However often it is paused: as many products as a run alone, and those of the last gradient."""
    A = np.random.default_rng(0).standard_normal((60, 40)) / np.arange(1, 41)**0.5
    b = np.ones(60)
    fit = ol.least_squares(lambda x: A @ x - b, np.zeros(40), (lambda x, v: A @ v, lambda x, u: A.T @ u), gtol=1e-6,
                           ftol=None, xtol=None)
    x, s = np.zeros(40), A.T @ b
    d, products = s.copy(), 1
    while abs(s).max() > 1e-6:                   # by the book
        q = A @ d
        alpha = (s @ s) / (q @ q)
        x, products = x + alpha * d, products + 2
        new = A.T @ (b - A @ x)
        d, s = new + (new @ new) / (s @ s) * d, new
    np.testing.assert_allclose(fit.x, x, atol=1e-5)
    assert fit.njev == 2
    assert abs(fit.products - products) <= 10    # sums in another order may end an iteration or two elsewhere


@pytest.mark.slow
def test_travel_times_take_fewer_products_than_lbfgs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.delitem(sys.modules, "travel_time", raising=False)
    survey = __import__("travel_time").Survey(32, 12)
    ours, theirs, _ = __import__("travel_time").counts(survey, np.zeros((32, 32)))
    assert ours < theirs


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "history_size"), [(np.float32, 3), (np.float64, 0)])
def test_a_million_unknowns_in_a_bounded_memory(dtype: Any, history_size: int) -> None:
    """The peak is 20 vectors and four for each step that is kept (and 32 kB), whatever the number of iterations.

    As many residuals as unknowns; the two products allocate what they return.
    """
    n = 1_000_000
    w = np.linspace(1, 30, n, dtype=dtype)

    def fun(x: Array) -> Array:
        r = w * x
        r += x**3
        r -= 1
        return r

    def slope(x: Array, v: Array) -> Array:
        out = x * x
        out *= 3
        out += w
        out *= v
        return out

    x0 = np.zeros(n, dtype)
    tracemalloc.start()
    try:
        fit = ol.least_squares(fun, x0, (slope, slope), gtol=1e-3, history_size=history_size)
        peak = tracemalloc.get_traced_memory()[1] / x0.nbytes
    finally:
        tracemalloc.stop()
    assert fit.success
    assert fit.x.dtype == dtype
    assert abs(fit.grad).max() < 1e-3
    assert peak <= 20.01 + 4 * history_size, peak
