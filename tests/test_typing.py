"""What type checkers see of the package: a typed program that they accept, and slips each of which they report."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RIGHT, WRONG = ROOT / "tests" / "typing" / "right.py", ROOT / "tests" / "typing" / "wrong.py"
Reports = dict[str, dict[int, str]]              # by file and line


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, timeout=600,
                          env=os.environ | {"PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)})
    assert done.stdout, done.stderr
    return done.stdout


def mypy() -> Reports:
    """Follows imports silently: the package is checked by `make lint`."""
    text = run("mypy", "--strict", "--config-file=", "--python-version=3.11", "--follow-imports=silent", "--no-pretty",
               "--no-error-summary", "--hide-error-context", "--cache-dir=.mypy_cache/typing", str(RIGHT), str(WRONG))
    found: Reports = {"right.py": {}, "wrong.py": {}}
    for path, line, message in re.findall(r"^(\S+?):(\d+): error: (.*)$", text, re.M):
        found[Path(path).name][int(line)] = message
    return found


def pyright() -> Reports:
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "include": ["../tests/typing"],
                "extraPaths": [".."],
                # of NumPy's arrays without their types, which are what the library is about
                **dict.fromkeys(("reportUnknownMemberType", "reportUnknownVariableType", "reportUnknownArgumentType",
                                 "reportUnknownLambdaType", "reportUnknownParameterType"), False),
                "reportUnusedExpression": False, "reportUnusedImport": False}
    project = ROOT / "build" / "pyright.json"
    project.parent.mkdir(exist_ok=True)
    project.write_text(json.dumps(settings))
    report = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(project)))
    found: Reports = {"right.py": {}, "wrong.py": {}}
    for each in report["generalDiagnostics"]:
        if each["severity"] == "error":
            found[Path(each["file"]).name][each["range"]["start"]["line"] + 1] = each["message"]
    return found


@pytest.fixture(scope="module", params=[mypy, pyright], ids=["mypy", "pyright"])
def reports(request: pytest.FixtureRequest) -> Reports:
    if importlib.util.find_spec(request.param.__name__) is None:
        pytest.skip(f"{request.param.__name__} is not installed; `make lint` installs it")
    found: Reports = request.param()
    return found


def test_a_typed_program_is_accepted(reports: Reports) -> None:
    assert reports["right.py"] == {}


def test_every_slip_is_reported_and_nothing_else(reports: Reports) -> None:
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    assert set(reports["wrong.py"]) == {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


def test_the_typed_program_runs() -> None:
    done = subprocess.run([sys.executable, "-W", "error", str(RIGHT)], capture_output=True, text=True, timeout=120,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "bias 1.000" in done.stdout
