"""The Python of the documentation runs as it is pasted: the blocks of a page in their order, in one interpreter."""

from __future__ import annotations

import re
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.helpers import run_python
from support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = ["checkpoints.md", "closures.md", "coming_from_scipy.md", "gradients.md", "inverse_problems.md", "memory.md",
         "parameters.md", "schedulers.md", "tools.md", "which_optimizer.md"]
LIBRARIES = ("torch", "autograd", "sklearn", "jax", "thinc")


def blocks(page: str) -> list[str]:
    """The page's Python, each block on the lines that it has in the page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```python\n(.*?)^\1```", text, re.S | re.M)
    return ["\n" * text[:block.start(2)].count("\n") + textwrap.dedent(block[2]) for block in found]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_as_it_is_pasted(page: str, tmp_path: Path) -> None:
    known = [block for block in blocks(page) if "import ml_dtypes" not in block or find_spec("ml_dtypes")]
    script = "".join(f"exec(compile({block!r}, {page!r}, 'exec'), globals())\n" for block in known)
    done = run_python(f"import os\nos.chdir({str(tmp_path)!r})\n{script}", PYTHONPATH=":".join(filter(None, sys.path)))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_bridges_example_runs_by_itself(library: str, tmp_path: Path) -> None:
    """A new user pastes the one of the library that there is."""
    pytest.importorskip(library)
    [block] = [block for block in blocks("bridges.md") if f"optimlite.{library}" in block]
    done = run_python(f"import os\nos.chdir({str(tmp_path)!r})\nexec({block!r}, globals())",
                      PYTHONPATH=":".join(filter(None, sys.path)))
    assert done.returncode == 0, done.stderr
    [(what, value)] = re.findall(r"(loss|accuracy) ([.\de-]+)", done.stdout)
    assert float(value) < 0.2 if what == "loss" else float(value) > 0.95, done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_code(page: str) -> None:
    assert len(blocks(page)) >= 2
