"""How many bytes an optimizer's parameters, gradients and state take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .groups import Grouped
from .sparse_grad import SparseGrad


class Memory(NamedTuple):
    """Bytes by what they hold, shadows with their parameters; `state` by the names of its arrays.

    `in_files` are those of the state that `offload` has put there.  State that the first step will create isn't
    counted.
    """

    elements: int
    parameters: int
    gradients: int
    state: dict[str, int]
    in_files: int = 0

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + sum(self.state.values())

    def __repr__(self) -> str:
        rows = {"parameters": self.parameters, "gradients": self.gradients, **self.state, "total": self.total}
        if self.in_files:
            rows["in files"] = self.in_files
        width = max(map(len, rows))
        lines = [f"{'':{width}}  {'bytes':>15}  per element"]
        lines += [f"{name:{width}}  {count:15,}  {count / max(self.elements, 1):11.2f}" for name, count in rows.items()]
        return "\n".join(lines)


def memory(optimizer: Grouped) -> Memory:
    elements = parameters = gradients = in_files = 0
    folder = optimizer.state.folder
    state: dict[str, int] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            elements += parameter.data.size
            parameters += parameter.data.nbytes + (0 if parameter.shadow is None else parameter.shadow.nbytes)
            gradients += bytes_of(parameter.grad)
            for key, array in optimizer.state[parameter].items():
                state[key] = state.get(key, 0) + array.nbytes
                in_files += array.nbytes if folder is not None and folder.has(array) else 0
    return Memory(elements, parameters, gradients, state, in_files)


def bytes_of(gradient: np.ndarray | SparseGrad | None) -> int:
    if isinstance(gradient, SparseGrad):
        return gradient.indices.nbytes + gradient.values.nbytes
    return 0 if gradient is None else gradient.nbytes
