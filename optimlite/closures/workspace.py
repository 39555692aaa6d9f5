"""The vectors of L-BFGS and conjugate gradients, which are the optimizer's state as they lie in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from ..engine.parameter import laid_out
from ..engine.state import StateMap
from .l1 import Orthants, Weights
from .vectors import Box, GradientProducts, Vector, VectorSpace


class Workspace:
    """The vectors that live from step to step: x, the direction d, and three gradients that take turns."""

    def __init__(self, space: VectorSpace) -> None:
        self.space = space
        self.x = space.empty()                   # where the line starts
        self.d = space.zeros()
        self.g, self.previous, self.spare = space.zeros(), space.zeros(), space.zeros()
        self.box: Box | None = None              # bounds, or those of an orthant within them
        self.free: Vector | None = None          # the gradient, but 0 where a bound stops the descent
        self.orthants: Orthants | None = None    # where the l1 norm is part of the loss
        self.scalars: dict[str, np.ndarray] = {}
        self.pending = False                     # the last step's y = g' - g has not been computed yet

    def bind(self, box: Box | None, weights: Weights | None = None) -> None:
        """Sets the bounds and the weights of the steps to come, and moves the parameters into the bounds."""
        self.box = box
        self.space.fix(box)
        if box is not None:
            self.space.save(self.x)
            self.space.move(self.x, 0.0, self.x, box)
        self.orthants = None if weights is None else self.orthants or Orthants(self.space)
        if self.orthants is not None and weights is not None:
            self.orthants.begin(weights, box)
            self.box = self.orthants.box
        if self.box is not None:
            self.free = self.free or self.space.zeros()

    @property
    def descent(self) -> Vector:
        """The gradient that directions are made from."""
        return self.free if self.box is not None and self.free is not None else self.g

    @property
    def whole(self) -> Vector:
        """The same gradient, with the elements that the user's bounds stop."""
        return self.g if self.orthants is None else self.orthants.gradient

    def count(self, key: str, more: int = 1) -> None:
        """scalars[key] += more, which NumPy takes ten times as long for."""
        self.scalars[key][...] = self.scalars[key].item() + more

    # Within bounds, and orthants -------------------------------------------------------------------------------------

    def project(self, seen: GradientProducts) -> GradientProducts:
        """Makes `descent` of the gradient at the current point; returns `seen` with its largest element."""
        if self.box is None:
            return seen
        if self.orthants is None:
            return self.space.projected_gradient(self.descent, self.g, self.box)._replace(slope=seen.slope)
        self.orthants.enter(self.g)
        if self.orthants.bounds is None:
            return seen._replace(largest=self.space.linear_combination(self.descent, self.orthants.gradient, 1.0)[1])
        return self.space.projected_gradient(self.descent, self.orthants.gradient, self.orthants.bounds)._replace(
            slope=seen.slope)

    def slope(self, gradient: Vector, box: Box) -> float:
        """The slope along d where the parameters are now, of the elements that haven't run into a bound."""
        slope = self.space.slope_within(gradient, self.d, box)
        return slope if self.orthants is None else slope + self.space.slope_within(self.orthants.signed, self.d, box)

    # As state of an optimizer ----------------------------------------------------------------------------------------

    def publish(self, entries: Mapping[str, Vector], states: StateMap) -> None:
        """Makes vectors and scalars the state of the parameters: the very arrays, without a copy."""
        for index, parameter in enumerate(self.space.parameters):
            state = states[parameter]
            dict.clear(state)                    # past StateMap, so without a new version: the workspace knows
            dict.update(state, self.scalars, **{key: vector.arrays[index] for key, vector in entries.items()})

    def adopt(self, key: str, states: StateMap, halves: bool = False) -> Vector:
        """The vector whose arrays are in the state, laid out and typed as the parameters are, or in 16 bits."""
        arrays = []
        for parameter in self.space.parameters:
            array, data = states[parameter][key], parameter.data
            dtype = array.dtype if halves and array.dtype == np.uint16 else data.dtype
            if array.shape != data.shape or array.dtype != dtype:
                raise ValueError(f"state `{key}` of '{states.name_of(parameter)}' must be {data.dtype} of shape "
                                 f"{data.shape}, got {array.dtype} of shape {array.shape}")
            same = array.flags.f_contiguous if data.flags.fnc else array.flags.c_contiguous
            if not (same and array.flags.aligned and array.flags.writeable):
                own = laid_out(data, dtype=dtype)
                np.copyto(own, array)
                array = own
            arrays.append(array)
        return Vector(arrays)


class StateNames:
    """The names that the state can have: pairs are numbered through."""

    def __init__(self, *fixed: str) -> None:
        self.fixed = fixed

    def __contains__(self, key: object) -> bool:
        return key in self.fixed or (isinstance(key, str) and re.fullmatch(r"[sy]_\d+", key) is not None)
