"""The vectors of L-BFGS and conjugate gradients, which are the optimizer's state as they lie in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from ..engine.parameter import laid_out
from ..engine.state import StateMap
from .vectors import Box, Vector, VectorSpace


class Workspace:
    """The vectors that live from step to step: x, the direction d, and three gradients that take turns."""

    def __init__(self, space: VectorSpace) -> None:
        self.space = space
        self.x = space.empty()                   # where the line starts
        self.d = space.zeros()
        self.g, self.previous, self.spare = space.zeros(), space.zeros(), space.zeros()
        self.box: Box | None = None
        self.free: Vector | None = None          # the gradient without what bounds stop
        self.scalars: dict[str, np.ndarray] = {}
        self.pending = False                     # the last step's y = g' - g has not been computed yet

    def bind(self, box: Box | None) -> None:
        """Sets the bounds of the steps to come, and moves the parameters into them."""
        self.box = box
        self.space.fix(box)
        if box is not None:
            self.free = self.free or self.space.zeros()
            self.space.save(self.x)
            self.space.move(self.x, 0.0, self.x, box)

    @property
    def descent(self) -> Vector:
        """The gradient that directions are made from."""
        return self.free if self.box is not None and self.free is not None else self.g

    # As state of an optimizer ----------------------------------------------------------------------------------------

    def publish(self, entries: Mapping[str, Vector], states: StateMap) -> None:
        """Makes vectors and scalars the state of the parameters: the very arrays, without a copy."""
        for index, parameter in enumerate(self.space.parameters):
            state = states[parameter]
            dict.clear(state)                    # unnoticed: the workspace knows
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
