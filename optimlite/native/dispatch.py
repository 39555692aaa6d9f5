"""Chooses the kernel modules: the best CPU level that this machine runs, once, at import."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache

import numpy as np

from .runtime import Kernel, cpu_supports

LEVELS = ("baseline", "v3", "v4")        # x86-64's micro-architecture levels; the baseline is every other CPU's too
TYPES = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
# What a level shares with a lower one.  Doubles would gain registers alone, since v4, too, has vectors of 256 bits:
# large steps wait for memory, small ones for divisions and square roots.
SAME = {("f64", "v4"): "v3"}
PARTS = {np.dtype(np.complex64): np.dtype(np.float32), np.dtype(np.complex128): np.dtype(np.float64)}


def built(level: str) -> bool:
    return importlib.util.find_spec(f"{__package__}.kernels_f32_{level}") is not None


def available() -> list[str]:
    """The levels that were built and that this CPU supports, lowest first."""
    return [level for level in LEVELS if cpu_supports(level) and built(level)]


def choose(wanted: str | None) -> str:
    """The level to use: the best one, or the one that OPTIMLITE_CPU asks for."""
    if not wanted:
        for level in reversed(LEVELS):
            if cpu_supports(level) and built(level):
                return level
        from .missing import frozen

        raise ImportError(frozen() or "optimlite's compiled kernels are missing; install it with `pip install .`")
    if wanted not in LEVELS:
        raise ValueError(f"`OPTIMLITE_CPU` must be one of {', '.join(LEVELS)}, got '{wanted}'")
    if wanted not in available():
        reason = "was not built" if cpu_supports(wanted) else "is not supported by this CPU"
        raise ValueError(f"`OPTIMLITE_CPU` must be one of {', '.join(available())} here, got '{wanted}', "
                         f"which {reason}")
    return wanted


level = choose(os.environ.get("OPTIMLITE_CPU"))


@cache
def kernels(dtype: np.dtype, level: str) -> dict[str, Kernel]:
    """All kernels for a float type; no module is imported for a level that the CPU lacks."""
    if not cpu_supports(level):
        raise ValueError(f"this CPU does not support the level '{level}'")
    try:
        name = TYPES[dtype]
        module = importlib.import_module(f"{__package__}.kernels_{name}_{SAME.get((name, level), level)}")
    except ModuleNotFoundError:
        raise ImportError(f"the kernels for {dtype} on level '{level}' were not built; "
                          f"`make build` builds all") from None
    try:
        return {name.decode(): Kernel(name, *row) for name, row in module.kernels().items()}
    except (AttributeError, ValueError):         # another table, or the same of other declarations
        raise ImportError(f"`{module.__name__}` was built from other sources than `{Kernel.__module__}`; run "
                          f"`make build`, or install optimlite again") from None


def kernel(name: str, dtype: np.dtype, kind: str = "rule") -> Kernel:
    """A kernel of this kind; raises ValueError, with what may have been meant, for an unknown name."""
    table = kernels(PARTS.get(dtype, dtype), level)          # complex numbers are pairs to them
    if name in table and table[name].kind == kind:
        return table[name]
    import difflib

    near = difflib.get_close_matches(name, [known for known in table if table[known].kind == kind], n=1)
    cure = f"did you mean '{near[0]}'?" if near else "is its file included in pyx/kernels.pyx, and built?"
    raise ValueError(f"there is no {kind} called '{name}'; {cure}")


@cache
def vector_kernel(name: str, itemsize: int, level: str) -> Kernel:
    return kernels(np.dtype(f"f{itemsize}"), level)[name]


def vector_kernels(name: str, level: str) -> tuple[Kernel, Kernel]:
    """A vector kernel for float32 and for float64."""
    return vector_kernel(name, 4, level), vector_kernel(name, 8, level)
