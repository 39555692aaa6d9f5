"""Child processes step with the parent's bits, however they were started and after threaded steps of the parent."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest

from support.cases import CASES
from support.helpers import PATIENCE
from support.paths import TESTS

FORKING = "ignore:This process:DeprecationWarning"       # CPython 3.12 warns of every fork beside threads


@pytest.mark.rest
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_step_with_the_parents_bits(method: str) -> None:
    """GCC PR60035, LightGBM#4751: a child that steps after its parent did hangs with OpenMP."""
    command = [sys.executable, "-W", "error", "-W", FORKING, "-m", "support.children", method]
    done = subprocess.run(command, text=True, capture_output=True, timeout=400 * PATIENCE, cwd=TESTS,
                          env={**os.environ, "OPTIMLITE_NUM_THREADS": "3"})
    assert (done.stdout.strip(), done.returncode) == (f"{len(CASES)} optimizers", 0), done.stderr
