"""What the pages name is there; test_selections.py has what they and the scripts select."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MAKEFILE = ROOT / "Makefile"
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.*-]*|[\w-]+\.(?:py|pyx|pxd|pxi|md|toml|txt|json|sh|h))`")
# Files that readers make, or that the worked example adds.
EXAMPLES = re.compile(r"signum\.|^(?:dist|build|\.venv)/|^run/|\.safetensors$")
# Where a file that is named without its folder may be.
FOLDERS = ["", "pyx/", "pyx/rules/", "tests/support/", "tests/support/golden/", "optimlite/", "optimlite/*/",
           "benchmarks/", "docs/"]

pytestmark = pytest.mark.skipif(not MAKEFILE.exists(), reason="these tests run beside an installed package")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_paths_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in PATH.findall(text):
        if not EXAMPLES.search(name):
            assert any(any(ROOT.glob(folder + name)) for folder in FOLDERS), f"{page.name} names {name}"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_lines_of_listed_survivors_are_there() -> None:
    """A survivor is a file, a function, the line as it is and the line as it was changed to."""
    for survivor in (ROOT / "tests" / "mutation" / "survivors.txt").read_text(encoding="utf-8").splitlines():
        if not survivor or survivor[0] == "#":
            continue
        where, changes = survivor.split(": - ", 1)
        file, function = where.split(" ", 1)
        text = (ROOT / file).read_text(encoding="utf-8")
        for name in function.split("."):
            assert re.search(rf"^\s*(?:def|class) {name}\b", text, re.M), f"{file} has no {function}"
        flat = " ".join(text.split())            # the two lines may have a plus of their own
        lines = [changes[:plus.start()] for plus in re.finditer(r" \+ ", changes)] + [changes]
        assert any(" ".join(line.split()) in flat for line in lines), survivor
