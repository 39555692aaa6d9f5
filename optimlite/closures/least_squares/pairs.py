"""What conjugate gradients have found out of J^T J, as a preconditioner for the next model (Morales & Nocedal 2000)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .robust_losses import dot

Array = np.ndarray


class Pair(NamedTuple):
    """A step d of the iteration, y = J^T J d, and d.y."""

    d: Array
    y: Array
    product: float


def inverse(pairs: tuple[Pair, ...], s: Array, D: Array) -> Array:
    """H s, where H is the inverse of J^T J that L-BFGS would make of the pairs, beginning from D^-2."""
    z, parts = s.copy(), []
    for d, y, product in reversed(pairs):
        parts.append(dot(d, z) / product)
        z -= parts[-1] * y
    z /= D**2
    if pairs:
        y = pairs[-1].y / D
        z *= pairs[-1].product / max(dot(y, y), np.finfo(float).tiny)
    for (d, y, product), part in zip(pairs, reversed(parts), strict=True):
        z += (part - dot(y, z) / product) * d
    return z


class Gathered:
    """At most `size` pairs of one iteration, evenly spread over it."""

    def __init__(self, size: int) -> None:
        self.size, self.stride, self.count = size, 1, 0
        self.pairs: list[Pair] = []

    def add(self, step: float, d: Array, before: Array, after: Array, gamma: float) -> None:
        """After a step along d, by which the steepest descent of the model went from `before` to `after`."""
        self.count += 1
        if not self.size or self.count % self.stride or not step * gamma > np.finfo(float).tiny:
            return
        if len(self.pairs) == self.size:
            self.pairs = self.pairs[::2]
            self.stride *= 2
        self.pairs.append(Pair(step * d, before - after, step * gamma))

    def after(self, older: tuple[Pair, ...]) -> tuple[Pair, ...]:
        return (*older, *self.pairs)[-self.size:] if self.size else ()
