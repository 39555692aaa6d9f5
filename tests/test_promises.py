"""What the documentation and the Makefile name is there: tests, files, verbs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MAKEFILE = ROOT / "Makefile"
SCRIPTS = [MAKEFILE, *sorted((ROOT / "tests" / "native").glob("*.sh")), *sorted((ROOT / ".ci").glob("run"))]
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.*-]*|[\w-]+\.(?:py|pyx|pxd|pxi|md|toml|txt|json|sh|h))`")
# Files that readers make, or that the worked example adds.
EXAMPLES = re.compile(r"signum\.|^(?:dist|build|\.venv)/|^run/|\.safetensors$")
# Where a file that is named without its folder may be.
FOLDERS = ["", "pyx/", "pyx/rules/", "tests/", "tests/golden/", "optimlite/", "optimlite/*/", "benchmarks/", "docs/"]

pytestmark = pytest.mark.skipif(not MAKEFILE.exists(), reason="these tests run beside an installed package")


def expressions() -> list[str]:
    """Every `-k` expression of the pages and the scripts."""
    found = set()
    for path in [*PAGES, *SCRIPTS, ROOT / "tests" / "covering" / "run.py"]:
        text = path.read_text(encoding="utf-8")
        found.update(match[1] or match[2] or match[3]
                     for match in re.finditer(r"""-k (?:'([^']+)'|\\?"([^"$]+)"|([\w]+))""", text))
    found.update(re.findall(r"^PARALLEL := (.+)$", MAKEFILE.read_text(encoding="utf-8"), re.M))
    return sorted(found - {"name"})


def words(expression: str) -> set[str]:
    return set(re.findall(r"[\w.\[\]-]+", expression)) - {"and", "or", "not"}


@pytest.fixture(scope="module")
def collected() -> list[str]:
    """The ids of all tests, from one run that collects."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-m", "", "-p", "no:cacheprovider",
                           "--ignore=tests/parity", "tests"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    return [line.lower() for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.plain
def test_every_expression_selects_tests(collected: list[str]) -> None:
    assert expressions()
    for expression in expressions():
        for word in words(expression):       # each of its words: an `or` of which one half is gone would go unnoticed
            assert any(word.lower() in test for test in collected), f"-k {expression!r}: no test for {word!r}"
        code = re.sub(r"[\w.-]+", lambda m: m[0] if m[0] in ("and", "or", "not") else f"({m[0].lower()!r} in test)",
                      expression)
        assert any(eval(code, {"test": test}) for test in collected), f"-k {expression!r} selects no test"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_files_that_a_script_names_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"([\w/]*)\{([\w,]+)\}([\w.]*)",             # as the shell expands it
                  lambda m: " ".join(m[1] + part + m[3] for part in m[2].split(",")), text)
    for name in re.findall(r"\btests/[\w/.*-]*\w", text):
        assert list(ROOT.glob(name)), f"{path.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_paths_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in PATH.findall(text):
        if not EXAMPLES.search(name):
            assert any(any(ROOT.glob(folder + name)) for folder in FOLDERS), f"{page.name} names {name}"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_verbs_that_pages_name_are_there() -> None:
    verbs = set(re.findall(r"^([\w-]+):", MAKEFILE.read_text(encoding="utf-8"), re.M))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z][\w-]*)", page.read_text(encoding="utf-8")))
        assert named <= verbs, page.name


def test_every_list_of_modules_is_true() -> None:
    """What coverage leaves out and what mutation changes are files."""
    covering = (ROOT / "tests" / "covering" / "run.py").read_text(encoding="utf-8")
    for name in ast.literal_eval("[" + re.search(r"for name in \(([^)]+)\)\)\]", covering)[1] + "]"):  # type: ignore
        assert (ROOT / "tests" / f"test_{name}.py").exists(), name
    mutation = (ROOT / "tests" / "mutation" / "run.py").read_text(encoding="utf-8")
    for pattern in ast.literal_eval(re.search(r"^SOURCES = (\[.*?\])", mutation, re.M | re.S)[1]):       # type: ignore
        assert list((ROOT / "optimlite").glob(pattern)), pattern
    for name in re.findall(r"\"(test_\w+\.py)\"", mutation):
        assert (ROOT / "tests" / name).exists(), name


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
