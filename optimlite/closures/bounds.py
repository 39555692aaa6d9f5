"""Box bounds, as users write them, and as two vectors that kernels read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._check import shown
from ..parameter import Parameter
from .vectors import Space, Vector

if TYPE_CHECKING:
    from ..optimizer import Optimizer


class Bounds:
    """`bounds`: a pair (low, high) for all parameters, a dict of pairs by name, or a list of pairs, one a parameter.

    `low` and `high` are numbers, arrays that broadcast to the parameter, or None for no bound; so may a pair be.
    """

    def __init__(self, bounds: Any, optimizer: Optimizer) -> None:
        parameters = optimizer._parameters()
        names = optimizer._names()
        if isinstance(bounds, Mapping):
            if unknown := [key for key in bounds if key not in names]:
                raise ValueError(f"`bounds` has unknown names {unknown}; the parameters are {names}")
            pairs = [bounds.get(name) for name in names]
        elif isinstance(bounds, tuple) and len(bounds) == 2 and not any(isinstance(b, tuple) for b in bounds):
            pairs = [bounds] * len(parameters)
        elif isinstance(bounds, Sequence) and not isinstance(bounds, str):
            if len(bounds) != len(parameters):
                raise ValueError(f"`bounds` must have one pair for each of {len(parameters)} parameters, "
                                 f"got {len(bounds)}")
            pairs = list(bounds)
        else:
            raise TypeError(f"`bounds` must be a pair, a dict of pairs or a list of pairs, got {type(bounds).__name__}")
        self.limits = {parameter: (limit(pair, 0, -np.inf, parameter, name), limit(pair, 1, np.inf, parameter, name))
                       for parameter, pair, name in zip(parameters, pairs, names, strict=True)}
        for (low, high), name in zip(self.limits.values(), names, strict=True):
            if not (low <= high).all():
                at = tuple(int(i) for i in np.argwhere(~(low <= high))[0])
                raise ValueError(f"`bounds` of '{name}' must have low <= high, got {low[at]} and {high[at]} at {at}")

    def box(self, space: Space) -> tuple[Vector, Vector]:
        pairs = []
        for parameter in space.parameters:       # parameters that were added later are free
            if parameter not in self.limits:
                self.limits[parameter] = limit(None, 0, -np.inf, parameter, ""), limit(None, 1, np.inf, parameter, "")
            pairs.append(self.limits[parameter])
        low, high = zip(*pairs, strict=True)
        return Vector(list(low)), Vector(list(high))


def limit(pair: Any, side: int, otherwise: float, parameter: Parameter, name: str) -> np.ndarray:
    if pair is not None and (not isinstance(pair, (tuple, list)) or len(pair) != 2):
        raise TypeError(f"`bounds` of '{name}' must be a pair (low, high), got {shown(pair)}")
    value = None if pair is None else pair[side]
    array = np.empty_like(parameter.data, subok=False)       # laid out as the parameter
    try:
        array[...] = otherwise if value is None else value
    except (TypeError, ValueError):
        raise ValueError(f"`bounds` of '{name}' must be numbers or arrays that broadcast to {parameter.shape}, "
                         f"got {type(value).__name__} of shape {np.asarray(value).shape}") from None
    return array
