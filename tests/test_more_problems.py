"""The second set of problems: right gradients, and solved by methods that were not tuned on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from more_problems import MORE, Known

import optimlite as ol

LIMIT = 5000
SCIPY_LBFGS, SCIPY_CG = 2570, 7199          # scipy's evaluations over the set; its CG leaves one problem unsolved
OPTIONS = {"max_iter": LIMIT, "max_eval": LIMIT, "tolerance_grad": 1e-9, "tolerance_change": 0}
NAMES = [problem.name for problem in MORE]


def evaluations(problem: Known, make: Any, **options: Any) -> tuple[int, bool]:
    """Until solved, and whether it was."""
    x, count, solved = problem.start.copy(), 0, False

    def closure() -> tuple[float, list[np.ndarray]]:
        nonlocal count, solved
        loss, gradient = problem(x)
        count += not solved
        solved = solved or problem.solved(loss, gradient)
        return loss, [gradient]

    make([x], callback=lambda result: solved, **OPTIONS, **options).step(closure)
    return count, solved


@pytest.mark.parametrize("problem", MORE, ids=NAMES)
def test_gradients(problem: Known) -> None:
    """By complex steps, at a point beside the start."""
    rng = np.random.default_rng(0)
    x = problem.start + 0.1 * rng.standard_normal(problem.start.size)
    _, gradient = problem(x)
    for k in rng.choice(x.size, min(8, x.size), replace=False):
        shifted = x.astype(complex)
        shifted[k] += 1e-30j
        slope = np.imag(problem.function(shifted)[0]) / 1e-30
        assert slope == pytest.approx(gradient[k], rel=1e-10, abs=1e-12 * abs(gradient).max())


@pytest.mark.parametrize("search", ["nocedal_wright", "hager_zhang"])
def test_lbfgs_solves_them_all_in_as_many_evaluations_as_scipy(search: str) -> None:
    found = [evaluations(problem, ol.LBFGS, history_size=10, line_search_fn=search) for problem in MORE]
    assert [name for name, (_, solved) in zip(NAMES, found, strict=True) if not solved] == []
    assert sum(count for count, _ in found) <= 1.2 * SCIPY_LBFGS


@pytest.mark.parametrize("beta", ["polak-ribiere+", "hestenes-stiefel"])
def test_conjugate_gradients_solve_them_in_fewer_evaluations_than_scipy(beta: str) -> None:
    """All but Beale's function from where it falls towards infinity, which scipy's doesn't solve either."""
    found = [evaluations(problem, ol.ConjugateGradient, beta=beta) for problem in MORE]
    unsolved = {name for name, (_, solved) in zip(NAMES, found, strict=True) if not solved}
    assert unsolved <= {"Beale from (-2, -2)"}
    assert sum(count for count, _ in found) <= SCIPY_CG
