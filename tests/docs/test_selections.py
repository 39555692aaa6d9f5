"""What the Makefile, scripts and pages select is there: each expression, marker, file and list finds something."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.paths import ROOT, TESTS

MAKEFILE = ROOT / "Makefile"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SCRIPTS = [MAKEFILE, *sorted((TESTS / "native").glob("*.sh")), ROOT / ".ci" / "run"]
TOOLS = [TESTS / folder / "run.py" for folder in ("covering", "mutation", "pythons")]

pytestmark = pytest.mark.skipif(not MAKEFILE.exists(), reason="these tests run beside an installed package")


class Selection(NamedTuple):
    """What a command leaves of all tests."""

    where: str
    paths: list[str]
    keywords: str = ""
    markers: str = ""


# Commands ------------------------------------------------------------------------------------------------------------

def expanded(text: str) -> str:
    """Continued lines in one, braces as the shell expands them, and the Makefile's variables."""
    text = re.sub(r"\\\n\s*", "", text)
    text = re.sub(r"([\w/]*)\{([\w,]+)\}([\w.]*)", lambda m: " ".join(m[1] + part + m[3] for part in m[2].split(",")),
                  text)
    variables = dict(re.findall(r"^(\w+) [:?]= (.+)$", text, re.M))
    for name, body in re.findall(r"^define (\w+)\n(.*?)^endef", text, re.M | re.S):
        text = text.replace(f"define {name}\n{body}endef", "")
        for call in re.findall(rf"\$\(call {name},[^)]*\)", text):
            arguments = dict(enumerate(call[:-1].split(",")))
            text = text.replace(call, re.sub(r"\$\((\d)\)", lambda m, a=arguments: a.get(int(m[1]), ""), body))
    return re.sub(r"\$\((\w+)\)", lambda m: variables.get(m[1], ""), text)


def commands() -> Iterator[tuple[str, str]]:
    """Where a selection may stand, and its text."""
    for path in PAGES:
        for span in re.findall(r"`([^`\n]+)`", path.read_text(encoding="utf-8")):
            if command := re.fullmatch(r"(?:make (?P<verb>\S+) )?ARGS=(?P<quote>\"?)(?P<given>.*)(?P=quote)|"
                                       r"(?P<bare>-k .*)", span):
                verbs = ' -m "hypothesis or long"' if command["verb"] == "test-long" else ""
                yield path.name, (command["bare"] or command["given"]) + verbs
    for path in SCRIPTS:
        for line in expanded(path.read_text(encoding="utf-8")).splitlines():
            before, *pytests = line.split("-m pytest ")
            if not pytests and re.search(r"\btests=\(|set -- tests", line):
                pytests = [before]
            yield from ((path.name, text) for text in pytests)
    for path in TOOLS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List):
                items = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
                if "-k" in items:
                    yield path.parent.name, f'-k "{items[items.index("-k") + 1]}"'


def selections() -> list[Selection]:
    found = []
    for where, text in commands():
        keywords, markers = (next(filter(None, match.groups())) if match else "" for match in (
            re.search(rf"""(?<!\S)-{option} (?:'([^']+)'|"([^"]+)"|([\w]+))""", text) for option in "km"))
        paths = [path for path in re.findall(r"\btests/[\w/.-]*\w", text.split("##")[0])]
        if keywords not in ("", "name") or markers or paths:
            found.append(Selection(where, paths, keywords, markers))
    return found


def words(expression: str) -> set[str]:
    return set(re.findall(r"[\w.\[\]-]+", expression)) - {"and", "or", "not"}


def holds(expression: str, true: Any) -> bool:
    code = re.sub(r"[\w.-]+", lambda m: m[0] if m[0] in ("and", "or", "not") else str(true(m[0].lower())), expression)
    return bool(eval(code)) if code else True


@pytest.fixture(scope="module")
def collected() -> list[tuple[str, list[str]]]:
    """The ids and markers of all tests, from one run that collects."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-m", "", "-p", "no:cacheprovider",
                           "-p", "tests.support.collecting", "--ignore=tests/parity", "tests"], cwd=ROOT,
                          capture_output=True, text=True, timeout=300)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    return [(name.lower(), marks) for name, marks in found]


@pytest.mark.rest
@pytest.mark.slow
@pytest.mark.plain
def test_every_selection_selects_tests(collected: list[tuple[str, list[str]]]) -> None:
    assert len(selections()) > 25
    usual = ast.literal_eval(re.search(r"-m ('[^']+')", (ROOT / "pyproject.toml").read_text())[1])      # type: ignore
    for selection in selections():
        _, paths, keywords, markers = selection
        paths = [path.lower() for path in paths if path != "tests/parity"]           # which torch alone collects
        among = [(name, marks) for name, marks in collected if not paths or name.startswith(tuple(paths))]
        for word in words(keywords):             # each of them: an `or` of which one half is gone would go unnoticed
            assert any(word.lower() in name for name, _ in among), f"{selection}: no test for {word!r}"
        left = [name for name, marks in among if holds(keywords, name.__contains__)
                and holds(markers or usual, marks.__contains__)]
        for path in paths or [""]:
            assert any(name.startswith(path) for name in left), f"{selection} selects no test of {path or 'all'}"


def test_the_markers_of_expressions_are_registered() -> None:
    registered = {line.split(":")[0] for line in settings()["pytest"]["ini_options"]["markers"]} | {"hypothesis"}
    for selection in selections():
        assert words(selection.markers) <= registered, selection


# Files ---------------------------------------------------------------------------------------------------------------

def settings() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"])


def constant(path: Path, name: str) -> list[str]:
    """A list at the top of a Python file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return list(ast.literal_eval(node.value))
    raise AssertionError(f"{path} has no {name}")


