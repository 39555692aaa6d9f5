"""Vector kernels over lists of arrays: norms, and changes in place."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from . import dispatch
from .vectors import Blocks, Vector


def blocks_of(arrays: Iterable[np.ndarray]) -> Blocks:
    """The cut of vectors over such arrays; a complex number is two real ones to kernels."""
    sizes, itemsizes = [], []
    for array in arrays:
        numbers = 2 if array.dtype.kind == "c" else 1
        sizes.append(array.size * numbers)
        itemsizes.append(array.itemsize // numbers)
    return Blocks(sizes, itemsizes)


def parts(array: np.ndarray) -> np.ndarray:
    """The elements in C order, complex ones as real and imaginary parts by turns: a view, if need be of a copy."""
    flat = array.reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def over_arrays(name: str, *vectors: list[np.ndarray], c: float = 0.0, by_array: bool = False) -> list[float]:
    """Runs a vector kernel over lists of contiguous arrays, outputs first, and returns its results.

    by_array: returns its first sum for each of the first list's arrays instead.

    The caller has checked types, shapes and layouts, and that outputs are writeable and overlap no other array.
    """
    blocks = blocks_of(vectors[0])
    return blocks.run(dispatch.vector_kernels(name, dispatch.level), [Vector(arrays) for arrays in vectors],
                      np.array([[c]]), by_array=by_array)


def sum_squares(array: np.ndarray) -> float:
    """The sum of the squares of a contiguous array, in float64."""
    return over_arrays("sum_squares", [array])[0]
