"""The residuals of the user's function: one vector, whatever their shape and nesting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...checks import shown
from ..unknowns import REAL, Unknowns, mapped, nested, refilled

Array = np.ndarray


class Residuals:
    """`fun` as a function of one vector x, and the count of its calls.

    `fun` gets the unknowns in their nesting, always the same arrays, read-only; they hold the last x.
    """

    def __init__(self, fun: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], unknowns: Unknowns) -> None:
        if not callable(fun):
            raise TypeError(f"`fun` must be a function that returns the residuals, got {shown(fun)}")
        self.fun, self.args, self.kwargs, self.unknowns = fun, args, kwargs, unknowns
        self.count = 0
        self.form: Any = None
        self.shapes: list[tuple[int, ...]] = []      # of what `fun` returns
        leaves = list(unknowns.arrays.values())
        types = {leaf.dtype for leaf in leaves}
        self.mixed, self.dtype = len(types) > 1, np.result_type(*types)

    def start(self) -> Array:
        return np.concatenate([leaf.ravel() for leaf in self.unknowns.arrays.values()], dtype=self.dtype)

    def place(self, x: Array) -> Array:
        """The user's functions see x from now on: rounded to the types of the unknowns, as it is returned."""
        for leaf, part in zip(self.unknowns.arrays.values(), self.parts(x), strict=True):
            leaf[...] = part
        return x if x.dtype == self.dtype and not self.mixed else self.start()

    def parts(self, x: Array) -> list[Array]:
        return list(split(x, [leaf.shape for leaf in self.unknowns.arrays.values()]))

    def nest(self, x: Array) -> Any:
        """A vector like x in the nesting and the types of the unknowns, copied."""
        return self.unknowns.nest([np.array(part, leaf.dtype if part.dtype.kind == "f" else part.dtype) for leaf, part
                                   in zip(self.unknowns.arrays.values(), self.parts(x), strict=True)])

    def __call__(self) -> Array:
        """The residuals at the point that was placed last."""
        self.count += 1
        return self.read(self.fun(self.unknowns.seen, *self.args, **self.kwargs))

    def read(self, returned: Any) -> Array:
        """What `fun` returned, as a vector of its own."""
        found: list[Array] = []
        form = unfolded(returned, found)
        shapes = [leaf.shape for leaf in found]
        single = all(leaf.dtype == np.float32 for leaf in found)
        r = np.concatenate([leaf.ravel() for leaf in found], dtype=np.float32 if single else np.float64)
        if not self.shapes:
            if r.size == 0:
                raise ValueError("`fun` must return at least one residual, got none")
            self.form, self.shapes = form, shapes
        elif shapes != self.shapes:
            raise ValueError(f"`fun` must return residuals of the same shapes each time, got {shapes} after "
                             f"{self.shapes}")
        return r

    def folded(self, r: Array) -> Any:
        """A vector like the residuals, in their nesting."""
        parts = list(split(r, self.shapes))
        return mapped(lambda index: parts[int(index)], self.form)


def split(vector: Array, shapes: list[tuple[int, ...]]) -> Iterator[Array]:
    """The pieces of a vector, each in its shape."""
    at = 0
    for shape in shapes:
        size = int(np.prod(shape))
        yield vector[at:at + size].reshape(shape)
        at += size


def unfolded(node: Any, found: list[Array]) -> Any:
    """Enters the arrays of a nesting, and returns it with their indices in their places."""
    if isinstance(node, Mapping):
        return {key: unfolded(child, found) for key, child in node.items()}
    if nested(node):
        return refilled(node, [unfolded(child, found) for child in node])
    array = np.asarray(node)
    if array.dtype.kind not in REAL:
        cure = "; return the real and the imaginary parts" if array.dtype.kind == "c" else ""
        came = "None; is a `return` missing?" if node is None else shown(node)
        raise TypeError(f"`fun` must return real numbers, got {came}{cure}")
    found.append(array)
    return str(len(found) - 1)
