"""Gradients of micro-batches, summed in an aligned binary tree: the sum doesn't depend on how many ranks share it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..native.arrays import over_arrays
from .reduction import Flat

Gradients = list[Flat | None]


class Leaves:
    """The leaves of one rank, `each` for a step; at most log2(each) + 1 partial sums are kept."""

    def __init__(self, each: int) -> None:
        self.each, self.taken = each, 0
        self._sums: list[Gradients] = []

    def check(self) -> None:
        if self.taken == self.each:
            raise ValueError(f"a step takes {self.each} leaves on each rank, got another one; call step()")

    def add(self, gradients: Sequence[Flat | None]) -> None:
        self.check()
        self._sums.append([None if g is None else g.copy() for g in gradients])
        self.taken += 1
        of_two = self.taken
        while of_two % 2 == 0:                   # as many neighbours of equal size have come
            last = self._sums.pop()
            self._sums[-1] = [added(a, b) for a, b in zip(self._sums[-1], last, strict=True)]
            of_two //= 2

    def finished(self, gradients: Sequence[Flat | None]) -> Gradients:
        """The sum of all, the given ones being the last leaf if there is any among them."""
        if self.each == 1 and not self.taken:
            return list(gradients)
        if any(g is not None for g in gradients):
            self.add(gradients)
        if self.taken != self.each:
            raise ValueError(f"a step takes {self.each} leaves on each rank, got {self.taken}; give the gradients of "
                             f"each micro-batch to leaf()")
        return self._sums[0]

    def forget(self) -> None:
        self.taken, self._sums = 0, []


def added(one: Flat | None, other: Flat | None) -> Flat | None:
    """Their sum, in the memory of one of them; what is missing is zeros, to which -0 is added as another number is."""
    if one is None or other is None:
        given = one if other is None else other
        return None if given is None else np.add(given, given.dtype.type(0), out=given)
    over_arrays("add", [one], [other])
    return one
