"""The site: every page is in the contents, pictures are small, and docstrings are read rightly."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest

from support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md"))


def extension(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DOCS / "site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docstrings, speed = extension("docstrings"), extension("speed")


def test_every_page_is_in_the_contents() -> None:
    contents = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {line for tree in re.findall(r"```\{toctree\}(.*?)```", contents, re.S) for line in tree.split()}
    assert set(PAGES) - {"index"} <= listed


@pytest.mark.parametrize("page", PAGES)
def test_the_pictures_of_a_page_are_there_and_small(page: str) -> None:
    path = DOCS / f"{page}.md"
    files = [path.parent / name for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", path.read_text(encoding="utf-8"))]
    assert sum(file.stat().st_size for file in files) < 900_000         # a page of the site weighs less than 1 MB


def test_docstrings_become_lists_formulas_and_examples() -> None:
    lines = ["A method.", "", "        p = p - lr * g        (|g| <= 1)", "", "    lr: the rate, as in",
             "        torch.    eps, decay: *small*.", "    State: `step`.", "",
             "        >>> opt.step()", "        1.0", "    "]
    docstrings.convert(None, "class", "Method", None, None, lines)
    text = "\n".join(line.rstrip() for line in lines)
    assert "* ``lr``: the rate, as in torch.\n* ``eps``, ``decay``: \\*small\\*." in text
    assert ".. code-block:: text\n\n    p = p - lr * g        (|g| <= 1)\n" in text
    assert "\n\nState: `step`." in text
    assert "\n\n>>> opt.step()\n1.0\n" in text


def test_a_class_in_a_docstring_stays_one_piece_of_code() -> None:
    lines = ["A base.", "", "        class Own(Base):", "            x = 1", "", "            def f(self):",
             "                pass", "", "    And text."]
    docstrings.convert(None, "class", "Base", None, None, lines)
    text = "\n".join(line.rstrip() for line in lines)
    code = "    class Own(Base):\n        x = 1\n\n        def f(self):\n            pass\n"
    assert f".. code-block:: python\n\n{code}" in text
    assert text.count("code-block") == 1


def test_the_readmes_figures_are_the_measured_ones() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for gradients in ("persistent", "fresh"):
        assert "\n".join(speed.table(gradients)) in readme
    assert speed.machine() in readme
