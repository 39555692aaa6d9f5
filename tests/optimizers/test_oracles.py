# Optimizers that torch lacks, against the libraries that have the same rule (support/golden/make_oracles.py).
from itertools import combinations

import numpy as np
import pytest

from support.oracles import (
    CASES,
    STANDSTILL,
    Ours,
    bound,
    golden,
    gradients,
    initial,
    largest_error,
    trajectory,
)
from support.trajectories import DTYPES


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_the_trajectory_is_the_oracles(name: str, dtype: str, maximize: bool) -> None:
    """The oracles don't maximize: here the gradients change their sign, too."""
    worst, where = largest_error(trajectory(CASES[name], dtype, Ours, maximize), golden(name))
    assert worst <= bound(CASES[name].optimizer, dtype), where


@pytest.mark.parametrize("optimizer", dict.fromkeys(case.optimizer for case in CASES.values()))
def test_oracles_agree_and_every_option_counts(optimizer: str) -> None:
    """Two oracles of one rule gave the same numbers; and an option that did nothing would have been noticed."""
    names = [name for name, case in CASES.items() if case.optimizer == optimizer]
    for one, other in combinations(names, 2):
        same = (CASES[one].options, CASES[one].second) == (CASES[other].options, CASES[other].second)
        worst, _ = largest_error(golden(one), golden(other))
        assert worst <= bound(optimizer, "float64") if same else worst > 1e-4, f"{one} and {other}: {worst}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradients_have_the_edges_of_the_rules(dtype: str) -> None:
    """A tensor of zeros, first gradients of zeros in both groups, and a step in which nothing moves."""
    assert [i for i, p in enumerate(initial(dtype)) if not p.any()] == [4]
    assert [i for i, g in enumerate(gradients(dtype, 1)) if not g.any()] == [1, 3]
    assert not any(g.any() for g in gradients(dtype, STANDSTILL))
    assert all(np.array_equal(a, b) for a, b in zip(gradients(dtype, 13), gradients("float64", 13), strict=True))
