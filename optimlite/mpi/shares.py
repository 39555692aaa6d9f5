"""Which rank has the state of what: whole tensors, the largest first, then ranges of the others to fill up."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..engine.parts import BLOCK


class Range(NamedTuple):
    """Elements [start, stop) of a parameter, by its number."""

    parameter: int
    start: int
    stop: int


class Tensor(NamedTuple):
    size: int
    itemsize: int
    divisible: bool


def assigned(tensors: Sequence[Tensor], ranks: int) -> list[list[Range]]:
    """The ranges of each rank, in the order of parameters.

    A tensor that must stay whole goes to the rank that has least so far.  What may be cut is laid end to end, and
    divided so that all have the same number of bytes, at multiples of BLOCK elements from a tensor's start.
    """
    shares: list[list[Range]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    sizes = [tensor.size * tensor.itemsize for tensor in tensors]
    for at in sorted((at for at, tensor in enumerate(tensors) if not tensor.divisible), key=lambda at: -sizes[at]):
        least = min(range(ranks), key=loads.__getitem__)
        shares[least].append(Range(at, 0, tensors[at].size))
        loads[least] += sizes[at]
    left = [at for at, tensor in enumerate(tensors) if tensor.divisible]
    rooms = filled_up(loads, sum(sizes[at] for at in left))
    starts, end = {}, 0
    for at in left:
        starts[at] = end
        end += sizes[at]
    bounds = [0]
    for rank in range(ranks):
        wanted = sum(rooms[:rank + 1])
        bounds.append(end if not any(rooms[rank + 1:]) else max(bounds[-1], nearest_cut(tensors, starts, wanted)))
    for rank, (low, high) in enumerate(itertools.pairwise(bounds)):
        for at in left:
            start, stop = max(low, starts[at]), min(high, starts[at] + sizes[at])
            if start < stop:
                size = tensors[at].itemsize
                shares[rank].append(Range(at, (start - starts[at]) // size, (stop - starts[at]) // size))
    return [sorted(share) for share in shares]


def filled_up(loads: Sequence[int], more: int) -> list[int]:
    """How much of `more` each gets, so that those who get some end with the same."""
    rooms, low = [0] * len(loads), sorted(range(len(loads)), key=loads.__getitem__)
    for count in range(len(low), 0, -1):
        level = (more + sum(loads[at] for at in low[:count])) / count
        if level >= loads[low[count - 1]]:
            for at in low[:count]:
                rooms[at] = int(level) - loads[at]
            rooms[low[0]] += more - sum(rooms)
            break
    return rooms


def nearest_cut(tensors: Sequence[Tensor], starts: dict[int, int], wanted: int) -> int:
    """Where a cut is allowed, in bytes from the start of all."""
    at = max((at for at in starts if starts[at] <= wanted), key=lambda at: (starts[at], at))
    size, itemsize, _ = tensors[at]
    elements = (wanted - starts[at]) / itemsize
    cuts = (min(size, round(elements / BLOCK) * BLOCK), size)
    return starts[at] + itemsize * min(cuts, key=lambda cut: abs(cut - elements))
