"""The benchmark of ranks: what is sent is what the plan says, and the row is measured in one job of MPI."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from benchmarks import ranks, report
from optimlite import mpi
from optimlite.cli.plan import planned
from optimlite.mpi import reduction


@pytest.mark.parametrize(("number", "order"), [(1, "rank"), (2, "rank"), (5, "rank"), (4, "leaves:4")])
def test_the_plan_says_what_is_sent(number: int, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each rank where shares are equal, else by all together; in however many rounds."""
    monkeypatch.setattr(reduction, "ROOM", 1 << 18)

    def sent(comm: Any, *sizes: int) -> int:
        counting = ranks.Counting(comm)
        params = [np.zeros(size, np.float32) for size in sizes]
        mpi.Sharded(ol.Adam(params), counting, order=order).step(grads=[np.ones_like(p) for p in params])
        return counting.sent

    size = number * 32_768
    assert mpi.simulate(number, sent, size) == [planned(size, number, 1.0, 1.0, 8.0)["sent"]] * number
    assert sum(mpi.simulate(number, sent, size + 9_999, 21)) == 2 * (number - 1) * 4 * (size + 9_999 + 21)


@pytest.mark.slow
@pytest.mark.skipif(not (ranks.mpiexec() and importlib.util.find_spec("mpi4py")), reason="needs mpi4py and mpiexec")
def test_the_row_is_measured() -> None:
    [row] = ranks.rows()
    result = replace(row, rounds=2, about={**row.about, "elements": 4 * 16_384}).run()
    assert {"optimlite", ranks.HAND} <= set(result["seconds"])
    assert [len(times) for times in result["samples"].values()] == [2] * 4
    assert report.line(result).startswith(ranks.CASE)
    assert "65,536 elements" in report.title(result)
    result["ratio"][ranks.HAND] = 1.4
    assert [entry["met"] for entry in report.targets([result])] [:2] == [False, True]
    assert 0.01 < result["planned_seconds"] / result["seconds"]["optimlite"] < 100
    for factor, met in ((0.6, True), (1.9, True), (0.4, False), (2.1, False)):
        result["planned_seconds"] = factor * result["seconds"]["optimlite"]
        assert [entry["met"] for entry in report.targets([result])][2] == met