@pytest.mark.parametrize("path", [*SCRIPTS, *TOOLS], ids=lambda path: path.parent.name + "/" + path.name)
def test_the_files_that_a_script_names_are_there(path: Path) -> None:
    text = expanded(path.read_text(encoding="utf-8"))
    for name in re.findall(r"(?<![\w/.])(?:tests|examples|benchmarks|docs|\.ci)/[\w/.*-]*\w", text):
        assert list(ROOT.glob(name)) or name.endswith("/output"), f"{path.name} names {name}"


@pytest.mark.parametrize(("path", "name", "folder"), [
    ("covering/run.py", "PARTS", "."), ("covering/run.py", "LEFT_OUT", "."), ("pythons/run.py", "BUILDERS", "."),
    ("pythons/run.py", "LONG", "."), ("mutation/run.py", "TESTS", "."), ("mutation/run.py", "FRESH", "."),
    ("mutation/run.py", "SOURCES", "optimlite"),
])
def test_every_list_of_files_is_true(path: str, name: str, folder: str) -> None:
    for pattern in constant(TESTS / path, name):
        assert list((ROOT / folder).glob(pattern)), pattern


def test_the_files_whose_every_row_counts_are_there() -> None:
    stems = [path.stem for path in TESTS.rglob("test_*.py")]
    for ending in constant(TESTS / "covering" / "sample.py", "WHOLE"):
        assert any(stem.endswith(ending) for stem in stems), ending


def test_every_fuzzer_is_run_and_has_a_corpus() -> None:
    listed = re.search(r"^FUZZ \?= (.+)$", MAKEFILE.read_text(encoding="utf-8"), re.M)[1].split()       # type: ignore
    assert set(listed) == {path.stem for path in (TESTS / "fuzz").glob("*.py")} - {"frame"}
    assert set(listed) == {path.parent.name for path in (TESTS / "fuzz" / "corpus").glob("*/*")}


def test_what_is_packed_is_there_and_complete() -> None:
    assert set(settings()["setuptools"]["packages"]) == {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "optimlite").rglob("__init__.py")}
    for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines():
        verb, *names = line.split()
        assert verb not in ("graft", "include") or all((ROOT / name).exists() for name in names), line
    for name in settings()["cibuildwheel"]["test-sources"]:
        assert (ROOT / name).exists(), name
    for name in settings()["ruff"]["lint"]["per-file-ignores"]:
        assert list(ROOT.glob(name)), name


def test_what_a_verb_installs_is_an_extra() -> None:
    text = MAKEFILE.read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for kind, verb, names in re.findall(r"^(EXTRAS|ALSO|ALONE)_(\w+) := (.*)$", text, re.M):
        assert f".venv/for-{verb}" in text, verb
        assert kind != "EXTRAS" or set(names.split()) <= set(extras), verb


# Names ---------------------------------------------------------------------------------------------------------------

def test_the_verbs_that_pages_and_scripts_name_are_there_and_described() -> None:
    text = MAKEFILE.read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([\w-]+):.* ##", text, re.M)) | {"clean"}
    listed = re.search(r"^\.PHONY: (.+)$", re.sub(r"\\\n", "", text), re.M)[1].split()       # type: ignore[index]
    assert verbs == set(listed) - {"suitable-python", "partly-built"}
    named = {page.name: set(re.findall(r"`make ([a-z][\w-]*)", page.read_text(encoding="utf-8"))) for page in PAGES}
    for page, found in named.items():
        assert found <= verbs, page
    assert verbs <= named["CONTRIBUTING.md"]
    for script in SCRIPTS[1:]:
        assert set(re.findall(r"^make ([a-z-]+)", script.read_text(encoding="utf-8"), re.M)) <= verbs


def test_the_tests_that_pages_and_tools_name_are_there() -> None:
    files = [path for path in TESTS.rglob("test_*.py")]
    there = {path.stem for path in files} | {"test_base"}
    for path in files:
        there |= set(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    for path in [*PAGES, *SCRIPTS, *TOOLS, TESTS / "mutation" / "survivors.txt"]:
        assert set(re.findall(r"\btest_\w+", path.read_text(encoding="utf-8"))) <= there, path
