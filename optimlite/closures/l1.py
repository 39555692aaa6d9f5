"""The l1 norm as part of the loss: weights as users write them, and the orthant in which a step is made (OWL-QN).

The loss f + sum w |x| has a kink wherever an x is 0.  Within an orthant, where no x changes its sign, it is smooth: |x|
is a linear function there.  So each step is one within bounds, those of an orthant: an element that would change its
sign stops at 0, exactly, and may leave it on the other side in the next step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..checks import shown
from ..engine.parameter import Parameter, laid_out
from .by_parameter import Arrays, ByParameter, one_each
from .vectors import Box, Vector, VectorSpace


class Weights(ByParameter):
    """`l1`: one weight for all parameters, a dict by name (0 for the others), or a list with one for each parameter.

    A weight is a number >= 0, or an array of them that broadcasts to the parameter.
    """

    name: ClassVar[str] = "l1"

    def __init__(self, l1: Any, parameters: Sequence[Parameter], names: Sequence[str]) -> None:
        for parameter, name in zip(parameters, names, strict=True):
            if parameter.dtype.kind == "c":
                raise TypeError(f"`l1` can't be had with complex parameters, and '{name}' is one; leave it out, or "
                                f"give the real and the imaginary parts as two parameters")
        several = isinstance(l1, (Mapping, list, tuple))
        given = one_each("l1", "weight", l1, names) if several else [l1] * len(names)
        super().__init__([(weight(*each),) for each in zip(given, parameters, names, strict=True)], parameters)

    def __bool__(self) -> bool:
        return any(array.any() for array, in self.arrays.values())

    def absent(self, parameter: Parameter) -> Arrays:
        return (laid_out(parameter.data, np.zeros),)


def weight(given: Any, parameter: Parameter, name: str) -> np.ndarray:
    array = laid_out(parameter.data)
    try:
        array[...] = 0 if given is None else given
    except (TypeError, ValueError):
        raise ValueError(f"`l1` of '{name}' must be a number or an array that broadcasts to {parameter.shape}, got "
                         f"{shown(given)}") from None
    if (wrong := ~((array >= 0) & (array < np.inf))).any():
        raise ValueError(f"`l1` of '{name}' must be >= 0 and finite, got {array[wrong][0]}")
    return array


class Orthants:
    """The orthant of the current point, entered anew in each iteration, and what the loss is made of there."""

    def __init__(self, space: VectorSpace) -> None:
        self.space = space
        self.weights: Sequence[np.ndarray] = ()
        self.signed = space.zeros()              # the gradient of sum w |x| within the orthant
        self.gradient = space.zeros()            # the pseudo-gradient
        self.box: Box = space.zeros(), space.zeros()
        self.bounds: Box | None = None           # the user's
        self.turned = False                      # whether an element reached 0, to leave it on the other side

    def begin(self, weights: Weights, bounds: Box | None) -> None:
        self.bounds, (self.weights,) = bounds, weights.of(self.space.parameters)
        self.space.fetch()
        for x, w, signed in zip(self.space.x.arrays, self.weights, self.signed.arrays, strict=True):
            np.multiply(w, np.sign(x), out=signed)

    def norm(self) -> float:
        """sum w |x| at a point of the orthant."""
        return self.space.gram(self.space.x, self.space.x, [self.signed])[0][0]

    def enter(self, g: Vector) -> None:
        """Chooses the orthant into which the steepest descent leads, g being the gradient without the norm."""
        free = [(np.float32(-np.inf), np.float32(np.inf))] * len(g.arrays)
        bounds = free if self.bounds is None else zip(*(side.arrays for side in self.bounds), strict=True)
        made = zip(*(vector.arrays for vector in (self.signed, self.gradient, *self.box)), strict=True)
        leaves = zip(self.space.x.arrays, g.arrays, self.weights, bounds, made, strict=True)
        self.turned = any([choose(x, each, w, limits, *out) for x, each, w, limits, out in leaves])


def choose(x: np.ndarray, g: np.ndarray, w: np.ndarray, limits: tuple[Any, Any], signed: np.ndarray,
           gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    """Makes the last four; returns whether an element at 0 turns to the other side of where `signed` had it.

    It leaves 0 if |g| > w, and then the pseudo-gradient is what exceeds w.
    """
    side, smooth, rests = np.empty_like(x), w == 0, x == 0
    np.sign(x, out=side)
    np.copyto(side, np.where(g < 0, 1, -1), where=rests & (abs(g) > w))
    turned = bool((signed * side < 0).any())
    np.copyto(low, np.where((side < 0) | smooth, limits[0], np.maximum(limits[0], 0)))
    np.copyto(high, np.where((side > 0) | smooth, limits[1], np.minimum(limits[1], 0)))
    np.multiply(side, w, out=signed)
    np.add(g, signed, out=gradient)
    np.copyto(gradient, 0, where=rests & (abs(g) <= w))
    return turned
