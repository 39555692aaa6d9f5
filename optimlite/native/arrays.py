"""Vector kernels over lists of arrays: norms, and changes in place."""

from __future__ import annotations

import numpy as np

from . import dispatch
from .vectors import Blocks, Vector


def over_arrays(name: str, *vectors: list[np.ndarray], c: float = 0.0, by_array: bool = False) -> list[float]:
    """Runs a vector kernel over lists of contiguous arrays, outputs first, and returns its results.

    by_array: returns its first sum for each of the first list's arrays instead.

    The caller has checked types, shapes and layouts, and that outputs are writeable and overlap no other array.
    """
    first = vectors[0]
    blocks = Blocks([array.size for array in first], [array.itemsize for array in first])
    return blocks.run(dispatch.vector_kernels(name, dispatch.level), [Vector(arrays) for arrays in vectors],
                      np.array([[c]]), by_array=by_array)


def sum_squares(array: np.ndarray) -> float:
    """The sum of the squares of a contiguous array, in float64."""
    return over_arrays("sum_squares", [array])[0]
