"""L-BFGS on many problems in lockstep: a round is one trial of every problem that still runs.

Everything is float64 and has a column a problem; points are rounded to the type of the unknowns before they are
evaluated, and a step is the difference of two such points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .batch_history import History
from .batch_search import Searches
from .columns import Array, Columns, dot, dots, largest, overlaid
from .progress import PATIENCE
from .result import CONVERGED, LIMIT, NOT_FINITE, STUCK

MOST_DEAD = 8                    # one column in so many may have ended before the others are copied together
Evaluate = Callable[[Array, Array], tuple[Array, Array]]         # (points, problems): losses and gradients


class Options(NamedTuple):
    max_iter: int
    max_eval: int
    tolerance_grad: float
    tolerance_change: float
    tolerance_loss: float
    history_size: int
    lr: float
    c1: float
    c2: float


class Lockstep(Columns):
    """All that is known of the problems that run; `finish(columns, status, reasons)` is called for those that end.

    Columns of problems that have ended stay until they are many: they aren't evaluated, and nothing is read from them.
    """

    def __init__(self, x: Array, dtype: Any, box: tuple[Array, Array] | None, options: Options, evaluate: Evaluate,
                 finish: Callable[[Array, int, list[str]], None]) -> None:
        k = x.shape[1]
        self.options, self.evaluate, self.finish, self.dtype = options, evaluate, finish, dtype
        self.eps = float(np.finfo(dtype).eps)
        self.all_rows, self.x, self.alive = np.arange(k), x, np.ones(k, bool)
        self.boxed = box is not None
        self.box = list(box) if box is not None else []
        self.loss, self.g = np.zeros(k), np.zeros_like(x)
        self.d, self.best_g = np.zeros_like(x), np.zeros_like(x)
        self.gamma = np.zeros(k)                 # the first guess at the inverse Hessian: a number a column
        self.iterations, self.evaluations, self.idle = np.zeros((3, k), np.int64)
        self.lowest, self.scale = np.zeros((2, k))       # the lowest loss seen, and the unit of its decrease
        self.steep = np.zeros(k)                 # max |g|; within bounds max |P(x - g) - x|
        self.history = History(x.shape, options.history_size)
        self.searches = Searches(k, self.eps, options.c1, options.c2, weak=self.boxed)

    def keep(self, chosen: Array) -> None:
        super().keep(chosen)
        self.history.keep(chosen)
        self.searches.keep(chosen)

    @property
    def rows(self) -> Array:
        """The problems that run."""
        return self.all_rows[self.alive]

    # Rounds ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.loss, self.g = self.evaluated(self.x)
        self.lowest, self.scale = self.loss, np.minimum(1.0, abs(self.loss))
        norm = np.sqrt(dot(self.free, self.free))
        self.gamma = self.options.lr / np.where(norm > 0.0, norm, 1.0)
        fine = np.isfinite(self.loss) & np.isfinite(largest(self.g))
        ends = self.end(~fine, NOT_FINITE, lambda i: f"the loss ({self.loss[i]:g}) or its gradient isn't finite at the "
                                                     f"start")
        self.steep = self.steepness()
        ends |= self.end_flat(fine)
        spent = ~ends & (self.evaluations >= self.options.max_eval)
        ends |= self.end(spent, LIMIT, lambda _: f"max_eval {self.options.max_eval} is reached")
        self.turn(~ends, ends)

    def round(self) -> None:
        """One trial of each problem; those that have found their next point take it, and turn."""
        point = self.point(self.searches.step)
        loss, g = self.evaluated(point)
        self.note(loss)
        over, met, lowest = self.searches.advance(loss, dot(self.moving(point), g))
        over = (over | (self.evaluations >= self.options.max_eval)) & self.alive
        if (lowest & ~met).any():
            self.best_g = np.where(lowest, g, self.best_g)
        if not over.any():
            return
        better, ends = over & (met | (self.searches.best < self.loss)), np.zeros_like(over)
        if (better & ~met).any():                # these go back to the lowest of their trials
            point, g = np.where(met, point, self.point(self.searches.best_step)), np.where(met, g, self.best_g)
            loss = np.where(met, loss, self.searches.best)
        if better.any():
            ends = self.accept(better, point, loss, g)
        ends |= self.give_up(over & ~better)
        self.turn(over & ~ends, ends)

    def evaluated(self, point: Array) -> tuple[Array, Array]:
        self.evaluations += 1
        if self.alive.all():
            return self.evaluate(point, self.all_rows)
        loss, g, running = np.full_like(self.loss, np.inf), np.zeros_like(point), self.alive.nonzero()[0]
        loss[running], g[:, running] = self.evaluate(np.take(point, running, axis=1), self.all_rows[running])
        return loss, g

    def note(self, loss: Array) -> None:
        """Counts the evaluations since the last that was lower, to the resolution of the type."""
        lower = np.isfinite(loss) & (loss < self.lowest - 0.25 * self.eps * abs(self.lowest))
        self.idle = np.where(lower, 0, self.idle + 1)
        self.lowest = np.where(lower, loss, self.lowest)

    # Points ----------------------------------------------------------------------------------------------------------

    def point(self, step: Array) -> Array:
        """x + step * d in the type of the unknowns, within the bounds."""
        x: Array = self.x + step * self.d
        if self.boxed:
            x = np.minimum(np.maximum(x, self.box[0]), self.box[1])
        return x if self.dtype == np.float64 else x.astype(self.dtype).astype(np.float64)

    def moving(self, point: Array) -> Array:
        """d, without what has run into its bound."""
        return np.where(self.stopped(point, -self.d), 0.0, self.d) if self.boxed else self.d

    def stopped(self, x: Array, g: Array) -> Array:
        """Where a bound stops the descent along g."""
        low, high = self.box
        at: Array = ((x <= low) & (g > 0.0)) | ((x >= high) & (g < 0.0))
        return at

    @property
    def free(self) -> Array:
        """The gradient without what bounds stop."""
        return np.where(self.stopped(self.x, self.g), 0.0, self.g) if self.boxed else self.g

    def steepness(self) -> Array:
        if not self.boxed:
            return largest(self.g)
        low, high = self.box
        return largest(np.minimum(np.maximum(self.g, self.x - high), self.x - low))

    # Iterations ------------------------------------------------------------------------------------------------------

    def turn(self, which: Array, ends: Array) -> None:
        """Forgets the problems that ended, and begins a search along a new direction in these columns."""
        self.alive &= ~ends
        dead = len(ends) - np.count_nonzero(self.alive)
        if dead * MOST_DEAD >= len(ends):
            chosen = np.flatnonzero(self.alive)
            which = which[chosen]
            self.keep(chosen)
        if not which.any():
            return
        free = self.free
        d = 0.0 - self.history.multiply(free, self.gamma)        # never -0: its sign would depend on other columns
        if self.boxed:
            d = np.where(self.stopped(self.x, -d) | self.stopped(self.x, self.g), 0.0, d)
        slope = dot(d, self.g)
        uphill = which & ~(slope < 0.0)
        if uphill.any():
            self.history.forget(uphill)
            d = np.where(uphill, 0.0 - self.gamma * free, d)
            slope = dot(d, self.g)
        self.d = overlaid(d, self.d, (self.alive & ~which).nonzero()[0])
        self.iterations += which
        self.searches.begin(which, self.loss, slope)
        self.alive &= ~self.end(which & ~(slope < 0.0), STUCK,
                                lambda i: f"no direction descends: the slope is {slope[i]:.3g}")

    def accept(self, which: Array, point: Array, loss: Array, g: Array) -> Array:
        """Moves these columns to their new points; returns which of them are done."""
        s, y = point - self.x, g - self.g
        if self.boxed:
            y = np.where(s == 0.0, 0.0, y)       # so that the history describes the free ones
        sy, ss, yy = dots((s, y), (s, s), (y, y))
        good = which & (sy > self.eps * np.sqrt(ss) * np.sqrt(yy)) & (sy > 0.0)
        before, size = self.loss, np.maximum(np.maximum(abs(self.loss), abs(loss)), self.scale)
        others = (self.alive & ~which).nonzero()[0]
        self.x, self.loss, self.g = (overlaid(new, old, others)
                                     for new, old in ((point, self.x), (loss, self.loss), (g, self.g)))
        self.history.push(good, self.alive, s, y, sy)
        self.gamma = np.where(good, sy / yy, self.gamma)
        alone = which & ~good & ~self.history.some
        if alone.any():
            norm = np.sqrt(dot(self.free, self.free))
            self.gamma = np.where(alone & (norm > 0.0), np.sqrt(ss) / norm, self.gamma)
        return self.stops(which, before - self.loss, size, largest(s))

    def give_up(self, which: Array) -> Array:
        """Searches that found nothing lower: once more along the steepest descent, if that wasn't it."""
        if not which.any():
            return which
        spent = which & (self.evaluations >= self.options.max_eval)
        stuck = which & ~spent & ~(self.history.some & which)
        ends = self.end(spent, LIMIT, lambda _: f"max_eval {self.options.max_eval} is reached, within a line search "
                                                f"that had found no lower point")
        ends |= self.end(stuck, STUCK, lambda _: "the line search found no lower point, even along the steepest "
                                                 "descent")
        self.history.forget(which)
        return ends

    # Stopping --------------------------------------------------------------------------------------------------------

    def end(self, which: Array, status: int, reason: Callable[[int], str]) -> Array:
        columns = which.nonzero()[0]
        if len(columns):
            self.finish(columns, status, [reason(column) for column in columns.tolist()])
        return which

    def end_flat(self, which: Array) -> Array:
        steep, most = self.steep, self.options.tolerance_grad
        return self.end(which & (steep <= most), CONVERGED,
                        lambda i: f"the gradient is small enough: {steep[i]:.3g} <= tolerance_grad {most:g}")

    def stops(self, which: Array, fall: Array, size: Array, moved: Array) -> Array:
        """Which of these columns are done, with their reasons: the first that holds, in the order of `minimize`."""
        o, before = self.options, self.steep
        self.steep = self.steepness()
        ends = self.end_flat(which)
        relative = fall / np.where(size > 0.0, size, 1.0)
        tests = (
            (self.iterations >= o.max_iter, LIMIT, lambda _: f"max_iter {o.max_iter} is reached"),
            (self.evaluations >= o.max_eval, LIMIT, lambda _: f"max_eval {o.max_eval} is reached"),
            (moved <= o.tolerance_change, CONVERGED,
             lambda i: f"the step is small enough: max |t * d| {moved[i]:.3g} <= tolerance_change "
                       f"{o.tolerance_change:g}"),
            (abs(fall) < o.tolerance_change, CONVERGED,
             lambda i: f"the loss changed little enough: {abs(fall[i]):.3g} < tolerance_change "
                       f"{o.tolerance_change:g}"),
            ((relative <= o.tolerance_loss) & (o.tolerance_loss > 0.0) & (self.steep <= before), CONVERGED,
             lambda i: f"the loss fell little enough: by {relative[i]:.3g} of itself <= tolerance_loss "
                       f"{o.tolerance_loss:g}"),
            (self.idle >= PATIENCE, CONVERGED, lambda _: f"{PATIENCE} evaluations brought no lower loss"))
        going = which & ~ends
        for holds, status, reason in tests:
            if (found := going & holds).any():
                ends, going = ends | self.end(found, status, reason), going & ~found
        return ends
