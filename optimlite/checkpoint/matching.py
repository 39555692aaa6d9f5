"""Which leaf of a file belongs to which live array: by its path, and where paths print alike, by its keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from .header import Tensor
from .tree import printed

Keys = tuple[Any, ...]


def by_path(found: list[tuple[Keys, Any]]) -> dict[str, Any]:
    """Values by their paths; where several print alike, the later ones are counted, as names in files are."""
    values: dict[str, Any] = {}
    for keys, value in found:
        path = base = printed(keys)
        count = 1
        while path in values:
            count += 1
            path = f"{base}~{count}"
        values[path] = value
    return values


def matched(ours: list[tuple[Keys, np.ndarray]], theirs: list[tuple[Keys, Tensor]],
            ) -> tuple[list[tuple[Keys, np.ndarray, Tensor]], list[Keys], list[Keys]]:
    """(keys, array, tensor), … of the same path, and what is left on either side.

    A list may stand for a dict, and a flat name for a nesting.  Where several paths print alike, the keys decide.
    """
    groups: dict[str, tuple[dict[Keys, np.ndarray], dict[Keys, Tensor]]] = {}
    for side, found in enumerate((ours, theirs)):
        for keys, leaf in found:                          # type: ignore[attr-defined]
            groups.setdefault(printed(keys), ({}, {}))[side][keys] = leaf
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
