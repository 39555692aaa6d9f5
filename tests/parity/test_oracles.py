# Optimizers that torch lacks and the libraries that have them, side by side.
import importlib
from typing import Any

import pytest

import optimlite as ol
from support.oracles import CASES, Case, Ours, bound, golden, largest_error, trajectory
from support.trajectories import DTYPES

oracle_side = importlib.import_module("support.golden.make_oracles")


def theirs(case: Case, dtype: str) -> Any:
    if not oracle_side.installed(case.oracle):
        pytest.skip(f"{case.oracle} isn't installed")
    return trajectory(case, dtype, oracle_side.LIBRARIES[case.oracle])


@pytest.mark.parametrize("name", CASES)
def test_the_golden_files_are_the_oracles(name: str) -> None:
    worst, where = largest_error(theirs(CASES[name], "float64"), golden(name))
    assert worst <= bound(CASES[name].optimizer, "float64"), where


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_the_trajectory_is_the_oracles(name: str, dtype: str) -> None:
    case = CASES[name]
    if not hasattr(ol, case.optimizer):
        pytest.skip(f"optimlite has no {case.optimizer} yet")
    worst, where = largest_error(trajectory(case, dtype, Ours), theirs(case, dtype))
    assert worst <= bound(case.optimizer, dtype), where
