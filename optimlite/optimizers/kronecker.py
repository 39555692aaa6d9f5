"""One square matrix for each axis of a tensor: how they lie in one array, and how a tensor is multiplied by them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Matrices = Sequence[np.ndarray | None]           # for each axis its matrix, or None


def merged(shape: Sequence[int], most: float) -> tuple[int, ...]:
    """The shape with neighbouring axes made one, from the first on, while they have at most so many elements."""
    result: list[int] = []
    size = 1
    for n in shape:
        if size * n <= most:
            size *= n
            continue
        if size > 1:
            result.append(size)
            size = n
        else:
            result.append(n)
    return (*result, size) if size > 1 or not result else tuple(result)


def square_views(flat: np.ndarray, sizes: Iterable[int | None]) -> Matrices:
    """The matrices that stand one behind the other in an array; None for an axis that has none."""
    views: list[np.ndarray | None] = []
    begin = 0
    for n in sizes:
        views.append(None if n is None else flat[begin:begin + n * n].reshape(n, n))
        begin += n * n if n else 0
    return views


def multiplied(x: np.ndarray, matrices: Matrices) -> np.ndarray:
    """Along each axis by its matrix: sum over i of x[..., i, ...] * matrix[i, :]."""
    y = x
    for n, matrix in zip(x.shape, matrices, strict=True):
        y = y.reshape(n, -1).T                   # which brings the next axis to the front
        if matrix is not None:
            y = y @ matrix
    return np.asarray(y, order="C").reshape(x.shape)


def transposed(matrices: Matrices) -> Matrices:
    return [None if matrix is None else matrix.T for matrix in matrices]


def write_products(x: np.ndarray, into: Matrices) -> None:
    """For each axis that has a matrix, x x^T with that axis as rows and all others as columns."""
    for axis, matrix in enumerate(into):
        if matrix is not None:
            rows = np.moveaxis(x, axis, 0).reshape(len(matrix), -1)
            np.matmul(rows, rows.T, out=matrix)


def eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of a symmetric matrix, in ascending order, and eigenvectors; NaN where it isn't finite."""
    if not np.isfinite(matrix).all():            # LAPACK may return anything then
        return np.full(len(matrix), np.nan, matrix.dtype), np.full_like(matrix, np.nan)
    try:
        values, vectors = np.linalg.eigh(matrix)
    except np.linalg.LinAlgError:                # float32 may not converge
        values, vectors = np.linalg.eigh(matrix.astype(np.float64))
    return values.astype(matrix.dtype, copy=False), vectors.astype(matrix.dtype, copy=False)
