"""The same by real ranks: the bits are those of `simulate`, whichever MPI library there is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from optimlite import mpi
from support import mpi_program
from support.paths import ROOT

MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (MPIEXEC and importlib.util.find_spec("mpi4py")),
                                                   reason="needs mpi4py and mpiexec: `make mpi-test`")]


def run(ranks: int, what: str, folder: Path) -> subprocess.CompletedProcess[str]:
    assert MPIEXEC
    version = subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True).stdout
    more = ["--oversubscribe", *["--allow-run-as-root"] * (os.getuid() == 0)] if "Open" in version else []
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.run([MPIEXEC, *more, "-n", str(ranks), sys.executable, mpi_program.__file__, what, str(folder)],
                          capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"})


@pytest.mark.parametrize("ranks", [1, 3, 4])
@pytest.mark.parametrize("what", ["bits", "fault", "inversion"])
def test_real_ranks_have_the_bits_of_simulated_ones(ranks: int, what: str, tmp_path: Path) -> None:
    if what == "fault" and ranks == 1:
        pytest.skip("rank 1 is to fail")
    done = run(ranks, what, tmp_path)
    assert done.returncode == 0, done.stderr
    expected = mpi.simulate(ranks, getattr(mpi_program, what), str(tmp_path))
    assert f"result: {expected[0]}" in done.stdout


def test_a_killed_rank_ends_the_job(tmp_path: Path) -> None:
    done = run(4, "killed", tmp_path)
    assert done.returncode != 0
    assert "result:" not in done.stdout


def test_killed_in_the_middle_of_a_save_it_is_the_old_file(tmp_path: Path) -> None:
    done = run(4, "killed_save", tmp_path)
    assert done.returncode != 0
    assert "result:" not in done.stdout
    assert os.path.samefile(tmp_path / "run", tmp_path / "kept")
    assert not [name for name in os.listdir(tmp_path) if name not in ("run", "kept") and not name.endswith(".tmp")]


def test_without_an_mpi_library_it_says_what_to_install(tmp_path: Path) -> None:
    code = ("import sys; sys.modules['mpi4py'] = None; import numpy as np; from optimlite import mpi\n"
            "try: mpi.broadcast([np.ones(2)])\n"
            "except ImportError as fault: print(fault)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "pip install \"optimlite[mpi]\"" in done.stdout
