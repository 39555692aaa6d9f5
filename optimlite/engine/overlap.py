"""Whether arrays share memory: exact for arrays of any strides, in bounded time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..native.parameters import byte_bounds

# Candidates that NumPy looks at for two arrays. Views of one array, by slices, need a handful; what needs more was made
# by hand, and could take for ever.
WORK: Any = 10_000               # NumPy's stubs know of -1 and 0 alone
ENTANGLED = "interleave in memory in too many ways to tell whether they overlap"


def relation(one: np.ndarray, other: np.ndarray) -> str:
    """How two arrays share memory, in words; empty if they have no element in common."""
    try:
        return "overlap in memory" if np.shares_memory(one, other, max_work=WORK) else ""
    except np.exceptions.TooHardError:
        return ENTANGLED


def refusal(one: str, other: str, how: str, cure: str, more: str = "") -> str:
    """The message about two arrays that share memory in this way."""
    return f"{one} and {other} {how}{more}; " + (
        "give one of them an array of its own, and let the model use that array" if how == ENTANGLED else cure)


def first_overlap(arrays: Sequence[np.ndarray]) -> tuple[int, int, str] | None:
    """Two of the arrays that aren't apart, by their places, and how they lie; None if all are."""
    ranges = sorted((*byte_bounds(array), at) for at, array in enumerate(arrays) if array.size)
    begun: list[tuple[int, int]] = []            # (end, place) of those that reach beyond this one's beginning
    for begin, end, at in ranges:
        begun = [item for item in begun if item[0] > begin]
        for _, other in begun:
            if how := relation(arrays[other], arrays[at]):
                return other, at, how
        begun.append((end, at))
    return None


def overlaps_itself(array: np.ndarray) -> bool:
    """Whether elements share memory: broadcast, or windows that slide by less than their length."""
    if array.flags.forc or not array.size:
        return False
    extent = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1:
            if stride < extent:
                return _entangled(array)
            extent += stride * (size - 1)
    return False


def _entangled(array: np.ndarray) -> bool:
    """The same for axes that aren't nested in memory; True where it would take too long to find out."""
    for axis, length in enumerate(array.shape):
        part = array[(slice(1),) * axis]         # a pair of elements may differ in this axis, and before it in none
        while length > 1:
            half = (length + 1) // 2
            front, back = (part[(slice(None),) * axis + (which,)] for which in (slice(half), slice(half, None)))
            if relation(front, back):
                return True
            part, length = front, half           # the back has the same strides, so what holds here holds there
    return False
