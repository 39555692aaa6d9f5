"""The unknowns of `minimize`: a nesting of arrays, of which the run moves copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import shown
from ..engine.formats import is_bfloat16, widened

REAL = "fiub"                    # kinds of numbers that are taken
PLAIN = REAL + "c"


class Unknowns:
    """The leaves of `x0`, in order, by their paths: copies, float32 and complex64 as such, others as the wider type.

    `x0` is a nesting if it is a dict, or a list or tuple with a dict or an array in it; everything else is one array.
    """

    def __init__(self, x0: Any) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.form = self._read(x0, "")
        self.single = isinstance(self.form, str)
        self.views = [array.view() for array in self.arrays.values()]
        for view in self.views:
            view.flags.writeable = False
        self.seen = self.nest(self.views)        # what the user's functions get, each time

    def _read(self, node: Any, path: str) -> Any:
        """The nesting with the paths of its leaves in their place."""
        below = f"{path}." if path else ""
        if isinstance(node, Mapping):
            return {key: self._read(child, f"{below}{key}") for key, child in node.items()}
        if nested(node):
            return refilled(node, [self._read(child, f"{below}{index}") for index, child in enumerate(node)])
        self.arrays[path] = start(node, path)
        return path

    def nest(self, leaves: Sequence[Any]) -> Any:
        """Something for each leaf, in the nesting of the unknowns."""
        by_path = dict(zip(self.arrays, leaves, strict=True))
        return mapped(lambda path: by_path[path], self.form)

    def copies(self) -> Any:
        return self.nest([array.copy() for array in self.arrays.values()])

    def matched(self, what: str, node: Any) -> list[Any]:
        """What a nesting like that of the unknowns has for each of them."""
        found: dict[str, Any] = {}
        match(self.form, node, what, found)
        return [found[path] for path in self.arrays]

    def gradients(self, given: Any) -> list[np.ndarray]:
        """A gradient in the types and shapes of the unknowns."""
        leaves = [given] if self.single else self.matched("the gradient", given)
        return [as_gradient(leaf, array, path)
                for leaf, (path, array) in zip(leaves, self.arrays.items(), strict=True)]


def nested(node: Any) -> bool:
    """Numbers in a list are one array; arrays or dicts in it are unknowns of their own."""
    return isinstance(node, (list, tuple)) and any(
        isinstance(child, Mapping) or (isinstance(child, np.ndarray) and child.ndim > 0) or nested(child)
        for child in node)


def refilled(node: Any, children: list[Any]) -> Any:
    """A list, tuple or named tuple with other items."""
    return type(node)(*children) if hasattr(node, "_fields") else type(node)(children)


def mapped(function: Callable[[str], Any], form: Any) -> Any:
    if isinstance(form, str):
        return function(form)
    if isinstance(form, dict):
        return {key: mapped(function, child) for key, child in form.items()}
    return refilled(form, [mapped(function, child) for child in form])


def match(form: Any, node: Any, what: str, found: dict[str, Any]) -> None:
    if isinstance(form, str):
        found[form] = node
        return
    if isinstance(form, dict):
        if not isinstance(node, Mapping) or set(node) != set(form):
            came = f"the keys {list(node)}" if isinstance(node, Mapping) else shown(node)
            raise ValueError(f"{what} must be nested as `x0` is, a dict with the keys {list(form)}, got {came}")
        for key, child in form.items():
            match(child, node[key], what, found)
        return
    if not isinstance(node, (list, tuple)) or len(node) != len(form):
        came = f"{len(node)} items" if isinstance(node, (list, tuple)) else shown(node)
        raise ValueError(f"{what} must be nested as `x0` is, a {type(form).__name__} of {len(form)}, got {came}")
    for child, inner in zip(form, node, strict=True):
        match(child, inner, what, found)


def named(what: str, path: str) -> str:
    return f"{what} of '{path}'" if path else what


def check_real(array: np.ndarray, what: str) -> None:
    if array.dtype.kind == "c":
        raise TypeError(f"{what} must be real, got {array.dtype}; use the real and the imaginary parts, as "
                        f"z.view(np.float{4 * array.itemsize}) has them")


def read(given: Any) -> np.ndarray:
    """An array of what was given, and of None where rows have several lengths."""
    try:
        return np.asarray(given)
    except ValueError:
        return np.array(None)


def start(given: Any, path: str) -> np.ndarray:
    """A copy of what the user starts from."""
    array = read(given)
    if array.dtype.kind not in PLAIN and not is_bfloat16(array.dtype):
        raise TypeError(f"{named('`x0`', path)} must be an array of numbers, got {shown(given)}")
    single, double = (np.complex64, np.complex128) if array.dtype.kind == "c" else (np.float32, np.float64)
    values = widened(array) if is_bfloat16(array.dtype) else array
    return np.array(values, dtype=single if array.dtype == single else double)


def as_gradient(gradient: Any, x: np.ndarray, path: str) -> np.ndarray:
    """The gradient in x's type and shape."""
    given, what = np.asarray(gradient), named("the gradient", path)
    if given.dtype.kind not in PLAIN or (given.dtype.kind == "c" and x.dtype.kind != "c"):
        cure = (f"; x is real, and so must be its gradient: use gradient.view(np.float{4 * given.dtype.itemsize}) if x "
                f"is such a view of complex numbers, gradient.real if not" if given.dtype.kind == "c" else "")
        raise TypeError(f"{what} must be an array of real numbers, got {shown(gradient)}{cure}")
    if given.size != x.size:
        raise ValueError(f"{what} must have one element for each of x's {x.size}, got shape {given.shape}")
    return given.astype(x.dtype, copy=False).reshape(x.shape)


