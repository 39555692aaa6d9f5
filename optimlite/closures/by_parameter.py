"""What users give for each parameter, such as bounds and weights, and what a replaced one keeps of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.parameter import Parameter, laid_out

Arrays = tuple[np.ndarray, ...]


class ByParameter:
    """Arrays for each parameter, laid out as it is.  Parameters that were added later have those of `absent`."""

    name: ClassVar[str]

    def __init__(self, arrays: Sequence[Arrays], parameters: Sequence[Parameter]) -> None:
        self.arrays: dict[Parameter, Arrays] = dict(zip(parameters, arrays, strict=True))

    def absent(self, parameter: Parameter) -> Arrays:
        """The arrays of a parameter for which nothing was given."""
        raise NotImplementedError

    def of(self, parameters: Sequence[Parameter]) -> Iterator[tuple[np.ndarray, ...]]:
        """The first array of each, the second of each, …"""
        for parameter in parameters:
            if parameter not in self.arrays:
                self.arrays[parameter] = self.absent(parameter)
        return zip(*(self.arrays[parameter] for parameter in parameters), strict=True)

    def check_replaced(self, old: Parameter, new: Any, name: str) -> None:
        """Refuses another shape for a parameter for which something was given."""
        arrays = self.arrays.get(old)
        if arrays is None or np.shape(new) == old.shape:
            return
        if any((given != none).any() for given, none in zip(arrays, self.absent(old), strict=True)):
            raise ValueError(f"'{name}' has {self.name} for its shape {old.shape}, and was to become {np.shape(new)}; "
                             f"set opt.{self.name} = None before, and the new {self.name} afterwards")

    def replaced(self, old: Parameter, made: Parameter) -> None:
        arrays = self.arrays.pop(old, None)
        if arrays is not None and made.shape == old.shape:
            self.arrays[made] = tuple(as_laid_out(array, made) for array in arrays)

    def removed(self, parameter: Parameter) -> None:
        self.arrays.pop(parameter, None)


def as_laid_out(array: np.ndarray, parameter: Parameter) -> np.ndarray:
    """The array of one parameter for another one of the same shape."""
    out = laid_out(parameter.data)
    out[...] = array
    return out


def one_each(what: str, kind: str, given: Any, names: Sequence[str]) -> list[Any]:
    """What a dict by name (None where it has none) or a list gives for each parameter; `kind` is the word for one."""
    if isinstance(given, Mapping):
        if unknown := [key for key in given if key not in names]:
            raise ValueError(f"`{what}` has unknown names {unknown}; the parameters are {list(names)}")
        if several := [key for key in given if names.count(key) > 1]:
            raise ValueError(f"`{what}` can't be given by the name {several[0]!r}, which {names.count(several[0])} "
                             f"parameters have; give a list of {kind}s, one for each parameter, or names of their own")
        return [given.get(name) for name in names]
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise TypeError(f"`{what}` must be a {kind}, a dict of {kind}s or a list of {kind}s, "
                        f"got {type(given).__name__}")
    if len(given) != len(names):
        raise ValueError(f"`{what}` must have one {kind} for each of {len(names)} parameters, got {len(given)}")
    return list(given)
