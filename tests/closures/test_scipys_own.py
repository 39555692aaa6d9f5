"""SciPy's own tests of minimize pass with ours in its place, but for those that docs/coming_from_scipy.md names."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from support.paths import ROOT

FILES = [f"scipy.optimize.tests.{name}" for name in ("test_optimize", "test_regression", "test_lbfgsb_hessinv")]


@pytest.mark.long
def test_as_many_pass_as_the_page_says() -> None:
    scipy = pytest.importorskip("scipy")
    page = (ROOT / "docs" / "coming_from_scipy.md").read_text()
    version, called, passed = re.search(r"Of SciPy ([\d.]+)'s own tests .*? (\d+) call .*? (\d+) pass", page,
                                        re.DOTALL).groups()          # type: ignore[union-attr]
    if not scipy.__version__.startswith(f"{version}."):
        pytest.skip(f"counted with SciPy {version}")
    run = subprocess.run([sys.executable, "-m", "pytest", "-c", os.devnull, "-q", "-p", "no:cacheprovider",
                          "-p", "support.exchanged", "--pyargs", *FILES], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])})
    assert f"exchanged in {called} tests, of which {passed} passed" in run.stdout
