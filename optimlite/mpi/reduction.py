"""Sums over ranks, and values back to all of them, in rounds of bounded memory that overlap with adding and copying.

A round takes the next elements of every rank's share.  While its bytes are under way, the round before is summed or put
in place, and the next one is collected.  Nothing is under way during the step, which lies between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ..checks import shown
from ..engine.parameter import Parameter
from ..native.arrays import over_arrays
from .shares import Range, Tensor, assigned

ROOM = 32 << 20                  # bytes of all buffers together; more make no step faster
Flat = np.ndarray                # a parameter's elements, or its gradient's, in the order of the parameter's memory


def check_order(order: Any, ranks: int) -> int:
    """How many leaves an order has, 0 for those that have none; raises for what is no order."""
    if order in ("rank", "fast"):
        return 0
    kind, _, number = order.partition(":") if isinstance(order, str) else ("", "", "")
    leaves = int(number) if number.isdecimal() else 0
    if kind != "leaves" or not leaves or leaves & (leaves - 1):
        raise ValueError(f"`order` must be 'rank', 'fast' or 'leaves:K' with a power of two K, got {shown(order)}")
    if leaves % ranks:
        raise ValueError(f"`order` must have a number of leaves that the ranks divide, got {shown(order)} for {ranks} "
                         f"ranks; use another K, or another number of ranks")
    return leaves


def order_of(data: np.ndarray) -> Any:
    return "F" if data.flags.fnc else "C"


def flat(array: np.ndarray, like: np.ndarray) -> Flat:
    """The elements in the order of a parameter's memory: a view, or a copy where they lie otherwise."""
    return array.reshape(-1, order=order_of(like))


def sent(array: np.ndarray) -> np.ndarray:
    """An array as ranks send it: of 16 bits, which MPI may not know as floats, the bits."""
    return array.view(np.uint16) if array.itemsize == 2 else array


def put_back(parameter: Parameter, elements: Flat) -> None:
    """Ends what has written a parameter's elements, as `flat` gives them."""
    if not parameter.data.flags.forc:
        sent(parameter.data)[...] = elements.reshape(parameter.shape)
    parameter.update_shadow()


class Buffers:
    """Memory that stays from step to step: to get new pages takes nearly as long as to send what is in them."""

    def __init__(self) -> None:
        self.data = np.empty(0, np.uint8)

    def taken(self, dtype: np.dtype, *lengths: int) -> list[np.ndarray]:
        total = sum(lengths) * dtype.itemsize
        if total > self.data.size:
            self.data = np.empty(total, np.uint8)
        elements = self.data[:total].view(dtype)
        return [elements[at:at + length] for at, length in zip(places(lengths), lengths, strict=True)]


