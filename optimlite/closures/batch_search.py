"""Line searches for many problems side by side: each trial of all of them is one evaluation of the batch.

The search is `line_search.strong_wolfe` with its bookkeeping in arrays: a bracket [low, far] that extrapolates until it
has a minimum inside, and then closes in on it by cubic interpolation.
"""

from __future__ import annotations

import math

import numpy as np

from .columns import Array, Columns
from .method import MAX_SEARCH_EVALS, MAX_UNRESOLVED

NARROW = 4e-16                   # brackets of this relative width have no float between their ends


class Searches(Columns):
    """A search a column.  A trial ends it that has fallen enough and is flat enough,

        phi(t) <= phi(0) + c1 * t * phi'(0)        and        |phi'(t)| <= c2 * |phi'(0)|

    (`weak`: phi'(t) >= c2 * phi'(0)), where a loss that differs from phi(0) by rounding alone counts as fallen, if the
    slope isn't a rise as steep as the descent was (Hager & Zhang 2005).
    """

    def __init__(self, columns: int, eps: float, c1: float, c2: float, weak: bool) -> None:
        self.eps, self.c1, self.c2, self.weak = eps, c1, c2, weak
        self.loss, self.slope = np.zeros(columns), np.zeros(columns)     # at step 0
        self.step = np.zeros(columns)                                    # the trial
        self.best, self.best_step = np.zeros(columns), np.zeros(columns)
        # step, loss and slope at the ends of the bracket; `far` means nothing before `closed`
        self.low, self.far = np.zeros((3, columns)), np.zeros((3, columns))
        self.closed, self.shrank = np.zeros((2, columns), bool)
        self.trials, self.unresolved = np.zeros((2, columns), np.int64)

    def begin(self, which: Array, loss: Array, slope: Array) -> None:
        """New searches in these columns, with a first trial of 1."""
        for name, value in (("loss", loss), ("slope", slope), ("best", loss), ("best_step", 0.0), ("step", 1.0),
                            ("closed", False), ("shrank", True), ("trials", 0), ("unresolved", 0)):
            np.copyto(getattr(self, name), value, where=which)
        np.copyto(self.low, np.array([np.zeros_like(loss), loss, slope]), where=which)

    def advance(self, loss: Array, slope: Array) -> tuple[Array, Array, Array]:
        """Takes what the trials gave and sets the next ones.

        Returns which searches are over, which of them meet the conditions, and whose trial is the lowest so far.
        """
        fine = np.isfinite(loss) & np.isfinite(slope)
        loss, slope = np.where(fine, loss, np.inf), np.where(fine, slope, np.nan)
        lowest = loss < self.best
        self.best, self.best_step = np.where(lowest, loss, self.best), np.where(lowest, self.step, self.best_step)
        slack = 8.0 * self.eps * abs(self.loss)
        same = abs(loss - self.loss) <= slack                # but for rounding
        fallen = loss <= self.loss + self.c1 * self.step * self.slope
        steepest = np.where(fallen, np.inf, (2.0 * self.c1 - 1.0) * self.slope) if self.weak else -self.c2 * self.slope
        met = (fallen | same) & (slope >= self.c2 * self.slope) & (slope <= steepest)
        self.trials, self.unresolved = self.trials + 1, self.unresolved + same
        self.close_in(np.array([self.step, loss, slope]), ~(fallen | same) | (loss > self.low[1] + slack))
        width = abs(self.far[0] - self.low[0])
        exhausted = self.closed & (width <= NARROW * np.maximum(self.far[0], self.low[0]))
        over = (met | exhausted | (self.trials >= MAX_SEARCH_EVALS) | (self.unresolved >= MAX_UNRESOLVED)
                | ~np.isfinite(self.step))
        return over, met, lowest

    def close_in(self, trial: Array, high: Array) -> None:
        """Puts the trial into the bracket, `high` at its far end, and chooses the next one."""
        low, far, closed = self.low, self.far, self.closed
        width = np.where(closed, far[0] - low[0], 1.0)
        turned = ~high & (trial[2] * width >= 0.0)
        self.low, self.far = np.where(high, low, trial), np.where(high, trial, np.where(turned, low, far))
        self.closed = closed | high | turned
        self.shrank = ~closed | (abs(self.far[0] - self.low[0]) <= 0.66 * abs(width))
        self.step = np.where(self.closed, self.inside(), extrapolated(low, trial))

    def inside(self) -> Array:
        """A step within the bracket: by the cubic, or by halves where that didn't shrink it."""
        (start, _, _), (end, high, _) = self.low, self.far
        width = end - start
        edge = 0.01 * abs(width)
        below, above = np.minimum(start, end) + edge, np.maximum(start, end) - edge
        step = clipped(cubic_minimum(self.low, self.far), below, above, start + 0.5 * width)
        step = np.where(self.shrank, step, start + 0.5 * width)
        return np.where(high == math.inf, start + 0.2 * width, step)     # outside the domain: come back quickly


def cubic_minimum(a: Array, b: Array) -> Array:
    """Where the cubic through two points with their slopes has its minimum; NaN if it has none (N&W 3.59)."""
    gap = b[0] - a[0]
    d1 = a[2] + b[2] - 3.0 * (a[1] - b[1]) / -gap
    d2 = np.copysign(np.sqrt(d1 * d1 - a[2] * b[2]), gap)
    step: Array = b[0] - gap * ((b[2] + d2 - d1) / (b[2] - a[2] + 2.0 * d2))
    return step


def clipped(step: Array, below: Array, above: Array, otherwise: Array) -> Array:
    """`step` clipped to [below, above]; `otherwise` where it is NaN."""
    return np.where(np.isnan(step), otherwise, np.minimum(np.maximum(step, below), above))


def extrapolated(before: Array, trial: Array) -> Array:
    """A longer step than the trial: that of the cubic, if it is one, within a factor of ten."""
    step, guess = trial[0], cubic_minimum(before, trial)
    return clipped(np.where(guess > step, guess, np.nan), 1.1 * step, 10.0 * step, 5.0 * step)
