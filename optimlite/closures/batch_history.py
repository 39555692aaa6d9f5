"""The histories of L-BFGS on many problems: a ring of pairs whose newest place is the same for all of them."""

from __future__ import annotations

import numpy as np

from .columns import Array, Columns, additions, summed


class History(Columns):
    """The last pairs (s, y) of each column, in a ring; a place without a pair has rho = 0 and adds nothing."""

    def __init__(self, shape: tuple[int, int], size: int) -> None:
        self.s, self.y, self.rho = np.zeros((size, *shape)), np.zeros((size, *shape)), np.zeros((size, shape[1]))
        self.newest, self.used = -1, 0

    def push(self, which: Array, alive: Array, s: Array, y: Array, sy: Array) -> None:
        """Takes a pair into these columns, in the place of their oldest; those that aren't alive lose theirs."""
        if not which.any():
            return
        size, others = len(self.rho), (alive & ~which).nonzero()[0]
        self.newest, self.used = (self.newest + 1) % size, min(self.used + 1, size)
        before = np.arange(-1, size - 1)
        for ring, new in ((self.s, s), (self.y, y), (self.rho, 1.0 / sy)):
            turned = ring[..., others][before]   # their newest stays the newest
            ring[self.newest] = new
            ring[..., others] = turned

    def forget(self, which: Array) -> None:
        self.rho[:, which] = 0.0

    @property
    def some(self) -> Array:
        """The columns that have a pair: the newest is the last to go."""
        found: Array = self.rho[self.newest] > 0.0
        return found

    def multiply(self, q: Array, gamma: Array) -> Array:
        """H q, by the two-loop recursion from gamma times the identity."""
        q, terms, factors = q.copy(), np.empty_like(q), []
        of_terms = additions(terms)

        def with_q(a: Array) -> Array:
            return summed(np.multiply(a, q, out=terms), of_terms)

        order = [(self.newest - age) % len(self.rho) for age in range(self.used)]
        for k in order:
            factors.append(self.rho[k] * with_q(self.s[k]))
            q -= np.multiply(factors[-1], self.y[k], out=terms)
        q *= gamma
        for k, a in zip(reversed(order), reversed(factors), strict=True):
            q += np.multiply(a - self.rho[k] * with_q(self.y[k]), self.s[k], out=terms)
        return q
