"""Chooses the kernel modules: the best CPU level that this machine runs, once, at import."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from typing import Any

import numpy as np

from ._core import Kernel, Map, Reading, Reduction, Rule, cpu_supports

LEVELS = ("baseline", "v3", "v4")        # x86-64's micro-architecture levels; the baseline is every other CPU's too
TYPES = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}


def built(level: str) -> bool:
    return importlib.util.find_spec(f"{__package__}._kernels_f32_{level}") is not None


def available() -> list[str]:
    """The levels that were built and that this CPU supports, lowest first."""
    return [level for level in LEVELS if cpu_supports(level) and built(level)]


def choose(wanted: str | None) -> str:
    """The level to use: the best one, or the one that OPTIMLITE_CPU asks for."""
    if not wanted:
        for level in reversed(LEVELS):
            if cpu_supports(level) and built(level):
                return level
        raise ImportError("optimlite's compiled kernels are missing; install it with `pip install .`")
    if wanted not in LEVELS:
        raise ValueError(f"`OPTIMLITE_CPU` must be one of {', '.join(LEVELS)}, got '{wanted}'")
    if wanted not in available():
        reason = "was not built" if cpu_supports(wanted) else "is not supported by this CPU"
        raise ValueError(f"`OPTIMLITE_CPU` must be one of {', '.join(available())} here, got '{wanted}', "
                         f"which {reason}")
    return wanted


level = choose(os.environ.get("OPTIMLITE_CPU"))


TABLES = {Rule: "RULES", Reduction: "REDUCTIONS", Map: "MAPS", Reading: "READINGS", Kernel: "ALGEBRA"}


@cache
def compiled(kind: type, dtype: np.dtype, level: str) -> dict[str, Any]:
    """All of one kind that was compiled for a float type; no module is imported for a level that the CPU lacks."""
    if not cpu_supports(level):
        raise ValueError(f"this CPU does not support the level '{level}'")
    module = importlib.import_module(f"{__package__}._kernels_{TYPES[dtype]}_{level}")
    return {name: kind(*entry) for name, entry in getattr(module, TABLES[kind]).items()}


def rule(name: str, dtype: np.dtype) -> Rule:
    found: Rule = compiled(Rule, dtype, level)[name]
    return found


def reduction(name: str, dtype: np.dtype) -> Reduction:
    found: Reduction = compiled(Reduction, dtype, level)[name]
    return found


def map_of(name: str, dtype: np.dtype) -> Map:
    found: Map = compiled(Map, dtype, level)[name]
    return found


def reading(name: str, dtype: np.dtype) -> Reading:
    found: Reading = compiled(Reading, dtype, level)[name]
    return found


@cache
def algebra(name: str, level: str) -> tuple[Kernel, Kernel]:
    """A kernel of vector algebra for float32 and float64."""
    single, double = (compiled(Kernel, dtype, level)[name] for dtype in TYPES)
    return single, double
