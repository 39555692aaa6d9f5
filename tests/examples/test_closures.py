"""The examples with closures run, converge as they say, and draw their pictures."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol
from support.paths import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "says"), [
    ("logistic_regression", [], "the gradient is small enough"),
    ("inverse_problem", ["--size", "32", "--evaluations", "40"], "gradient checked"),
    ("waveform_inversion", ["--size", "20", "--steps", "100", "--iterations", "6"], "gradient checked"),
    ("source_inversion", ["--sizes", "16"], "lbfgs with h0"),
    ("travel_time", ["--size", "16", "--stations", "6"], "adjoint checked"),
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


@pytest.mark.slow
def test_a_preconditioner_saves_half_of_the_evaluations() -> None:
    """docs/inverse_problems.md has the counts: 68 and 176 by L-BFGS, on a grid of 40 a side."""
    pytest.importorskip("matplotlib")
    path = ROOT / "examples" / "source_inversion.py"
    problem = runpy.run_path(str(path))["Sources"](40)
    options = {"gtol": 1e-8 / 40**2, "ftol": 0}
    plain, helped = (ol.minimize(problem, np.zeros((40, 40)), h0=h0, options=options) for h0 in (None, problem.h0))
    assert helped.nfev < plain.nfev / 2
    assert helped.success
