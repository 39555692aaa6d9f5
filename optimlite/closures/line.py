"""The line along which a search moves the parameters: where they are on it, and phi(t) for any line search."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..checks import shown
from .vectors import GradientProducts, Vector
from .workspace import Workspace


class LinePosition:
    """Where the parameters are: at the last accepted point, or at a step along the direction from it.

    The kernel of the first step also saves the point.  An interrupt may come before that kernel or after it, between
    any two lines: the number of finished kernels tells which.
    """

    def __init__(self, work: Workspace) -> None:
        self.space, self.work = work.space, work
        self.step: float | None = None
        self.before = -1                         # kernels that were finished before the departure; -1: none

    @property
    def away(self) -> bool:
        return 0 <= self.before < self.space.kernels_finished

    def move(self, step: float) -> None:
        space, work = self.space, self.work
        if self.step is None and work.box is None:
            self.before = space.kernels_finished
            space.save_and_move(work.x, step, work.d)
        elif step != self.step:
            if self.step is None:
                space.save(work.x)
                self.before = space.kernels_finished
            space.move(work.x, step, work.d, work.box)
        self.step = step

    def turn_and_move(self, step: float, beta: float) -> tuple[float, float, float]:
        """The direction beta * d - g and the first step along it; returns the direction's d.d, g.d, max |d|."""
        self.before = self.space.kernels_finished
        found = self.space.turn_and_move(self.work.x, step, self.work.d, self.work.g, beta)
        self.step = step
        return found

    def back(self) -> None:
        if self.away:
            self.space.restore(self.work.x)
        self.arrive()

    def arrive(self) -> None:
        """This is the accepted point now."""
        self.before, self.step = -1, None


class Point(NamedTuple):
    """A trial: its step, its loss, and its gradient with what is known of it."""

    step: float
    loss: float
    products: GradientProducts
    gradient: Vector

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.products.largest)


class ParameterLine:
    """phi(t): moves the parameters to x + t * d and evaluates there.  Keeps two gradients: the lowest and the last."""

    def __init__(self, position: LinePosition, evaluate: Callable[[], float],
                 read_gradient: Callable[[Vector, Vector], GradientProducts]) -> None:
        self.position, self.evaluate, self.read_gradient = position, evaluate, read_gradient
        self.work = work = position.work
        self.lowest: Point | None = None
        self.last: Point | None = None
        self.steps: set[float] = set()
        self.buffers = [work.spare, work.previous]

    def __call__(self, step: float) -> tuple[float, float]:
        trial = self.trial(step)
        if trial.finite and (self.lowest is None or trial.loss < self.lowest.loss):
            self.lowest = trial
        return trial.loss, trial.products.slope if trial.finite else math.nan

    def trial(self, step: float) -> Point:
        work = self.work
        self.position.move(step)
        loss = self.evaluate()
        out = next(vector for vector in self.buffers if self.lowest is None or vector is not self.lowest.gradient)
        products = self.read_gradient(out, work.g)
        if work.box is not None:
            products = products._replace(slope=work.slope(out, work.box))
        self.last = Point(step, loss, products, out)
        self.steps.add(step)
        return self.last

    def checked(self, found: Any) -> float:
        """The step that a search found; refuses one that it didn't evaluate."""
        step = getattr(found, "step", None)
        if isinstance(step, bool) or not isinstance(step, (int, float, np.floating)):
            raise TypeError(f"a line search must return a Found with the step, got {shown(found)}")
        if step > 0.0 and step not in self.steps:
            raise ValueError(f"a line search must return a step that it evaluated, got {step}; "
                             f"call phi({step}) before, or return one of {sorted(self.steps)}")
        return float(step)

    def at(self, step: float) -> Point | None:
        """The trial at a step, if its gradient is still there."""
        trials = (self.last, self.lowest) if step > 0.0 else ()
        return next((point for point in trials if point is not None and point.step == step), None)

    def unused(self, point: Point) -> Vector:
        """The buffer that doesn't hold the point's gradient."""
        return self.buffers[0] if point.gradient is self.buffers[1] else self.buffers[1]
