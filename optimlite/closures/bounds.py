"""Box bounds, as users write them, and as two vectors that kernels read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from ..checks import shown
from ..engine.parameter import Parameter, laid_out
from .by_parameter import Arrays, ByParameter, one_each
from .vectors import Box, Vector, VectorSpace


class Bounds(ByParameter):
    """`bounds`: a pair (low, high) for all parameters, or an object with `lb` and `ub`; a dict of pairs by name; or a
    list of pairs, one a parameter.

    `low` and `high` are numbers, arrays that broadcast to the parameter, or None for no bound; so may a pair be.
    Limits that a parameter's type can't hold are rounded inwards.
    """

    name: ClassVar[str] = "bounds"

    def __init__(self, bounds: Any, parameters: list[Parameter], names: list[str]) -> None:
        each = zip(pairs(bounds, names), parameters, names, strict=True)
        super().__init__([limits(*one) for one in each], parameters)

    def absent(self, parameter: Parameter) -> Arrays:
        return limits(None, parameter, "")

    def box(self, space: VectorSpace) -> Box:
        low, high = self.of(space.parameters)
        return Vector(list(low)), Vector(list(high))


def pairs(bounds: Any, names: list[str]) -> list[Any]:
    """A pair for each parameter, from any form of bounds."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):      # scipy.optimize.Bounds
        bounds = bounds.lb, bounds.ub
    if isinstance(bounds, tuple) and len(bounds) == 2 and not any(isinstance(b, tuple) for b in bounds):
        return [bounds] * len(names)
    return one_each("bounds", "pair", list(bounds) if isinstance(bounds, Iterator) else bounds, names)


def limits(pair: Any, parameter: Parameter, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A parameter's lower and upper limits, as arrays that are laid out as it is."""
    if pair is not None and (not isinstance(pair, (tuple, list)) or len(pair) != 2):
        raise TypeError(f"`bounds` of '{name}' must be a pair (low, high), got {shown(pair)}")
    below, above = pair or (None, None)
    low = limit(below, np.inf, parameter, name)
    high = limit(above, -np.inf, parameter, name)
    if not (low <= high).all():
        at = tuple(int(i) for i in np.argwhere(~(low <= high))[0])
        raise ValueError(f"`bounds` of '{name}' must have low <= high, got {low[at]} and {high[at]} at {at}")
    for side, array, wrong in (("low < inf", low, np.inf), ("high > -inf", high, -np.inf)):
        if (array == wrong).any():
            raise ValueError(f"`bounds` of '{name}' must have {side}, got {wrong}; use None for no bound")
    return low, high


def limit(value: Any, inwards: float, parameter: Parameter, name: str) -> np.ndarray:
    array = laid_out(parameter.data)
    wanted = -inwards if value is None else value
    if array.dtype.kind == "c":
        if value is not None:
            raise TypeError(f"`bounds` of '{name}' must be None, for it is complex, and complex numbers have no order; "
                            f"let its real and imaginary parts be two parameters")
        array.real[...] = array.imag[...] = wanted
        return array
    try:
        with np.errstate(over="ignore"):         # infinite for what the type can't hold: rounded inwards below
            array[...] = wanted
        exact = np.asarray(wanted, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"`bounds` of '{name}' must be numbers or arrays that broadcast to {parameter.shape}, "
                         f"got {type(value).__name__} of shape {np.asarray(value).shape}") from None
    outside = array < exact if inwards > 0 else array > exact
    np.nextafter(array, np.asarray(inwards, array.dtype), out=array, where=outside)
    return array
