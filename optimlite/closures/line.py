"""The line along which a search moves the parameters: where they are on it, and phi(t) for any line search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .line_search import Found
from .vectors import Seen, Vector
from .workspace import Workspace

if TYPE_CHECKING:
    from .descent import Run


class Place:
    """Where the parameters are: at the last accepted point, or at a step along the direction from it.

    The kernel of the first step also saves the point.  An interrupt may come before that kernel or after it, between
    any two lines: what tells is how many kernels are through.
    """

    def __init__(self, work: Workspace, box: tuple[Vector, Vector] | None) -> None:
        self.space, self.work, self.box = work.space, work, box
        self.step: float | None = None
        self.before = -1                         # kernels that were through before the departure; -1: none

    @property
    def away(self) -> bool:
        return 0 <= self.before < self.space.pieces.runs

    def move(self, step: float) -> None:
        space, work = self.space, self.work
        if self.step is None and self.box is None:
            self.before = space.pieces.runs
            space.depart(work.x, step, work.d)
        elif step != self.step:
            if self.step is None:
                space.save(work.x)
                self.before = space.pieces.runs
            space.move(work.x, step, work.d, self.box)
        self.step = step

    def launch(self, step: float, beta: float) -> tuple[float, float, float]:
        """The direction beta * d - g and the first step along it; returns the direction's d.d, g.d, max |d|."""
        self.before = self.space.pieces.runs
        found = self.space.launch(self.work.x, step, self.work.d, self.work.g, beta)
        self.step = step
        return found

    def back(self) -> None:
        if self.away:
            self.space.restore(self.work.x)
        self.arrive()

    def arrive(self) -> None:
        """This is the accepted point now."""
        self.before, self.step = -1, None


class LineOfParameters:
    """phi(t): moves the parameters to x + t * d and evaluates there.  Keeps two gradients: the lowest and the last."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lowest: tuple[float, float, Seen, Vector] | None = None     # step, loss, what was seen, gradient
        self.last: tuple[float, float, Seen, Vector] | None = None
        self.buffers = [run.work.spare, run.work.previous]

    def __call__(self, step: float) -> tuple[float, float]:
        run, work = self.run, self.run.work
        run.place.move(step)
        _, loss = run.evaluate()
        out = next(vector for vector in self.buffers if self.lowest is None or vector is not self.lowest[3])
        seen = run.here(out, work.g)
        if run.box:
            seen = seen._replace(slope=run.space.slope_within(out, work.d, run.box))
        self.last = step, loss, seen, out
        finite = math.isfinite(loss) and math.isfinite(seen.largest)
        if finite and (self.lowest is None or loss < self.lowest[1]):
            self.lowest = self.last
        return loss, seen.slope if finite else math.nan

    def settle(self, found: Found) -> bool:
        """Takes the point that was found; False, with the parameters where the line starts, if there is none."""
        run = self.run
        if not found.step > 0.0:
            run.place.back()
            return False
        point = next((p for p in (self.last, self.lowest) if p is not None and p[0] == found.step), None)
        if point is None and run.left > 0:           # neither the last nor the lowest trial: its gradient is gone
            self(found.step)
            point = self.last
        point = point or self.lowest
        assert point is not None
        run.place.move(point[0])
        other = self.buffers[0] if point[3] is self.buffers[1] else self.buffers[1]
        run.accept(point[3], other, point[0], point[1], point[2])
        return True
