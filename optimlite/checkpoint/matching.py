"""Which leaf of a file belongs to which live array: by its path, and where paths print alike, by its keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from .header import Tensor
from .tree import printed

Keys = tuple[Any, ...]


class Printer:
    """Prints paths of a file's leaves, without repeating work: one long key may stand above all of them."""

    def __init__(self, file_bytes: int) -> None:
        self.left = 100 * file_bytes + (1 << 20)
        self._above: Keys = ()
        self._text = ""

    def __call__(self, keys: Keys) -> str:
        if keys[:-1] != self._above:             # mostly, the last leaf was beside this one
            self._above, self._text = keys[:-1], "".join([f"{key}." for key in keys[:-1]])
        path = f"{self._text}{keys[-1]}" if keys else ""
        self.left -= len(path)
        if self.left < 0:
            raise ValueError("the paths in the tree of parts are too long, all together")
        return path


class ByPath(dict[str, Any]):
    """Values by their paths; where several print alike, the later ones are counted, as names in files are."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, int] = {}

    def add(self, path: str, value: Any) -> str:
        unique = path
        while unique in self:
            self._counts[path] = self._counts.get(path, 1) + 1
            unique = f"{path}~{self._counts[path]}"
        self[unique] = value
        return unique


def matched(ours: list[tuple[Keys, np.ndarray]], theirs: list[tuple[Keys, Tensor]], print_: Printer,
            ) -> tuple[list[tuple[Keys, np.ndarray, Tensor]], list[Keys], list[Keys]]:
    """(keys, array, tensor), … of the same path, and what is left on either side.

    A list may stand for a dict, and a flat name for a nesting.  Where several paths print alike, the keys decide.
    """
    groups: dict[str, tuple[dict[Keys, np.ndarray], dict[Keys, Tensor]]] = {}
    for keys, array in ours:
        groups.setdefault(printed(keys), ({}, {}))[0][keys] = array
    for keys, tensor in theirs:
        groups.setdefault(print_(keys), ({}, {}))[1][keys] = tensor
    pairs: list[tuple[Keys, np.ndarray, Tensor]] = []
    missing: list[Keys] = []
    unexpected: list[Keys] = []
    for arrays, tensors in groups.values():
        if len(arrays) == len(tensors) == 1:
            [(keys, array)], [tensor] = arrays.items(), tensors.values()
            pairs.append((keys, array, tensor))
            continue
        pairs.extend((keys, array, tensors[keys]) for keys, array in arrays.items() if keys in tensors)
        missing.extend(keys for keys in arrays if keys not in tensors)
        unexpected.extend(keys for keys in tensors if keys not in arrays)
    return pairs, missing, unexpected
