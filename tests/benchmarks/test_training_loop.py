"""The benchmark of training loops times each step, ends its busy processes, and compares with the targets."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from benchmarks import report, training_loop


def test_rows_are_measured(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loop, "SETTLE", 0.0)
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, command: list[str]) -> None:
            super().__init__(command)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    row = next(row for row in training_loop.rows() if row.case == "loop MLP" and row.about["busy"] == 2)
    result = replace(row, rounds=2).run()
    assert [len(times) for times in result["samples"].values()] == [2 * training_loop.STEPS["MLP"]] * 2
    assert [child.poll() for child in started] == [-9, -9]
    assert "beside 2 busy processes" in report.title(result)
    assert len(report.line(result).splitlines()) == len(result["seconds"]) == 4
    assert len(report.targets([result])) == 2


def test_targets_are_ratios_of_medians_and_means() -> None:
    result = {"kind": "training loop", "case": "loop 1 M", "pause": 2e-3, "ratio": {"median": 0.75, "mean": 1.25}}
    for busy, met in ((0, [False, False]), (1, [True, False])):
        assert [entry["met"] for entry in training_loop.targets([result | {"busy": busy}])] == met
