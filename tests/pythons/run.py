"""The suite on every CPython >= 3.11 of this machine, with the oldest NumPy that it has and the newest.

The sdist is built once. For each Python, a wheel is built from it as a user builds one (against the newest NumPy), and
installed into two virtual environments that differ in NumPy: at first nothing else is there, and no compiler is used.
The tests are the sdist's, and run beside the installed package, not on the working tree.

`make pythons` does that; `make wheels` also finishes each wheel before it is installed, and leaves it in dist/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "pythons"
OLDEST = (3, 11)
NAMES = re.compile(r"python3(\.\d+t?)?")
NUMPY = [f"2.{minor}" for minor in range(20)]            # where to look for the oldest with a wheel
BUILDERS = ("optimlite", "pyx", "setup.py", "Makefile")   # not beside an installed package: tests look for them
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
FINISH = ROOT / ".ci" / "finish.py"
STEP = ("import numpy as np, optimlite as ol; a = np.ones(3); ol.Adam([a]).step(grads=[np.ones(3)]); assert a[0] < 1; "
        "print(ol.__version__, np.__version__)")
# Minutes of their own, and no question of the Python or the NumPy: left to the newest of both.
LONG = ("tests/benchmarks/test_benchmarks.py", "tests/checkpoint/test_crash.py", "tests/checkpoint/test_damage.py",
        "tests/checkpoint/test_crafted.py", "tests/checkpoint/test_hostile.py", "tests/examples")
QUESTION = """
import json, os, platform, sys, sysconfig
print(json.dumps(dict(
    name=platform.python_implementation(), version=sys.version_info[:3], suffix=getattr(sys, "abiflags", ""),
    executable=os.path.realpath(sys.executable), release=sys.version_info.releaselevel,
    headers=os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))))
"""


class Python(NamedTuple):
    version: tuple[int, ...]
    suffix: str                  # "t" for a free-threaded build
    executable: str

    def __str__(self) -> str:
        return ".".join(map(str, self.version)) + self.suffix


class Outcome(NamedTuple):
    python: str
    numpy: str
    verdict: str                 # passed, failed or skipped
    detail: str


def candidates() -> Iterable[Path]:
    """Whatever is called like a Python: on PATH, of pyenv, and of uv."""
    home = Path.home()
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += sorted(Path(os.environ.get("PYENV_ROOT", home / ".pyenv")).glob("versions/*/bin"))
    folders += sorted((home / ".local/share/uv/python").glob("*/bin"))
    for folder in folders:
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if NAMES.fullmatch(path.name))


def ask(path: Path) -> dict[str, Any] | None:
    """What an interpreter says of itself; None if it doesn't start, as pyenv's shims of versions that are off."""
    try:
        done = subprocess.run([path, "-I", "-c", QUESTION], capture_output=True, text=True, timeout=30)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def chosen(answers: Iterable[dict[str, Any] | None]) -> list[Python]:
    """One of each minor version and kind of build: the newest that has its headers."""
    best: dict[tuple[Any, ...], Python] = {}
    for answer in answers:
        if answer is None or answer["name"] != "CPython" or not answer["headers"]:
            continue
        python = Python(tuple(answer["version"]), answer["suffix"], answer["executable"])
        key = (python.version[:2], python.suffix)
        if python.version[:2] >= OLDEST and (key not in best or python.version > best[key].version):
            best[key] = python
    return [best[key] for key in sorted(best)]


def run(command: Sequence[str | Path], log: Path, **options: Any) -> int:
    """Runs a command whose output goes to the end of a log."""
    with log.open("a", encoding="utf-8") as file:
        print("$", *command, file=file, flush=True)
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False, **options).returncode


def environment(python: Python) -> dict[str, str]:
    """Nothing of the caller's Python. Where it can do without the GIL, it does, whatever else the tests import."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "PYTHON_GIL": "0"} if "t" in python.suffix else kept


def fresh(python: Python, folder: Path, log: Path) -> Path | None:
    """The interpreter of a new virtual environment, or None."""
    shutil.rmtree(folder, ignore_errors=True)
    if run([python.executable, "-m", "venv", folder], log, env=environment(python)):
        return None
    return folder / "bin" / "python"


def installed(inside: Path, log: Path, *what: str, **options: Any) -> bool:
    return not run([inside, *PIP, "install", *what], log, **options)


def oldest_numpy(inside: Path, log: Path, env: dict[str, str]) -> bool:
    """Installs the first NumPy 2.x that has a wheel for this Python."""
    return any(installed(inside, log, "--only-binary", ":all:", f"numpy=={minor}.*", env=env) for minor in NUMPY)


def make_sdist(python: Python) -> Path | None:
    log, folder = WORK / "sdist.log", WORK / "sdist"
    log.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    inside = fresh(python, WORK / "sdist-build", log)
    if inside and installed(inside, log, "build") and not run(
            [inside, "-m", "build", "--sdist", "--outdir", folder, ROOT], log, env=environment(python)):
        return next(folder.glob("*.tar.gz"))
    return None


