"""What `least_squares` is given: methods, states, bounds and scales, checked and as vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...checks import integer, shown
from ...engine.parameter import Parameter
from ..bounds import limits
from ..optimize_result import check_state
from ..unknowns import Unknowns, limits_of, named
from .box import Box
from .pairs import Pair
from .problem import Place

METHODS = ("lm", "trust-region", "gauss-newton")
ALIASES = {"trf": "trust-region", "dogbox": "trust-region"}          # scipy's
STATE = {"x", "method", "radius", "scale", "pairs"}


def resumed(state: Any, x0: Any, method: Any) -> tuple[Any, str]:
    check_state(state, STATE, ALIASES.get(method, method), method)
    return (state["x"] if x0 is None else x0), state["method"]


def remembered(state: Mapping[str, Any], x: np.ndarray) -> Place:
    """The place where a run goes on, not yet evaluated."""
    return Place(x, np.zeros(0), math.inf, state.get("scale"), float(state.get("radius", math.nan)),
                 pairs=tuple(Pair(*pair) for pair in state.get("pairs", ())))


def known_method(method: Any, box: Box | None) -> str:
    if method is None:
        return "lm" if box is None else "trust-region"
    name = ALIASES.get(method, method) if isinstance(method, str) else method
    if name not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(map(repr, METHODS))}, got {shown(method)}")
    if box is not None and name != "trust-region":
        raise ValueError(f"`method` '{name}' takes no bounds; use 'trust-region', or leave it out")
    return str(name)


def boxed(bounds: Any, unknowns: Unknowns) -> tuple[list[Any] | None, Box | None]:
    """The limits of each array, rounded inwards to its type, and all of them as a box."""
    if bounds is None:
        return None, None
    if unknowns.single and isinstance(bounds, (tuple, list)) and len(bounds) == 2:       # as in scipy, always
        bounds = tuple(side if side is None else np.asarray(side, np.float64) for side in bounds)
    found = limits_of(bounds, unknowns)
    sides = [limits(pair, Parameter(array), path or "x0") for pair, (path, array)
             in zip(found, unknowns.arrays.items(), strict=True)]
    low, high = (np.concatenate([np.ravel(pair[k]) for pair in sides]) for k in (0, 1))
    return (None, None) if (low == -np.inf).all() and (high == np.inf).all() else (sides, Box(low, high))


def scales(x_scale: Any, method: str, unknowns: Unknowns) -> Any:
    """D = 1 / x_scale as a vector, "jac" for that of the Jacobian's columns, None for that where there are columns."""
    if isinstance(x_scale, str) and x_scale == "jac":
        return x_scale
    if x_scale is None:
        return np.ones(1) if method == "trust-region" else None
    given = [x_scale] * len(unknowns.arrays) if np.isscalar(x_scale) else (
        [x_scale] if unknowns.single else unknowns.matched("`x_scale`", x_scale))
    return np.concatenate([np.ravel(size_of(leaf, array, named("`x_scale`", path))) for leaf, (path, array)
                           in zip(given, unknowns.arrays.items(), strict=True)])


def size_of_history(given: Any) -> int:
    if integer("history_size", given) < 0:
        raise ValueError(f"`history_size` must be >= 0, got {given}")
    return int(given)


def size_of(given: Any, array: np.ndarray, name: str) -> np.ndarray:
    try:
        size = np.broadcast_to(np.asarray(given, np.float64), array.shape)
    except (TypeError, ValueError):
        size = np.array(np.nan)
    if not (np.isfinite(size) & (size > 0)).all():
        raise ValueError(f"{name} must be 'jac' or positive numbers that broadcast to {array.shape}, got "
                         f"{shown(given)}")
    return 1.0 / size
