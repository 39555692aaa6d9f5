"""Child processes step with the parent's bits, however they were started and after threaded steps of the parent."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import CASES
from helpers import PATIENCE

FORKING = "ignore:This process:DeprecationWarning"       # CPython 3.12 warns of every fork beside threads


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_step_with_the_parents_bits(method: str) -> None:
    """GCC PR60035, LightGBM#4751: a child that steps after its parent did hangs with OpenMP."""
    script = Path(__file__).with_name("children.py")
    command = [sys.executable, "-W", "error", "-W", FORKING, script, method]
    done = subprocess.run(command, text=True, capture_output=True, timeout=400 * PATIENCE,
                          env={**os.environ, "OPTIMLITE_NUM_THREADS": "3"})
    assert (done.stdout.strip(), done.returncode) == (f"{len(CASES)} optimizers", 0), done.stderr
