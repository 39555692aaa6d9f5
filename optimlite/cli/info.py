"""`info`: what was installed, and what was chosen for this machine."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..native import dispatch
from ..native.denormals import get_flush_denormal
from ..native.threads import get_num_threads
from .output import say, say_json

BESIDE = ("torch", "autograd", "scikit-learn", "jax", "thinc", "matplotlib", "safetensors", "ml_dtypes", "tqdm")


def info(options: argparse.Namespace) -> int:
    found = facts()
    if options.json:
        say_json(found)
        return 0
    width = max(map(len, found))
    for name, value in found.items():
        say(f"{name:<{width}}  {(', '.join(value) or 'none') if isinstance(value, list) else value}")
    return 0


def facts() -> dict[str, Any]:
    return {"optimlite": __version__, "installed in": str(Path(__file__).parents[1]),
            "Python": f"{platform.python_implementation()} {platform.python_version()}",
            "NumPy": np.__version__, "system": platform.platform(), "CPU": cpu(),
            "CPUs": os.cpu_count() or 1, "threads": get_num_threads(),
            "level": dispatch.level, "levels available": dispatch.available(),
            "flush denormals": get_flush_denormal(),
            "settings": [f"{name}={value}" for name, value in sorted(os.environ.items())
                         if name.startswith("OPTIMLITE_")],
            "beside it": [f"{name} {version}" for name in BESIDE if (version := version_of(name))]}


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def cpu() -> str:
    """The name of the CPU, where the system tells."""
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text().splitlines():
                if line.lower().startswith(("model name", "hardware")):
                    return line.partition(":")[2].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()
