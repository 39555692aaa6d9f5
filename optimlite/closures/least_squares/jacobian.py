"""The Jacobian of the residuals: a matrix, given or by differences, or two products where no matrix fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...checks import shown
from ..differences import SCHEMES, Differences, Function
from ..unknowns import REAL, named, read
from .residuals import Residuals, unfolded

Array = np.ndarray
RULE = ("`jac` must be '2-point' or '3-point', a function that returns a matrix or an operator, or a pair of functions "
        "(jvp, vjp)")


class Products(NamedTuple):
    """J v and J^T u, of vectors."""

    forward: Callable[[Array], Array]
    backward: Callable[[Array], Array]
    place: Callable[[], Any]                     # returns to their x, which the user's functions see
    given: Any = None                            # what the user's function returned


class Jacobian:
    """`jac` at x: a matrix (m, n), or Products; and the counts of its calls and products."""

    def __init__(self, jac: Any, residuals: Residuals, limits: Sequence[Any] | None, workers: Any, diff_step: Any,
                 ) -> None:
        self.residuals, self.count, self.products = residuals, 0, 0
        self.jac: Any = "2-point" if jac is None else jac
        self.pair = isinstance(jac, (tuple, list)) and len(jac) == 2 and all(map(callable, jac))
        self.differences: ColumnDifferences | None = None
        if isinstance(self.jac, str) and self.jac in SCHEMES:
            self.differences = ColumnDifferences(self.residuals, self.jac, limits, workers, diff_step)
        elif not self.pair and not callable(jac):
            raise TypeError(f"{RULE}, got {shown(jac)}")

    def __call__(self, x: Array, r: Array) -> Array | Products:
        self.count += 1
        residuals, place = self.residuals, partial(self.residuals.place, x)
        place()
        seen, args, kwargs = residuals.unknowns.seen, residuals.args, residuals.kwargs
        if self.differences is not None:
            return self.differences.matrix(r)
        if self.pair:
            jvp, vjp = jac = self.jac
            return Products(
                lambda v: self.as_residuals(jvp(seen, residuals.nest(v), *args, **kwargs)),
                lambda u: self.as_unknowns(vjp(seen, residuals.folded(u), *args, **kwargs)), place, jac)
        given = self.jac(seen, *args, **kwargs)
        if hasattr(given, "matvec") and hasattr(given, "rmatvec"):
            forward, backward = given.matvec, given.rmatvec
        elif hasattr(given, "T") and hasattr(given, "__matmul__") and not isinstance(given, np.ndarray):
            forward, backward = given.__matmul__, given.T.__matmul__
        else:
            return self.matrix(given, r)
        return Products(lambda v: self.as_residuals(forward(v)), lambda u: self.as_unknowns(backward(u)), place, given)

    def as_residuals(self, given: Any) -> Array:
        self.products += 1
        found: list[Array] = []
        unfolded(given, found)
        size = sum(int(np.prod(shape)) for shape in self.residuals.shapes)
        return joined("the product with `jac`", found, size, "residual")

    def as_unknowns(self, given: Any) -> Array:
        self.products += 1
        unknowns = self.residuals.unknowns
        found = ([given] if unknowns.single or isinstance(given, np.ndarray)
                 else unknowns.matched("the product with the transpose of `jac`", given))
        size = sum(leaf.size for leaf in unknowns.arrays.values())
        return joined("the product with the transpose of `jac`", list(map(np.asarray, found)), size, "unknown")

    def matrix(self, given: Any, r: Array) -> Array:
        """A matrix with a row for each residual, from one or from an array for each array of unknowns."""
        unknowns = self.residuals.unknowns
        if unknowns.single or isinstance(given, np.ndarray):
            size = sum(leaf.size for leaf in unknowns.arrays.values())
            shape = next(iter(unknowns.arrays.values())).shape if unknowns.single else (size,)
            return self.block(given, r, size, shape, "")
        leaves = zip(unknowns.matched("`jac`", given), unknowns.arrays.items(), strict=True)
        return np.concatenate([self.block(leaf, r, x.size, x.shape, path) for leaf, (path, x) in leaves], axis=1)

    def block(self, given: Any, r: Array, size: int, shape: tuple[int, ...], path: str) -> Array:
        matrix = read(given)
        if matrix.dtype.kind not in REAL:
            raise TypeError(f"{named('`jac`', path)} must return real numbers or an operator with `matvec` and "
                            f"`rmatvec`, got {shown(given)}")
        shapes = {(r.size, size), (r.size, *shape)}
        if len(self.residuals.shapes) == 1:
            shapes.add((*self.residuals.shapes[0], *shape))
        if matrix.shape not in shapes:
            cure = "; transpose it" if matrix.shape == (size, r.size) else ""
            raise ValueError(f"{named('`jac`', path)} must return a matrix of shape {(r.size, size)}, a row for each "
                             f"residual, got {matrix.shape}{cure}")
        return np.array(matrix.reshape(r.size, size), np.float64)

    def close(self) -> None:
        if self.differences is not None:
            self.differences.close()


def joined(what: str, found: list[Array], size: int, each: str) -> Array:
    vector = found[0].ravel() if len(found) == 1 else np.concatenate([leaf.ravel() for leaf in found])
    if vector.size != size or vector.dtype.kind not in REAL:
        raise ValueError(f"{what} must have one real number for each of {size} {each}s, got {vector.size} of "
                         f"{vector.dtype}")
    return vector


class ColumnDifferences(Differences):
    """The Jacobian by differences of the residuals, with the steps that gradients have."""

    def __init__(self, residuals: Residuals, scheme: str, limits: Sequence[Any] | None, workers: Any, relative: Any,
                 ) -> None:
        super().__init__(Function(residuals.fun, residuals.args, residuals.kwargs), residuals.unknowns, scheme, limits,
                         workers, relative=relative)
        self.read = residuals.read

    def matrix(self, r: Array) -> Array:
        columns = np.concatenate([self.slopes(index, r, self.read) for index in range(len(self.low))])
        return np.ascontiguousarray(columns.T)
