"""What users give beside the gradient: an approximate inverse Hessian, and an inner product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import shown
from ..engine.parameter import Parameter
from .vectors import GradientProducts, Vector, VectorSpace

Arrays = list[np.ndarray]
Apply = Callable[[Vector, Vector], None]


def given_h0(h0: Any, parameters: Sequence[Parameter], names: list[str]) -> Apply | None:
    """`apply(out, v)` makes out = H0 v; None if there is no H0."""
    if h0 is None:
        return None
    if not callable(h0):
        diagonal = [positive(one, parameter, name) for one, parameter, name
                    in zip(per_parameter(h0, names), parameters, names, strict=True)]

        def multiply(out: Vector, v: Vector) -> None:
            for result, a, d in zip(out.arrays, v.arrays, diagonal, strict=True):
                np.multiply(a, d, out=result)

        return multiply

    return applied(h0, "h0", names)


def applied(function: Callable[..., Any], what: str, names: list[str]) -> Apply:
    """`apply(out, v)` by a user's function of a list of arrays."""
    def apply(out: Vector, v: Vector) -> None:
        made = function([frozen(array) for array in v.arrays])
        if isinstance(made, np.ndarray) and len(out.arrays) == 1:
            made = [made]
        if not isinstance(made, (list, tuple)) or len(made) != len(out.arrays):
            raise TypeError(f"`{what}` must return a list of {len(out.arrays)} arrays, one for each parameter, "
                            f"got {shown(made)}")
        for result, one, name in zip(out.arrays, made, names, strict=True):
            if np.shape(one) != result.shape:
                raise ValueError(f"`{what}` must return an array of shape {result.shape} for '{name}', "
                                 f"got {np.shape(one)}")
            result[...] = one

    return apply


def per_parameter(h0: Any, names: list[str]) -> list[Any]:
    if isinstance(h0, Mapping):
        if set(h0) != set(names):
            raise ValueError(f"`h0` must have an array for each of {names}, got {list(h0)}")
        return [h0[name] for name in names]
    if isinstance(h0, (list, tuple)):
        if len(h0) != len(names):
            raise ValueError(f"`h0` must have one array for each of {len(names)} parameters, got {len(h0)}")
        return list(h0)
    return [h0] * len(names)


def positive(diagonal: Any, parameter: Parameter, name: str) -> np.ndarray:
    try:
        made = np.broadcast_to(np.asarray(diagonal, parameter.data.real.dtype), parameter.shape)
    except (TypeError, ValueError):
        raise ValueError(f"`h0` of '{name}' must be numbers that broadcast to {parameter.shape}, "
                         f"got {shown(diagonal)}") from None
    if not ((made > 0) & np.isfinite(made)).all():
        raise ValueError(f"`h0` of '{name}' must be > 0 and finite, got {made.min()} to {made.max()}")
    return made


def frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


class InnerSpace(VectorSpace):
    """A space whose products are the user's: `inner(u, v)` of two lists of arrays.

    Gradients are representers then: df(v) = inner(gradient, v).  All products of the methods are made here, one by one.
    """

    def __init__(self, parameters: Sequence[Parameter], inner: Callable[[Arrays, Arrays], Any]) -> None:
        super().__init__(parameters)
        self.inner = inner

    def dot(self, a: Vector, b: Vector) -> float:
        u, v = self.real(a), self.real(b)
        return float(self.inner([frozen(array) for array in u.arrays], [frozen(array) for array in v.arrays]))

    def read_gradient(self, out: Vector, direction: Vector) -> GradientProducts:
        return super().read_gradient(out, direction)._replace(slope=self.dot(out, direction))

    def read_gradient_and_products(self, out: Vector, direction: Vector, previous: Vector) -> GradientProducts:
        seen = super().read_gradient_and_products(out, direction, previous)
        return GradientProducts(self.dot(out, direction), seen.largest, self.dot(out, out), self.dot(out, previous))

    def turn_and_move(self, start: Vector, step: float, direction: Vector, gradient: Vector, beta: float,
                      ) -> tuple[float, float, float]:
        largest = super().turn_and_move(start, step, direction, gradient, beta)[2]
        return self.dot(direction, direction), self.dot(gradient, direction), largest

    def linear_combination(self, out: Vector, gradient: Vector, c: float, rows: Sequence[Vector] = (),
                           coefficients: Sequence[float] = ()) -> tuple[float, float]:
        largest = super().linear_combination(out, gradient, c, rows, coefficients)[1]
        return self.dot(gradient, out), largest

    def add_pair(self, s: Vector, y: Vector, step: float, direction: Vector, new: Vector, old: Vector, gradient: Vector,
                 rows: Sequence[Vector], resting: bool = False) -> tuple[float, list[float], list[float]]:
        super().add_pair(s, y, step, direction, new, old, gradient, rows, resting)
        return self.dot(s, s), *self.gram(gradient, y, rows)

    def gram(self, a: Vector, b: Vector, rows: Sequence[Vector]) -> tuple[list[float], list[float]]:
        mine = [self.dot(row, a) for row in rows]
        return mine, mine if a is b else [self.dot(row, b) for row in rows]

    def square(self, a: Vector) -> float:
        return self.dot(a, a)
