"""`make` refuses Pythons that can't do; `make pythons` finds those that can, and tells a failure from a pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pythons import run as pythons
from support.paths import ROOT


def answer(*version: int, **changes: Any) -> dict[str, Any]:
    return {"name": "CPython", "version": version, "suffix": "", "executable": "/x", "headers": True, **changes}


def test_one_of_each_kind_is_chosen() -> None:
    found = pythons.chosen([
        None, answer(3, 10, 9), answer(3, 13, 0), answer(3, 11, 2), answer(3, 11, 7), answer(3, 13, 1, suffix="t"),
        answer(3, 12, 1, name="PyPy"), answer(3, 12, 4, headers=False), answer(3, 12, 3),
    ])
    assert [str(python) for python in found] == ["3.11.7", "3.12.3", "3.13.0", "3.13.1t"]


def test_interpreters_are_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("python3.11", "python3.14t", "python3", "python3.11-config", "python3.12.bak", "python2.7"):
        (tmp_path / name).touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{tmp_path / 'nowhere'}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [path.name for path in pythons.candidates()] == ["python3", "python3.11", "python3.14t"]
    assert pythons.ask(tmp_path / "python3.11") is None                  # a file that doesn't run


def test_this_interpreter_says_what_it_is() -> None:
    said = pythons.ask(Path(sys.executable))
    assert said is not None
    assert said["version"] == list(sys.version_info[:3])


@pytest.mark.parametrize(("code", "text", "expected"), [
    (0, "==== 12 passed, 1 skipped in 0.5s ====\n", ("passed", "12 passed, 1 skipped in 0.5s")),
    (1, "FAILED x\n1 failed, 11 passed in 0.5s\n", ("failed", "1 failed, 11 passed in 0.5s")),
    (4, "ImportError: numpy\n", ("failed", "ended with 4, see log")),
    (0, "", ("failed", "ended with 0, see log")),
])
def test_a_log_is_judged(tmp_path: Path, code: int, text: str, expected: tuple[str, str]) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert pythons.verdict(code, log) == expected


@pytest.mark.parametrize(("verdicts", "code"), [
    (["passed", "passed"], 0), (["passed", "skipped"], 0), (["failed", "passed"], 1), (["skipped"], 1), ([], 1),
])
def test_one_failure_fails_the_whole_and_stops_nothing(
        verdicts: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    there = [pythons.Python((3, 11, n), "", "/x") for n in range(len(verdicts))]
    monkeypatch.setattr(pythons, "WORK", tmp_path / "work")
    monkeypatch.setattr(pythons, "candidates", lambda: [])
    monkeypatch.setattr(pythons, "chosen", lambda answers: there)
    monkeypatch.setattr(pythons, "make_sdist", lambda python: tmp_path / "sdist")
    monkeypatch.setattr(pythons, "make_wheel", lambda python, sdist, finish: tmp_path / "wheel")
    monkeypatch.setattr(pythons, "check", lambda python, sdist, wheel, arguments, last: [
        pythons.Outcome(str(python), "2.0", verdicts[there.index(python)], "detail")])
    monkeypatch.setattr(sys, "argv", ["pythons.py"])
    assert pythons.main() == code
    assert capsys.readouterr().out.endswith((tmp_path / "work" / "table.md").read_text())
    for number, verdict in enumerate(verdicts):
        assert f"| 3.11.{number} | 2.0 | {verdict} | detail |" in (tmp_path / "work" / "table.md").read_text()


@pytest.mark.parametrize("missing", ["sdist", "wheel"])
def test_what_is_not_built_fails(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pythons, "make_sdist", lambda python: None if missing == "sdist" else tmp_path / "sdist")
    monkeypatch.setattr(pythons, "make_wheel", lambda python, sdist, finish: None)
    [outcome] = pythons.every([pythons.Python((3, 11, 7), "", "/x")], False, [])
    assert (outcome.verdict, outcome.python) == ("failed", "3.11.7")
    assert f"no {missing} was built" in capsys.readouterr().out


def test_the_tests_of_the_sdist_import_the_installed_package(tmp_path: Path) -> None:
    """Nothing of its own sources is left beside them, and all that they read is."""
    root = tmp_path / "optimlite-1"
    for name in ("optimlite/a.py", "pyx/a.pyx", "tests/test_a.py", "docs/a.md", "setup.py", "Makefile",
                 "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    with tarfile.open(tmp_path / "sdist.tar.gz", "w:gz") as archive:
        archive.add(root, "optimlite-1")
    tree = pythons.beside(tmp_path / "sdist.tar.gz", tmp_path / "tree")
    assert sorted(path.name for path in tree.iterdir()) == ["README.md", "docs", "tests"]


# Verbs ---------------------------------------------------------------------------------------------------------------

def interpreter(path: Path, *version: int) -> Path:
    """This Python, which says that it is of another version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"""#!{sys.executable}
import runpy, sys
sys.version_info = ({version[0]}, {version[1]}, 0)
sys.argv = sys.argv[1:]
exec(sys.argv[1]) if sys.argv[0] == "-c" else runpy.run_path(sys.argv[0], run_name="__main__")
""")
    path.chmod(0o755)
    return path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    if shutil.which("make") is None or not (ROOT / "Makefile").exists():
        pytest.skip("needs make and the Makefile")
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def refusal(clone: Path, *arguments: str) -> str:
    """What a verb says before make's own line; it is one line, and comes at once."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")}        # the tests' own make's
    done = subprocess.run(["make", "test", *arguments], cwd=clone, capture_output=True, text=True, timeout=10,
                          env=environment)
    assert done.returncode
    assert done.stdout == ""
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    return line


def test_a_python_that_is_too_old_is_refused_at_once(clone: Path) -> None:
    old = interpreter(clone / "python3.10", 3, 10)
    assert refusal(clone, f"PYTHON={old}") == (
        f"optimlite needs Python >= 3.11, and {old} is Python 3.10: name another one, "
        "as in `make PYTHON=python3.12 ...`")
    assert not (clone / ".venv").exists()
    assert refusal(clone, "PYTHON=python-nowhere").startswith("there is no python-nowhere")


def test_an_environment_of_another_python_is_not_used_silently(clone: Path) -> None:
    inside = clone / ".venv" / "bin" / "python"
    interpreter(inside, 3, 10)
    assert refusal(clone) == (
        "optimlite needs Python >= 3.11, and .venv is Python 3.10: remove it with `make clean`, and name another one")
    interpreter(inside, 3, 11)
    other = interpreter(clone / "python3.12", 3, 12)
    assert refusal(clone, f"PYTHON={other}") == (
        f"{other} is Python 3.12, and .venv was made with 3.11: remove it with `make clean`")


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has the GIL")
def test_a_free_threaded_python_stays_without_the_gil() -> None:
    """Every module says that it needs none."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON_GIL"}
    program = ("import optimlite as ol, numpy as np, sys; from optimlite.native import files, vectors\n"
               "for x in (np.ones(1), np.ones(1, 'f')): ol.SGD([x], lr=1).step(grads=[x])\n"
               "print(sys._is_gil_enabled())")
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], text=True, capture_output=True,
                          env=environment)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
