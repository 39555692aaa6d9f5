"""The box that the unknowns stay in: which of them may move, and steps that end at its sides."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


class Box:
    """low <= x <= high, all of them vectors."""

    def __init__(self, low: Array, high: Array) -> None:
        self.low, self.high = low, high

    def clip(self, x: Array) -> Array:
        return np.asarray(np.clip(x, self.low, self.high))

    def moving(self, x: Array, g: Array) -> Array:
        """Which unknowns aren't at a side that the descent -g presses them against."""
        return (self.low < self.high) & ~((x <= self.low) & (g >= 0) | (x >= self.high) & (g <= 0))

    def active(self, x: Array) -> Array:
        """-1 at the lower side, 1 at the upper one."""
        return (x >= self.high).astype(int) - (x <= self.low)

    def stop(self, end: Array, free: Array) -> bool:
        """Stops what has left the box at its side, where it isn't free any more; whether there was anything.

        What isn't free is at a side: it is put there exactly, since x + (side - x) may be beside it.
        """
        out = free & ((end < self.low) | (end > self.high))
        free &= ~out
        np.copyto(end, np.where(end - self.low <= self.high - end, self.low, self.high), where=~free)
        return bool(out.any())
