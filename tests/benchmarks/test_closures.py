"""The benchmark of closures measures iterations beside the closure, and compares them with the targets."""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks import closures, report


@pytest.mark.parametrize("case", closures.CONTENDERS)
def test_rows_are_measured(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closures, "SIZE", 1000)
    [row] = [row for row in closures.rows() if row.case == case]
    result = row.run()
    names = [name for name in closures.CONTENDERS[case]
             if name not in closures.PACKAGES or importlib.util.find_spec(name)]
    assert list(result["seconds"]) == names
    assert all(len(values) == row.rounds and min(values) > 0 for values in result["samples"].values())
    assert report.line(result).startswith(case)
    found = report.targets([result])
    assert [entry["target"] for entry in found] == [
        f">= {closures.RATIOS[case, name]:g}" for name in names if (case, name) in closures.RATIOS]


def test_targets_are_medians_of_ratios() -> None:
    samples = {"optimlite": [1.0, 2.0, 1.0], "scipy": [6.0, 9.0, 4.0]}
    result = {"kind": "closures", "case": "CG 1 M", "samples": samples}
    [entry] = closures.targets([result])
    assert (entry["measured"], entry["met"]) == (4.5, False)