class Exchange:
    """The rounds of parameters of one float type."""

    def __init__(self, comm: Any, shares: Sequence[Sequence[Range]], dtype: np.dtype, buffers: Buffers) -> None:
        self.comm, self.dtype, self.buffers, ranks = comm, dtype, buffers, comm.size
        self.mine = shares[comm.rank]
        longest = max(sum(stop - start for _, start, stop in share) for share in shares)
        self.most = max(1, min(longest, ROOM // (4 * ranks * dtype.itemsize)))       # of a rank, in a round
        self.rounds: list[list[list[Range]]] = [[] for _ in range(-(-longest // self.most))]
        for share in shares:
            for number, ranges in enumerate(cut(share, self.most, len(self.rounds))):
                self.rounds[number].append(ranges)

    def _buffers(self, sent: int, received: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Two of each, for rounds that overlap."""
        each = min(2, len(self.rounds))
        found = self.buffers.taken(self.dtype, *[sent] * each, *[received] * each)
        return found[:each], found[each:]

    def reserve(self) -> None:
        """Takes the memory for rounds of any order, so that no rank runs out of it while others wait."""
        self._buffers(self.comm.size * self.most, self.comm.size * self.most)

    def reduce(self, gradients: Sequence[Flat | None], sums: Sequence[Flat | None], order: str) -> None:
        """Sums gradients over ranks into `sums`, which have this rank's ranges; a missing one counts as zeros."""
        rank, ranks, fast = self.comm.rank, self.comm.size, order == "fast"
        begins = {which: start for which, start, _ in self.mine}
        rows = 1 if fast else ranks
        sent, received = self._buffers(ranks * self.most, rows * self.most)

        def begin(number: int) -> Any:
            out, into = sent[number % 2], received[number % 2]
            theirs, at = [length(ranges) for ranges in self.rounds[number]], 0
            for ranges in self.rounds[number]:
                for which, start, stop in ranges:
                    values, piece = gradients[which], out[at:at + stop - start]
                    np.copyto(piece, 0 if values is None else values[start:stop])
                    at += stop - start
            own = theirs[rank]
            if fast:
                return self.comm.Ireduce_scatter(out[:at], into[:own], theirs)
            return self.comm.Ialltoallv([out, (theirs, places(theirs))], [into, ([own] * ranks, places([own] * ranks))])

        def end(number: int) -> None:
            ranges = self.rounds[number][rank]
            own = length(ranges)
            total = add_up(received[number % 2][:own * rows].reshape(rows, own), order)
            for which, start, stop, piece in pieces(ranges, total):
                begun = begins[which]
                np.copyto(to_be_set(sums[which])[start - begun:stop - begun], piece)

        overlapped(len(self.rounds), begin, end)

    def spread(self, values: Sequence[Flat | None]) -> None:
        """Gives every rank the values that others have in their ranges, in place."""
        rank, ranks = self.comm.rank, self.comm.size
        sent, received = self._buffers(self.most, ranks * self.most)

        def begin(number: int) -> Any:
            theirs, out = [length(ranges) for ranges in self.rounds[number]], sent[number % 2]
            for which, start, stop, piece in pieces(self.rounds[number][rank], out):
                np.copyto(piece, to_be_set(values[which])[start:stop])
            return self.comm.Iallgatherv(out[:theirs[rank]], [received[number % 2], (theirs, places(theirs))])

        def end(number: int) -> None:
            at = 0
            for other, ranges in enumerate(self.rounds[number]):
                for which, start, stop, piece in pieces(ranges, received[number % 2][at:]):
                    if other != rank:
                        np.copyto(to_be_set(values[which])[start:stop], piece)
                at += length(ranges)

        overlapped(len(self.rounds), begin, end)


def sum_arrays(comm: Any, given: Sequence[np.ndarray | None], made: Sequence[np.ndarray], order: str = "rank",
               divisor: int = 1) -> None:
    """Puts the sums of all ranks' arrays into others of their shapes, on every rank; a missing one counts as zeros."""
    sums = [reals(flat(array, array)) for array in made]
    values = [None if array is None else reals(flat(array, like)) for array, like in zip(given, made, strict=True)]
    shares, buffers = assigned([Tensor(one.size, one.itemsize, True) for one in sums], comm.size), Buffers()
    for dtype in dict.fromkeys(one.dtype for one in sums):
        exchange = Exchange(comm, [[one for one in share if sums[one.parameter].dtype == dtype] for share in shares],
                            dtype, buffers)
        mine: list[Flat | None] = [None] * len(sums)
        for which, start, stop in exchange.mine:
            mine[which] = sums[which][start:stop]
        exchange.reduce(values, mine, order)
        for part in mine if divisor != 1 else ():
            if part is not None:
                part /= divisor
        exchange.spread(sums)


def reals(elements: Flat) -> Flat:
    return elements.view(elements.real.dtype)


def overlapped(rounds: int, begin: Callable[[int], Any], end: Callable[[int], None]) -> None:
    request: Any = begin(0) if rounds else None
    for number in range(rounds):
        following = begin(number + 1) if number + 1 < rounds else None
        request.Wait()
        end(number)
        request = following


def add_up(parts: np.ndarray, order: str) -> np.ndarray:
    """The sum of the rows, into the first: one after the other, or in a tree of neighbours."""
    stride = 1
    while stride < len(parts):
        for at in range(0, len(parts) - stride, 2 * stride) if order.startswith("leaves") else (0,):
            over_arrays("add", [parts[at]], [parts[at + stride]])
        stride = 2 * stride if order.startswith("leaves") else stride + 1
    total: np.ndarray = parts[0]
    return total


def cut(share: Sequence[Range], most: int, rounds: int) -> list[list[Range]]:
    """A share in pieces for rounds, of `most` elements each; the last are shorter, or empty."""
    found: list[list[Range]] = [[] for _ in range(rounds)]
    at = 0
    for parameter, start, stop in share:
        while start < stop:
            taken = min(stop - start, most - at % most)
            found[at // most].append(Range(parameter, start, start + taken))
            start, at = start + taken, at + taken
    return found


def length(ranges: Sequence[Range]) -> int:
    return sum(stop - start for _, start, stop in ranges)


def places(counts: Sequence[int]) -> list[int]:
    return [0, *accumulate(counts)][:-1]


def pieces(ranges: Sequence[Range], buffer: np.ndarray) -> Iterator[tuple[int, int, int, np.ndarray]]:
    at = 0
    for which, start, stop in ranges:
        yield which, start, stop, buffer[at:at + stop - start]
        at += stop - start


def to_be_set(array: np.ndarray | None) -> np.ndarray:
    assert array is not None                     # of a parameter that has a gradient somewhere, or that is ours
    return array
