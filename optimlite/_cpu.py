"""Chooses the kernel modules: the best CPU level that this machine runs, once, at import."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache

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


@cache
def rules(dtype: np.dtype, level: str) -> dict[str, Rule]:
    """The compiled rules for a float type; no module is imported for a level that the CPU lacks."""
    if not cpu_supports(level):
        raise ValueError(f"this CPU does not support the level '{level}'")
    module = importlib.import_module(f"{__package__}._kernels_{TYPES[dtype]}_{level}")
    return {name: Rule(*entry) for name, entry in module.RULES.items()}


@cache
def reductions(dtype: np.dtype, level: str) -> dict[str, Reduction]:
    """The compiled reductions for a float type."""
    module = importlib.import_module(f"{__package__}._kernels_{TYPES[dtype]}_{level}")
    return {name: Reduction(*entry) for name, entry in module.REDUCTIONS.items()}


@cache
def maps(dtype: np.dtype, level: str) -> dict[str, Map]:
    """The compiled maps in place for a float type."""
    module = importlib.import_module(f"{__package__}._kernels_{TYPES[dtype]}_{level}")
    return {name: Map(*entry) for name, entry in module.MAPS.items()}


@cache
def reading(name: str, dtype: np.dtype, level: str) -> Reading:
    """A compiled sum over tiles for a float type."""
    module = importlib.import_module(f"{__package__}._kernels_{TYPES[dtype]}_{level}")
    return Reading(*module.READINGS[name])


def rule(name: str, dtype: np.dtype) -> Rule:
    return rules(dtype, level)[name]


def reduction(name: str, dtype: np.dtype) -> Reduction:
    return reductions(dtype, level)[name]


def map_of(name: str, dtype: np.dtype) -> Map:
    return maps(dtype, level)[name]


@cache
def algebra(name: str, level: str) -> tuple[Kernel, Kernel]:
    """A kernel of vector algebra for float32 and float64."""
    single, double = (importlib.import_module(f"{__package__}._kernels_{kind}_{level}").ALGEBRA[name]
                      for kind in TYPES.values())
    return Kernel(*single), Kernel(*double)
