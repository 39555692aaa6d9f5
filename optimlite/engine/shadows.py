"""Shadows: copies of parameters in 16 bits, which models compute with, and which steps write."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import shown
from .formats import BFLOAT16, is_bfloat16, nearest_halves
from .overlap import overlaps_itself, relation


def format_name(shadow: np.ndarray) -> str:
    return "float16" if shadow.dtype == np.float16 else "bfloat16"


def checked(shadow: Any, array: np.ndarray, what: str) -> np.ndarray:
    """Returns a shadow of `array` if steps can write it; raises, with the cure, if they can't."""
    whose = f"the shadow of {what}"
    if array.dtype.kind == "c":
        raise TypeError(f"{whose} must be of real numbers, and the parameter is {array.dtype}; leave it out")
    if not isinstance(shadow, np.ndarray) or not (shadow.dtype in (np.float16, np.uint16) or is_bfloat16(shadow.dtype)):
        got = shadow.dtype if isinstance(shadow, np.ndarray) else shown(shadow)
        raise TypeError(f"{whose} must be an array of float16, bfloat16 (of ml_dtypes) or uint16, which gets the bits "
                        f"of bfloat16, got {got}; use np.empty_like(a, np.float16)")
    if shadow.shape != array.shape:
        raise ValueError(f"{whose} must have the shape {array.shape}, got {shadow.shape}")
    order = "F" if array.flags.fnc else "C"
    laid_out = shadow.flags.f_contiguous if array.flags.fnc else shadow.flags.c_contiguous
    if not (laid_out and shadow.flags.aligned and shadow.flags.writeable) or overlaps_itself(shadow):
        raise ValueError(f"{whose} must be writeable, aligned and contiguous in the parameter's order ('{order}'), got "
                         f"strides {shadow.strides}; use np.empty(a.shape, a16.dtype, order='{order}')")
    if relation(shadow, array):
        raise ValueError(f"{whose} and the parameter overlap in memory; give the shadow an array of its own")
    return shadow


def rounded(values: np.ndarray, shadow: np.ndarray) -> np.ndarray:
    """What steps leave in a shadow of these values: by way of float32 to the nearest, ties of bfloat16 away from 0."""
    with np.errstate(all="ignore"):
        single = np.asarray(values, np.float32)
        if shadow.dtype == np.float16:
            return single.astype(np.float16)
        order: Any = "F" if single.flags.fnc else "C"
        halves = nearest_halves(single.ravel(order)).reshape(single.shape, order=order)
        return halves.view(shadow.dtype) if shadow.dtype != np.uint16 else halves.view(BFLOAT16)
