"""Says what to do where the compiled modules can't be found; imported only then."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def explain(error: ImportError) -> ImportError:
    """The error to raise: a clear one if the modules are missing, else the one that came."""
    if importlib.util.find_spec(f"{__package__}.runtime"):
        return ImportError(old) if (old := old_numpy()) else error       # it doesn't load: the loader says why
    return ImportError(frozen() or archived() or shadowing() or
                       f"optimlite's compiled modules for this Python are missing in {PACKAGE}; {cure()}")


def old_numpy() -> str:
    version = getattr(sys.modules.get("numpy"), "__version__", "2")
    if int(version.split(".")[0]) >= 2:
        return ""
    return f"optimlite needs NumPy >= 2.0, and {version} is installed; use `pip install 'numpy>=2'`"


def frozen() -> str:
    if not getattr(sys, "frozen", False):
        return ""
    return ("this program was frozen without optimlite's compiled modules; "
            "freeze it where optimlite is installed by pip, whose hook names them, or with "
            "`pyinstaller --collect-submodules optimlite`")


def archived() -> str:
    if PACKAGE.is_dir():
        return ""
    return (f"optimlite can't be imported from an archive ({PACKAGE}): systems load compiled modules "
            "from files only; unpack the archive, or install optimlite with `pip install .`")


def shadowing() -> str:
    """Started in a clone, Python finds the clone's package before the installed one."""
    others = (Path(folder) / PACKAGE.name for folder in sys.path if folder)
    for other in others:
        if other.resolve() != PACKAGE.resolve() and (other / "native" / "missing.py").exists():
            return (f"optimlite's sources in {PACKAGE}, which aren't built for this Python, hide the package that is "
                    f"installed in {other}; start Python in another folder, or build the sources with `make build`")
    return ""


def cure() -> str:
    if not (PACKAGE.parent / "Makefile").exists():
        return "install it with `pip install .`"
    return ("build them there with `make build` (for .venv/bin/python), or install optimlite with `pip install .` "
            "and start Python in another folder")
