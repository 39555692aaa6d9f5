"""The vectors of L-BFGS and conjugate gradients, which are the optimizer's state as they lie in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..parameter import Parameter
from .vectors import Space, Vector

if TYPE_CHECKING:
    from ..optimizer import Optimizer


class Workspace:
    """The vectors that live from step to step: x, the direction d, and three gradients that take turns."""

    def __init__(self, parameters: list[Parameter]) -> None:
        self.space = space = Space(parameters)
        self.x = space.empty()                   # where the line starts
        self.d = space.zeros()
        self.g, self.previous, self.spare = space.zeros(), space.zeros(), space.zeros()
        self.free: Vector | None = None          # the gradient without what bounds stop
        self.scalars: dict[str, np.ndarray] = {}
        self.pending = False                     # a step was made whose change of the gradient isn't known yet
        self.version = -1                        # of the optimizer's state

    def publish(self, entries: Mapping[str, Vector], scalars: Mapping[str, np.ndarray], optimizer: Optimizer) -> None:
        """Makes vectors and scalars the state of the parameters: the very arrays, without a copy."""
        for index, parameter in enumerate(self.space.parameters):
            state = optimizer.state[parameter]
            dict.clear(state)                    # unnoticed: the workspace knows
            dict.update(state, scalars, **{key: vector.arrays[index] for key, vector in entries.items()})

    def adopt(self, key: str, optimizer: Optimizer) -> Vector:
        """The vector whose arrays are in the state, laid out and typed as the parameters are."""
        arrays = []
        for parameter in self.space.parameters:
            array, data = optimizer.state[parameter][key], parameter.data
            if array.shape != data.shape or array.dtype != data.dtype:
                name = optimizer.state.name_of(parameter)
                raise ValueError(f"state `{key}` of '{name}' must be {data.dtype} of shape {data.shape}, "
                                 f"got {array.dtype} of shape {array.shape}")
            same = array.flags.c_contiguous if data.flags.c_contiguous else array.flags.f_contiguous
            if not (same and array.flags.aligned and array.flags.writeable):
                own = np.empty_like(data, subok=False)
                np.copyto(own, array)
                array = own
            arrays.append(array)
        return Vector(arrays)


class Names:
    """The names that the state can have: pairs are numbered through."""

    def __init__(self, *fixed: str) -> None:
        self.fixed = fixed

    def __contains__(self, key: object) -> bool:
        return key in self.fixed or (isinstance(key, str) and re.fullmatch(r"[sy]_\d+", key) is not None)
