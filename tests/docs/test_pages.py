"""The Python of the documentation runs as it is pasted, block after block, and prints what the page shows."""

from __future__ import annotations

import itertools
import re
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.helpers import run_python
from support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = ["batch.md", "checkpoints.md", "closures.md", "coming_from_scipy.md", "gradients.md", "inverse_problems.md",
         "memory.md", "mpi.md", "least_squares.md", "parameters.md", "schedulers.md", "tools.md", "which_optimizer.md",
         "tutorials/first_model.md",
         "tutorials/training_loop.md", "tutorials/learning_rate_schedules.md", "tutorials/checkpoints_and_resume.md",
         "tutorials/sparse_embeddings.md", "tutorials/inverse_problem.md",
         "tutorials/policy_gradient.md", "tutorials/fine_tuning_on_cpu.md", "recipes.md",
         "reproducibility.md", "cheat_sheet.md", "coming_from_torch.md",
         "coming_from_autograd.md", "coming_from_optax.md", "coming_from_sklearn.md", "coming_from_thinc.md",
         "coming_from_deepspeed.md"]
# what must be installed for a page to run
NEEDS = {"tutorials/fine_tuning_on_cpu.md": "torch", "coming_from_torch.md": "torch",
         "coming_from_autograd.md": "autograd", "coming_from_optax.md": "jax",
         "coming_from_sklearn.md": "sklearn", "coming_from_thinc.md": "thinc",
         "coming_from_deepspeed.md": "torch"}
LIBRARIES = ("torch", "autograd", "sklearn", "jax", "thinc")


def blocks(page: str) -> list[str]:
    """The page's Python, each block on the lines that it has in the page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```python\n(.*?)^\1```", text, re.S | re.M)
    return ["\n" * text[:block.start(2)].count("\n") + textwrap.dedent(block[2]) for block in found]


def shape_of(output: str) -> str:
    """Output without its numbers, whose last digits are the machine's, nor how often a line repeats with others."""
    lines = (re.sub(r"[-+]?\d[\d.]*(e[-+]\d+)?|\s", "", line) for line in output.splitlines())
    return "\n".join(line for line, _ in itertools.groupby(lines))


def marks(page: str) -> Any:
    return pytest.mark.slow if page in NEEDS or "tutorials" in page else ()


@pytest.mark.parametrize("page", [pytest.param(page, marks=marks(page)) for page in PAGES])
def test_the_code_of_a_page_runs_as_it_is_pasted(page: str, tmp_path: Path) -> None:
    if page in NEEDS:
        pytest.importorskip(NEEDS[page])
    known = [block for block in blocks(page) if "import ml_dtypes" not in block or find_spec("ml_dtypes")]
    script = "".join(f"exec(compile({block!r}, {page!r}, 'exec'), globals())\n" for block in known)
    done = run_python(f"import os\nos.chdir({str(tmp_path)!r})\n{script}", PYTHONPATH=":".join(filter(None, sys.path)))
    assert done.returncode == 0, done.stderr
    printed = shape_of(done.stdout)
    for output in re.findall(r"^```text\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.S | re.M):
        _, found, printed = printed.partition(shape_of(output))
        assert found, f"the page shows\n{output}\nbut prints\n{done.stdout}"


@pytest.mark.rest
@pytest.mark.parametrize("library", LIBRARIES)
def test_each_bridges_example_runs_by_itself(library: str, tmp_path: Path) -> None:
    """A new user pastes the one of the library that there is."""
    pytest.importorskip(library)
    block = next(block for block in blocks("bridges.md") if f"optimlite.{library}" in block)
    done = run_python(f"import os\nos.chdir({str(tmp_path)!r})\nexec({block!r}, globals())",
                      PYTHONPATH=":".join(filter(None, sys.path)))
    assert done.returncode == 0, done.stderr
    [(what, value)] = re.findall(r"(loss|accuracy) ([.\de-]+)", done.stdout)
    assert float(value) < 0.2 if what == "loss" else float(value) > 0.95, done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_code(page: str) -> None:
    assert len(blocks(page)) >= 2
