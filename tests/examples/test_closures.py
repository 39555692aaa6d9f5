"""The examples with closures run, converge as they say, and draw their pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "says"), [
    ("logistic_regression", [], "the gradient is small enough"),
    ("inverse_problem", ["--size", "32", "--evaluations", "40"], "gradient checked"),
    ("waveform_inversion", ["--size", "20", "--steps", "100", "--iterations", "6"], "gradient checked"),
    ("source_inversion", ["--sizes", "16"], "lbfgs with h0"),
    ("trajectories", [], "Himmelblau   L-BFGS"),
])
def test_example(name: str, options: list[str], says: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    run = subprocess.run([sys.executable, str(ROOT / "examples" / f"{name}.py"), "--output", str(tmp_path), *options],
                         capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr + run.stdout
    assert says in run.stdout
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
