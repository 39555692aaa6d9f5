"""A step, and what the linear model says of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Step(NamedTuple):
    """To x, of the length |D p|; `predicted` is how much lower the model's cost is there, `slope` is g.p."""

    x: np.ndarray
    slope: float
    predicted: float
    length: float
    whole: bool                                  # the radius didn't limit it

    def shortened(self, start: np.ndarray, length: float) -> Step:
        """The step from the same start in the same direction with another length, at no cost."""
        part = length / self.length
        curvature = -self.slope - self.predicted         # |J p|² / 2
        return Step(start + part * (self.x - start), part * self.slope, -part * self.slope - part**2 * curvature,
                    length, False)
