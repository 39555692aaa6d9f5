"""Nonlinear conjugate gradients: the standard problems, the formulas, restarts, exact resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.closures.conjugate_gradient import BETAS, Products
from optimlite.closures.vectors import VectorSpace
from support.bits import same_bits
from support.closures import Logistic, Rosenbrock


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("search", ["strong_wolfe", "hager_zhang"])
@pytest.mark.parametrize("beta", BETAS)
def test_every_formula_converges(beta: str, search: str, dtype: type) -> None:
    problem = Logistic(dtype)
    opt = ol.ConjugateGradient(problem.params, beta=beta, line_search_fn=search, max_iter=400, tolerance_change=0,
                               tolerance_grad=1e-6 if dtype is np.float64 else 2e-4)
    opt.step(problem)
    assert opt.result.converged, opt.result


@pytest.mark.parametrize("beta", BETAS)
def test_on_a_quadratic_it_ends_after_as_many_iterations_as_eigenvalues(beta: str) -> None:
    """With exact searches every formula is that of linear conjugate gradients."""
    spectrum = np.repeat([1.0, 3.0, 10.0, 40.0], 25)
    x = np.random.default_rng(0).standard_normal(100)

    def exact(phi: Any, loss: float, slope: float, step: float, max_evals: int) -> ol.line_search.Found:
        a = phi(step)
        t = step * slope / (slope - a[1])        # the slope is linear
        return ol.line_search.Found(t, *phi(t), True, 2)

    opt = ol.ConjugateGradient([x], beta=beta, line_search_fn=exact, tolerance_grad=1e-7, tolerance_change=0)
    opt.step(lambda: (float(spectrum @ (x * x) / 2), [spectrum * x]))
    assert opt.result.converged
    assert opt.result.iterations <= 5


def test_the_formulas_by_hand() -> None:
    """g = (1, 2), h = (3, -1), d = (-1, 4)."""
    g, h, d = np.array([1.0, 2.0]), np.array([3.0, -1.0]), np.array([-1.0, 4.0])
    y = g - h
    p = Products(gg=g @ g, hh=h @ h, yg=y @ g, yd=y @ d, yy=y @ y, dg=d @ g, dd=d @ d)
    expected = {"polak-ribiere+": 4 / 10, "hestenes-stiefel": 4 / 14, "hager-zhang": (4 - 2 * 7 * 13 / 14) / 14}
    assert {name: formula(p) for name, formula in BETAS.items()} == pytest.approx(expected)


def test_restarts() -> None:
    """`restart_every=1` is steepest descent; the count starts anew with each restart."""
    problem = Rosenbrock()
    opt = ol.ConjugateGradient(problem.params, restart_every=1, max_iter=20)
    opt.step(problem)
    assert int(opt.state[problem.params[0]]["since_restart"]) == 1
    other = Rosenbrock()
    twin = ol.ConjugateGradient(other.params, restart_every=100, max_iter=20, beta="hestenes-stiefel")
    twin.step(other)
    assert int(twin.state[other.params[0]]["since_restart"]) > 1
    assert twin.result.loss < opt.result.loss


def test_maximize_and_groups() -> None:
    x, y = np.zeros(3), np.zeros((2, 2))
    opt = ol.ConjugateGradient([{"params": [x]}, {"params": [], "lr": 1}, {"params": [y], "lr": 0.5}], maximize=True,
                               max_iter=50)
    opt.step(lambda: (-float(((x - 1) ** 2).sum() + 3 * ((y - 2) ** 2).sum()), [[-2 * (x - 1)], [], [-6 * (y - 2)]]))
    np.testing.assert_allclose(x, 1, atol=1e-5)
    np.testing.assert_allclose(y, 2, atol=1e-5)
    assert opt.result.loss == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("options", [{"beta": "steepest"}, {"line_search_fn": None}, {"restart_every": 0}, {"lr": -1}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        ol.ConjugateGradient([np.ones(3)], **options)


# Known troubles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["turn_and_move", "save_and_move", "move", "read_gradient_and_products"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
def test_an_interrupt_beside_a_kernel(name: str, late: bool, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between any two lines: the accepted point is restored from where it was saved, and only if it was."""
    make = ol.LBFGS if name == "save_and_move" else ol.ConjugateGradient
    problem, accepted, calls = Rosenbrock(), [Rosenbrock().params[0]], 0
    kernel = getattr(VectorSpace, name)

    def interrupted(self: VectorSpace, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at and not late:
            raise KeyboardInterrupt
        found = kernel(self, *arguments)
        if calls == at:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(VectorSpace, name, interrupted)
    opt = make(problem.params, max_iter=50, line_search_fn="hager_zhang",
               callback=lambda result: accepted.append(problem.params[0].copy()))
    with pytest.raises(KeyboardInterrupt):
        opt.step(problem)
    assert same_bits(problem.params[0], accepted[-1])


def test_a_wrong_gradient_ends_where_it_began() -> None:
    """Nothing along any direction is lower: the parameters stay, to the bit."""
    x = np.array([0.3, 0.7], np.float32)
    opt = ol.ConjugateGradient([x])
    opt.step(lambda: (float(x @ x), [-2 * x]))
    assert x.tolist() == np.array([0.3, 0.7], np.float32).tolist()
    assert "no lower point" in opt.result.reason


def test_an_evaluation_takes_two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel before it, one after it, and no more; and the first trial often does."""
    x, passes, marks = np.zeros(50_000, np.float32), [], []
    spectrum = (1 + 99 * np.random.default_rng(0).random(x.size)).astype(np.float32)
    run = VectorSpace._run
    monkeypatch.setattr(VectorSpace, "_run",
                        lambda self, name, *a, **k: passes.append(name) or run(self, name, *a, **k))
    opt = ol.ConjugateGradient([x], max_iter=25, tolerance_grad=0, tolerance_change=0,
                               callback=lambda result: marks.append((result.evaluations, len(passes))))
    opt.step(lambda: (float(spectrum @ (x - 1) ** 2) / 2, [spectrum * (x - 1)]))
    (evaluations, kernels), (last, kernels_last) = marks[5], marks[-1]
    assert last - evaluations < 1.7 * 19
    assert kernels_last - kernels == 2 * (last - evaluations)
