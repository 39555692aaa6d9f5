"""A sparse gradient: values for some rows of a table, so that a step costs the rows touched and not the table."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np

TYPES = (np.float32, np.float64, np.complex64, np.complex128)


class SparseGrad:
    """The gradient of a table of which few rows were used, such as an embedding: `SparseGrad(indices, values)`.

    indices: rows of the parameter's first axis, one-dimensional integers (copied); in any order, and repeated ones add
        up, in the order in which they come.
    values: an array of shape `(len(indices), *parameter.shape[1:])` in the parameter's dtype (not copied).
    Both may be empty: a gradient that is zero everywhere, which counts as a step.

    SparseAdam takes such gradients alone; SGD and Adagrad take them without weight decay; every other optimizer refuses
    them.  Each row of the parameter must be C-contiguous.  Raises TypeError for indices that aren't integers or values
    that aren't a float array, ValueError for shapes that don't fit and for negative indices; indices beyond the table
    are refused when the gradient is assigned.

        >>> table = np.zeros((4, 2))
        >>> ol.SGD([table], lr=1).step(grads=[ol.SparseGrad([0, 3], np.ones((2, 2)))])
        >>> table[:, 0]
        array([-1.,  0.,  0., -1.])
    """

    __slots__ = ("_indices", "_values")

    def __init__(self, indices: Any, values: np.ndarray) -> None:
        rows = np.asarray(indices)
        if rows.dtype.kind not in "iu" and rows.size:
            raise TypeError(f"`indices` of a sparse gradient must be integers, got {rows.dtype}")
        if not isinstance(values, np.ndarray) or values.dtype not in TYPES:
            got = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
            raise TypeError(f"`values` of a sparse gradient must be a float32 or float64 array, got {got}; "
                            f"use np.asarray(values, dtype=np.float32)")
        if rows.ndim != 1:
            raise ValueError(f"`indices` of a sparse gradient must have one dimension, got shape {rows.shape}")
        if values.ndim == 0 or len(values) != len(rows):
            raise ValueError(f"`values` of a sparse gradient must have a row for each of the {len(rows)} indices, "
                             f"got shape {values.shape}")
        if rows.size and (rows.min() < 0 or rows.max() > np.iinfo(np.int64).max):
            raise ValueError(f"`indices` of a sparse gradient must be >= 0, got {rows.min()}" if rows.min() < 0 else
                             f"`indices` of a sparse gradient must fit int64, got {rows.max()}")
        self._indices = rows.astype(np.int64)
        self._indices.flags.writeable = False
        self._values = values

    @property
    def indices(self) -> np.ndarray:
        """The rows, as they were given: int64, read-only."""
        return self._indices

    @property
    def values(self) -> np.ndarray:
        """The values of each of the rows."""
        return self._values

    @property
    def dtype(self) -> np.dtype:
        return self._values.dtype

    def check(self, array: np.ndarray, what: str) -> None:
        """Raises if this can't be the gradient of `array`, which messages call `what`."""
        if self.dtype != array.dtype:
            raise TypeError(f"gradient of {what} is {self.dtype} but the parameter is {array.dtype}; "
                            f"use values.astype(np.{array.dtype})")
        if array.ndim == 0 or self._values.shape[1:] != array.shape[1:]:
            raise ValueError(f"gradient of {what} has rows of shape {self._values.shape[1:]} but the parameter is of "
                             f"shape {array.shape}; `values` must have the shape "
                             f"(len(indices), {', '.join(map(str, array.shape[1:]))})")
        if self._indices.size and self._indices.max() >= len(array):
            raise ValueError(f"gradient of {what} has index {self._indices.max()} but the parameter has "
                             f"{len(array)} rows")
        if not array[:1].flags.c_contiguous:
            raise ValueError(f"{what} must have C-contiguous rows to take a sparse gradient, got strides "
                             f"{array.strides}; use np.ascontiguousarray(a), and let the model use that array, or "
                             f"gradient.to_dense({len(array)})")

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values as a kernel reads them: contiguous and aligned."""
        return self._indices, np.require(self._values, requirements=["C", "A"])

    def empty(self) -> SparseGrad:
        """A gradient of the same table that touches no row."""
        return SparseGrad(self._indices[:0], self._values[:0])

    def __add__(self, other: SparseGrad) -> SparseGrad:
        """The sum: the rows of both, one after the other."""
        if not isinstance(other, SparseGrad):
            return NotImplemented
        return SparseGrad(np.concatenate([self._indices, other._indices]),
                          np.concatenate([self._values, other._values]))

    def to_dense(self, rows: int) -> np.ndarray:
        """The same gradient as an array of `rows` rows, zero where nothing was touched."""
        dense = np.zeros((rows, *self._values.shape[1:]), self.dtype)
        np.add.at(dense, self._indices, self._values)
        return dense

    def __repr__(self) -> str:
        return f"SparseGrad(indices={self._indices!r}, values={self._values!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return SparseGrad, (self._indices, self._values)


def dense(grad: np.ndarray | SparseGrad, table: Sized) -> np.ndarray:
    """A gradient as an array; a sparse one gets a row for each row of the parameter."""
    return grad.to_dense(len(table)) if isinstance(grad, SparseGrad) else grad
