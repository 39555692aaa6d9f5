"""`least_squares` without a matrix: the same solutions, fewer products than L-BFGS needs, and a bounded memory."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.paths import ROOT
from support.problems import PROBLEMS, Problem
from support.residuals import Array, given


class Reached(Exception):  # noqa: N818 - the aim, not an error
    """The cost is low enough."""


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


class Blur:
    """A picture that was blurred: a linear problem, with a preference for smooth pictures."""

    def __init__(self, size: int = 64, sigma: float = 3.0, weight: float = 0.02) -> None:
        k = np.minimum(np.arange(size), size - np.arange(size))
        kernel = np.exp(-0.5 * (k / sigma)**2) / np.exp(-0.5 * (k / sigma)**2).sum()
        self.transfer, self.weight, self.shape = np.fft.rfft2(np.outer(kernel, kernel)), weight, (size, size)
        self.count, self.aim = 0, -np.inf
        truth = np.zeros(self.shape)
        truth[size // 4:size // 2, size // 3:2 * size // 3] = 1
        self.data = self.blur(truth) + 0.01 * np.random.default_rng(0).standard_normal(self.shape)

    def blur(self, u: Array) -> Array:
        """Symmetric: it is its own transpose."""
        self.count += 1
        return np.fft.irfft2(self.transfer * np.fft.rfft2(u), self.shape)

    def jvp(self, _: Any, v: Array) -> list[Array]:
        return [self.blur(v), self.weight * np.diff(v, axis=0), self.weight * np.diff(v, axis=1)]

    def vjp(self, _: Any, u: list[Array]) -> Array:
        found = self.blur(u[0])
        for axis in (0, 1):
            rows, rough = np.moveaxis(found, axis, 0), self.weight * np.moveaxis(u[1 + axis], axis, 0)
            rows[1:] += rough
            rows[:-1] -= rough
        return found

    def residuals(self, u: Array) -> list[Array]:
        found = self.jvp(u, u)
        found[0] = found[0] - self.data
        if 0.5 * sum(float(np.vdot(r, r)) for r in found) <= self.aim:
            raise Reached
        return found

    def cost(self, u: Array) -> tuple[float, Array]:
        r = self.residuals(u)
        return 0.5 * sum(float(np.vdot(part, part)) for part in r), self.vjp(u, r)


def until(problem: Any, counter: str, solve: Callable[[], Any]) -> int:
    setattr(problem, counter, 0)
    with pytest.raises(Reached):
        solve()
    return int(getattr(problem, counter))


@pytest.mark.slow
@pytest.mark.parametrize("within", [1e-4, 1e-6])
def test_deblurring_takes_fewer_products_than_lbfgs(within: float) -> None:
    """Until the cost is so close to the least, in parts of it."""
    blur, x0 = Blur(), np.zeros((64, 64))
    least = ol.least_squares(blur.residuals, x0, (blur.jvp, blur.vjp), ftol=1e-14, xtol=1e-14, gtol=1e-10).cost
    blur.aim = (1 + within) * least
    ours = until(blur, "count", lambda: ol.least_squares(blur.residuals, x0, (blur.jvp, blur.vjp), ftol=0, gtol=0))
    theirs = until(blur, "count", lambda: ol.minimize(blur.cost, x0, options={"ftol": 0, "gtol": 0}))
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
