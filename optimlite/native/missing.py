"""Says what to do where the compiled modules can't be found; imported only then."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def explain(error: ImportError) -> ImportError:
    """The error to raise: a clear one if the modules are missing, else the one that came."""
    if importlib.util.find_spec(f"{__package__}.runtime"):
        return error                     # it is there, and doesn't load: the loader says why
    package = Path(__file__).parents[1]
    if not package.is_dir():
        return ImportError(f"optimlite can't be imported from an archive ({package}): systems load compiled modules "
                           "from files only; unpack the archive, or install optimlite with `pip install .`")
    return ImportError(f"optimlite's compiled modules for this Python are missing in {package}; "
                       "install it with `pip install .`")
