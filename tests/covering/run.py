"""Line coverage of the Python and the Cython code together, from coverage.py's counts and gcov's: `make coverage`.

In a copy under build/coverage the kernels are built without optimisation and with gcc's counters (Cython's own
tracing misses what runs without the GIL), and the tests run; see sample.py for which. Cython writes before the C code
of every statement which line it comes from. A line of a .pyx, .pxd or .pxi file counts if code was made from it; it is
covered if in one of the modules that are compiled from it the first C line of such a piece of code ran. Headers in C
count by gcov's own lines. Lines marked `# pragma: no cover`, with the block under them, and those that match
`exclude_also` of pyproject.toml are left out, in Cython as in Python.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "coverage"
PARTS = ["optimlite", "pyx", "tests", "examples", "benchmarks", "docs", ".ci", "setup.py", "pyproject.toml", "Makefile",
         "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "MANIFEST.in"]
# Left out: clocks, which mean nothing here, and what runs the same lines thousands of times, or compiles.
LEFT_OUT = ["tests/benchmarks/test_benchmarks.py", "tests/docs", "tests/examples"]
OPTIONS = ["-p", "tests.covering.sample", "-p", "no:cacheprovider",
           "-k", "not microsecond and not million and not flipped and not random_damage and not killed_at "
           "and not cheap and not race",
           *(f"--ignore={name}" for name in LEFT_OUT)]
TARGET = 95.0                                        # per cent
SOURCE = re.compile(r'\s*/\* "(?:pyx/)?(\w+\.px[di]|\w+\.pyx|rules/\w+\.pxi)":(\d+)')
EXCLUDED = ["pragma: no cover", *tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["report"]
            ["exclude_also"]]
Lines = dict[int, bool]                              # line: covered


def run(*command: str, **environment: str) -> int:
    return subprocess.run([sys.executable, *command], cwd=TREE, env={**os.environ, **environment}).returncode


def test(arguments: list[str]) -> int:
    """The copy, its build, and the tests in it; what they start counts too."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, TREE / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "output"))
        else:
            shutil.copy(ROOT / name, TREE)
    if run("setup.py", "-q", "build_ext", "--inplace", OPTIMLITE_COVERAGE="1"):
        raise SystemExit("the build failed")
    count = {"COVERAGE_FILE": str(TREE / ".coverage"), "PYTHONPATH": str(TREE)}
    failed = run("-m", "coverage", "run", "-m", "pytest", *OPTIONS, *arguments, **count)
    run("-m", "coverage", "combine", "-q")
    run("-m", "coverage", "json", "-q", "-o", "coverage.json")
    return failed


def gcov(data: Path) -> list[dict]:
    """What gcov found for each file that one object file was made from."""
    out = subprocess.run(["gcov", "--json-format", "--stdout", str(data)], capture_output=True, check=True, cwd=TREE)
    return [file for line in out.stdout.splitlines() for file in json.loads(line)["files"]]


def cython_lines(path: Path, ran: dict[int, int], found: dict[str, Lines]) -> None:
    """Adds the lines that a C file made by Cython was made from."""
    at, within = None, False                         # the source line whose first C line is looked for; in a comment
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if match := SOURCE.match(text):
            at, within = (f"pyx/{match[1]}", int(match[2])), True
        elif within:
            within = "*/" not in text
        elif "/* function exit code */" in text:
            at = None
        elif at and number in ran:
            file, line = at
            found[file][line] = found[file].get(line, False) or ran[number] > 0
            at = None


def compiled() -> dict[str, Lines]:
    found: dict[str, Lines] = defaultdict(dict)
    for data in sorted((TREE / "build").rglob("*.gcno")):
        for file in gcov(data):
            path = TREE / file["file"]
            ran = {}
            for line in file["lines"]:
                ran[line["line_number"]] = ran.get(line["line_number"], 0) + line["count"]
            if path.suffix == ".c":
                cython_lines(path, ran, found)
            elif (TREE / "pyx" / path.name).exists():
                header = found[f"pyx/{path.name}"]
                for number, count in ran.items():
                    header[number] = header.get(number, False) or count > 0
    for file, lines in found.items():
        for number in excluded((TREE / file).read_text().splitlines()):
            lines.pop(number, None)
    return found


def excluded(text: list[str]) -> set[int]:
    """The lines that match `EXCLUDED`, and what is indented under them."""
    numbers, depth = set(), None
    for number, line in enumerate(text, 1):
        indent = len(line) - len(line.lstrip())
        if depth is not None and (not line.strip() or indent > depth):
            numbers.add(number)
            continue
        depth = None
        if any(re.search(pattern, line) for pattern in EXCLUDED):
            numbers.add(number)
            depth = indent
    return numbers


def python() -> dict[str, Lines]:
    files = json.loads((TREE / "coverage.json").read_text())["files"]
    return {name: {**dict.fromkeys(file["executed_lines"], True), **dict.fromkeys(file["missing_lines"], False)}
            for name, file in files.items()}


def ranges(numbers: list[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def table(files: dict[str, Lines], title: str) -> tuple[int, int]:
    covered, total = sum(sum(lines.values()) for lines in files.values()), sum(map(len, files.values()))
    for name, lines in sorted(files.items()):
        if missing := sorted(number for number, ran in lines.items() if not ran):
            print(f"{name:42} {100 * (1 - len(missing) / len(lines)):5.1f} %   not run: {ranges(missing)}")
    print(f"{title:42} {100 * covered / total:5.1f} %   {covered} of {total} lines in {len(files)} files\n")
    return covered, total


def main() -> int:
    if not shutil.which("gcov"):
        raise SystemExit("line coverage of the kernels needs gcc and its gcov")
    failed = test(sys.argv[1:])
    pairs = [table(python(), "Python"), table(compiled(), "Cython and C")]
    covered, total = (sum(column) for column in zip(*pairs, strict=True))
    rate = 100 * covered / total
    print(f"together {rate:.2f} % of {total} lines; at least {TARGET} % wanted")
    return failed or int(rate < TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
