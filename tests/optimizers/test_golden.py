# 1,000 steps of optimlite against what torch 2.13.0 made of the same gradients (support/golden/make_optimizers.py).
from functools import cache
from itertools import combinations

import numpy as np
import pytest

import optimlite as ol
from support.trajectories import (
    CASES,
    DTYPES,
    READY,
    SNAPSHOTS,
    TABLES,
    Case,
    Run,
    assert_agree,
    error,
    golden_file,
    optimlite,
    unpack,
)

ROWS = {
    row: [case for case in CASES.values() if case.row == row] for row in dict.fromkeys(c.row for c in CASES.values())
}


@cache
def golden(row: str) -> dict[str, np.ndarray]:
    with np.load(golden_file(row)) as file:
        return dict(file)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [case.name for row in READY for case in ROWS[row]])
def test_the_trajectory_is_torchs(name: str, dtype: str) -> None:
    case = CASES[name]
    theirs = golden(case.row)
    run = Run(case, dtype, optimlite())
    for step, record in zip(SNAPSHOTS, theirs[f"{name}.{dtype}.path"], strict=True):
        assert_agree(run.advance(step).values(), unpack(record), dtype, f"{name} at step {step}")
    assert_agree(run.values() | run.state(), unpack(theirs[f"{name}.{dtype}.end"]), dtype, f"{name} at the end")


@pytest.mark.parametrize("row", ROWS)
def test_every_option_bends_the_trajectory(row: str) -> None:
    """No two cases of a row end alike in torch, hence none here: an option that did nothing would have been noticed."""

    def distance(one: Case, other: Case) -> float:
        ends = [unpack(golden(row)[f"{case.name}.float64.end"]) for case in (one, other)]
        return max(error(*(end[name] for end in ends)) for name in ends[0].keys() & ends[1].keys())

    same = [f"{a.name} and {b.name}" for a, b in combinations(ROWS[row], 2) if distance(a, b) < 1e-4]
    assert not same


def test_every_optimizer_that_torch_has_too_is_compared() -> None:
    """A class that optimlite has, but whose row isn't switched on in READY, fails here."""
    here = [
        row
        for row, (case, *_) in ROWS.items()
        if hasattr(ol, case.optimizer) and (case.shapes is not TABLES or hasattr(ol, "SparseGrad"))
    ]
    assert sorted(READY) == sorted(here)
