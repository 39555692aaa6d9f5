"""The benchmark of state in files trains the same model in files and in memory."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from benchmarks import offload


@pytest.mark.parametrize("kind", offload.STATE)
def test_its_runs_have_the_same_bits(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    limits = []
    monkeypatch.setattr(offload, "TENSOR", 300_000)
    monkeypatch.setattr(offload, "bandwidth", lambda folder: 1e9)
    monkeypatch.setattr(resource, "setrlimit", lambda *given: limits.append(given))
    for limit in (1.0, 0.0):
        offload.run(kind, str(tmp_path), 2, 1, limit)
    in_files, in_memory = capsys.readouterr().out.splitlines()[-2:]
    assert in_files.startswith("digest")
    assert in_files == in_memory
    assert limits == [(resource.RLIMIT_DATA, (10**9, 10**9))]
    assert os.listdir(tmp_path) == []
