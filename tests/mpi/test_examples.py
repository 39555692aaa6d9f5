"""The examples of many ranks, and those of docstrings, in threads; tests/mpi/test_mpiexec.py has real ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from support.helpers import run_examples
from support.paths import ROOT


def test_the_examples_of_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for thing in [getattr(mpi, name) for name in mpi.__all__]:
        assert run_examples(thing, np=np, ol=ol, mpi=mpi) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "says"), [("data_parallel", "rank 3 has "),
                                            ("distributed_inversion", "of the solution")])
def test_example(name: str, says: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    done = subprocess.run([sys.executable, str(ROOT / "examples" / f"{name}.py"), "--simulate", "4"], text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr + done.stdout
    assert says in done.stdout


def test_the_gradient_of_the_inversion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    import distributed_inversion as example

    def differences(comm: Any) -> np.ndarray:
        """Of the loss of all ranks, by each point in turn."""
        stretch = example.Stretch(comm, 31)
        x = np.random.default_rng(comm.rank).standard_normal(stretch.last - stretch.first)
        gradient, measured = stretch.loss(x)[1], []
        for at in range(31):
            both = []
            for h in (1e-6, -1e-6):
                moved = x.copy()
                if stretch.first <= at < stretch.last:
                    moved[at - stretch.first] += h
                both.append(sum(comm.allgather(stretch.loss(moved)[0])))
            measured.append((both[0] - both[1]) / 2e-6)
        np.testing.assert_allclose(gradient, measured[stretch.first:stretch.last], rtol=1e-5, atol=1e-7)
        return gradient

    assert len(mpi.simulate(3, differences)) == 3