def make_wheel(python: Python, sdist: Path, finish: bool) -> Path | None:
    name = str(python)
    log, folder = WORK / f"{name}-build.log", WORK / f"{name}-wheel"
    log.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    inside = fresh(python, WORK / f"{name}-build", log)
    if inside is None or run([inside, *PIP, "wheel", "--no-deps", "--wheel-dir", folder, sdist], log,
                             env=environment(python)):
        return None
    if finish and run([sys.executable, FINISH, *folder.glob("*.whl")], log):
        return None
    return next(folder.glob("*.whl"))


def beside(sdist: Path, folder: Path) -> Path:
    """The sdist without what builds the package: so that the tests import the installed one, and know that they do."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.unpack_archive(sdist, folder)
    [tree] = folder.iterdir()
    for name in BUILDERS:
        unwanted = tree / name
        unwanted.unlink() if unwanted.is_file() else shutil.rmtree(unwanted)
    return tree


def verdict(code: int, log: Path) -> tuple[str, str]:
    lines = [line.strip(" =") for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if re.search(r"\d+ (passed|failed|error|deselected)", line)), "")
    return ("passed", last) if code == 0 and last else ("failed", last or f"ended with {code}, see {log.name}")


def check(python: Python, sdist: Path, wheel: Path, arguments: Sequence[str], last: bool) -> Iterable[Outcome]:
    """Two outcomes: with the oldest NumPy and with the newest, which runs all the tests if this is the last Python."""
    name = str(python)
    env = {**environment(python), "CC": "false", "PIP_ONLY_BINARY": ":all:"}
    for age in ("oldest", "newest"):
        folder = WORK / f"{name}-{age}"
        log = WORK / f"{name}-{age}.log"
        log.unlink(missing_ok=True)
        inside = fresh(python, folder, log)
        if inside is None or (age == "oldest" and not oldest_numpy(inside, log, env)):
            yield Outcome(name, age, "skipped", f"no environment, or no wheel of NumPy 2, see {log.name}")
            continue
        if not installed(inside, log, str(wheel), env=env) or run([inside, "-c", STEP], log, cwd=folder, env=env):
            yield Outcome(name, age, "failed", f"no first step with NumPy alone, see {log.name}")
            continue
        said = subprocess.run([inside, "-c", "import numpy; print(numpy.__version__)"], capture_output=True, text=True)
        numpy = said.stdout.strip()
        if not installed(inside, log, f"numpy=={numpy}", f"{wheel}[test,demo]", env=env):
            yield Outcome(name, numpy, "failed", f"no packages for the tests, see {log.name}")
            continue
        tree = beside(sdist, folder / "tree")
        left_out = [] if last and age == "newest" else [f"--ignore={name}" for name in LONG]
        code = run([inside, "-m", "pytest", "-p", "no:cacheprovider", *left_out, *arguments], log, cwd=tree, env=env)
        yield Outcome(name, numpy, *verdict(code, log))


def table(outcomes: Sequence[Outcome]) -> str:
    rows = [("Python", "NumPy", "suite", "tests"), ("---",) * 4, *outcomes]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def every(pythons: Sequence[Python], finish: bool, arguments: Sequence[str]) -> Iterable[Outcome]:
    sdist = make_sdist(pythons[-1]) if pythons else None
    for python in pythons:
        wheel = make_wheel(python, sdist, finish) if sdist else None
        outcomes = check(python, sdist, wheel, arguments, python is pythons[-1]) if sdist and wheel else [
            Outcome(str(python), "", "failed", f"no {'wheel' if sdist else 'sdist'} was built, see {WORK.name}/*.log")]
        for outcome in outcomes:
            print(*outcome, sep="  ", flush=True)
            yield outcome
        if finish and sdist and wheel:
            (ROOT / "dist").mkdir(exist_ok=True)
            shutil.copy(sdist, ROOT / "dist")
            shutil.copy(wheel, ROOT / "dist")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Other arguments go to pytest.")
    parser.add_argument("--python", default="", help="only versions that begin so, as 3.12")
    parser.add_argument("--finish", action="store_true", help="wheels as they are published, and to dist/")
    parser.add_argument("--list", action="store_true", help="say which there are, and stop")
    options, arguments = parser.parse_known_args()
    pythons = [python for python in chosen(map(ask, candidates())) if str(python).startswith(options.python)]
    if options.list:
        print(*(f"{python}: {python.executable}" for python in pythons), sep="\n")
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    outcomes = list(every(pythons, options.finish, arguments))
    text = table(outcomes)
    (WORK / "table.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}")
    verdicts = {outcome.verdict for outcome in outcomes}
    return 0 if "passed" in verdicts and "failed" not in verdicts else 1


if __name__ == "__main__":
    sys.exit(main())