# Bounds --------------------------------------------------------------------------------------------------------------

def limits_of(bounds: Any, unknowns: Unknowns) -> list[Any]:
    """A pair (low, high) for each array, from any form of `minimize`'s bounds."""
    return [None if one is None else elementwise(one, *leaf)
            for one, leaf in zip(bounds_by_leaf(bounds, unknowns), unknowns.arrays.items(), strict=True)]


def bounds_by_leaf(bounds: Any, unknowns: Unknowns) -> list[Any]:
    """What `bounds` say of each array, in any form that one array's may have."""
    if unknowns.single:
        return [bounds]
    sides = None
    if any(hasattr(bounds, side) and not np.isscalar(getattr(bounds, side)) for side in ("lb", "ub")):
        sides = bounds.lb, bounds.ub
    elif (is_pair(bounds) and any(isinstance(side, (Mapping, list)) for side in bounds)
          and not isinstance(unknowns.form, (list, tuple))):         # for these it is a nesting like theirs
        sides = bounds
    if sides is not None:
        return list(zip(*(per_leaf(side, unknowns) for side in sides), strict=True))
    if hasattr(bounds, "lb") or (is_pair(bounds) and all(side is None or np.isscalar(side) for side in bounds)):
        return [bounds] * len(unknowns.arrays)
    return unknowns.matched("`bounds`", bounds)


def per_leaf(side: Any, unknowns: Unknowns) -> list[Any]:
    if side is None or np.isscalar(side):
        return [side] * len(unknowns.arrays)
    return unknowns.matched("`bounds`", side)


def is_pair(bounds: Any) -> bool:
    return isinstance(bounds, tuple) and len(bounds) == 2


def elementwise(bounds: Any, path: str, x: np.ndarray) -> tuple[Any, Any]:
    """Bounds as two arrays of x's shape, or two numbers."""
    name = named("`bounds`", path)
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        low, high = (side_of(name if path else f"`bounds.{side}`", getattr(bounds, side), x) for side in ("lb", "ub"))
        return low, high
    if is_pair(bounds) and not any(isinstance(b, (tuple, list)) for b in bounds):
        return bounds[0], bounds[1]
    pairs = list(bounds) if isinstance(bounds, (list, tuple, np.ndarray, Iterator)) else []
    if len(pairs) != x.size or not all(isinstance(p, (tuple, list, np.ndarray)) and len(p) == 2 for p in pairs):
        raise ValueError(f"{name} must be a pair, or one pair for each of {x.size} elements, got {shown(bounds)}")
    return (np.array([-np.inf if low is None else low for low, _ in pairs], float).reshape(x.shape),
            np.array([np.inf if high is None else high for _, high in pairs], float).reshape(x.shape))


def side_of(name: str, limit: Any, x: np.ndarray) -> np.ndarray:
    limit = np.ravel(limit)
    if limit.size not in (1, x.size):
        raise ValueError(f"{name} must be one number, or one for each of {x.size} elements, got {limit.size}")
    return np.broadcast_to(limit, x.size).reshape(x.shape)
