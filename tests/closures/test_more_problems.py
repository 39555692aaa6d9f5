"""The second set of problems has right gradients; test_evaluations.py solves them."""

from __future__ import annotations

import numpy as np
import pytest

from support.more_problems import MORE, Known

NAMES = [problem.name for problem in MORE]


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
