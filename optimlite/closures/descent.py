"""One call of `step(closure)`: evaluate, direction, line search, until something says stop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .line import LineOfParameters, Place
from .result import Result, Stop
from .vectors import Seen, Space, Vector

if TYPE_CHECKING:
    from .closure_optimizer import Descent

Closure = Callable[[], Any]


class Run:
    """One call of `step`: the closure and its count, the current point, and the iterations."""

    def __init__(self, optimizer: Descent, closure: Closure) -> None:
        self.optimizer, self.closure = optimizer, closure
        self.group = optimizer._common()
        self.work = optimizer._attached()
        self.space: Space = self.work.space
        top = self.group["lr"]
        rates = [group["lr"] for group in optimizer.param_groups for _ in group["params"]]
        self.space.rescale([math.sqrt(lr / top) for lr in rates] if any(lr != top for lr in rates) else [])
        self.sign = -1.0 if self.group["maximize"] else 1.0
        self.max_eval = self.group["max_eval"] or optimizer.evaluations(self.group["max_iter"])
        # torch's count lets a line search end with one more; where that count is the default, so does ours
        self.most = self.max_eval if self.group["max_eval"] else self.max_eval + 1
        self.box = optimizer.bounds.box(self.space) if optimizer.bounds else None
        if self.box and self.work.free is None:
            self.work.free = self.space.zeros()
        self.result = optimizer.result = Result()
        self.loss = math.nan
        self.seen = Seen(math.nan, math.nan)
        self.first: Any = None
        self.place = Place(self.work, self.box)

    # Evaluating ------------------------------------------------------------------------------------------------------

    def evaluate(self) -> tuple[Any, float]:
        self.result.evaluations += 1
        self.work.scalars["func_evals"] += 1
        loss, grads = self.optimizer._evaluate(self.closure, None)
        if grads is not None:
            self.optimizer._assign(grads)
        return loss, self.sign * float(np.asarray(loss).item())

    @property
    def left(self) -> int:
        return self.most - self.result.evaluations

    def here(self, out: Vector, before: Vector) -> Seen:
        """Reads the gradients into `out`; `before` is the gradient that they come after."""
        return self.optimizer.observe(self, out, before)

    def freed(self, seen: Seen) -> Seen:
        """The same of the gradient that bounds leave free, at the current point."""
        if self.box is None:
            return seen
        return self.space.free_gradient(self.work.free, self.work.g, self.box)._replace(slope=seen.slope)

    @property
    def descent(self) -> Vector:
        """The gradient that directions are made from."""
        vector: Vector = self.work.free if self.box else self.work.g
        return vector

    def first_step(self) -> float:
        """torch's first trial, where nothing is known of the curvature."""
        total = self.space.reduce("sum_abs", self.descent, self.descent)
        return min(1.0, 1.0 / total) * float(self.group["lr"])

    # Iterating -------------------------------------------------------------------------------------------------------

    def all(self) -> Any:
        work, result = self.work, self.result
        if self.box:
            self.space.save(work.x)
            self.space.move(work.x, 0.0, work.x, self.box)
        try:
            self.start()
            while True:
                self.iterate()
        except Stop as stop:
            result.reason, result.converged = stop.reason, stop.converged
        except BaseException as error:
            result.reason = f"the closure or callback raised {type(error).__name__}"
            raise
        finally:
            try:
                self.settle()
            except BaseException:                # an interrupt within
                self.settle()
                raise
        return self.first

    def settle(self) -> None:
        """Leaves the parameters at the last accepted point, and all that is known there in the state."""
        self.place.back()
        self.result.loss, self.result.grad_norm = self.sign * self.loss, self.seen.largest
        self.optimizer._publish(self.work)

    def start(self) -> None:
        self.first, self.loss = self.evaluate()
        self.seen = self.freed(self.here(self.work.g, self.work.previous))
        if not self.optimizer._warned and all(p.grad is None for p in self.space.parameters):
            self.optimizer._warned = True
            warnings.warn("the closure left no gradient: assign p.grad in it, or return (loss, grads)", stacklevel=6)
        if not (math.isfinite(self.loss) and math.isfinite(self.seen.largest)):
            raise Stop(f"the loss ({self.sign * self.loss:g}) or its gradient isn't finite at the start")
        self.check_gradient()

    def check_gradient(self) -> None:
        tolerance = self.group["tolerance_grad"]
        if self.seen.largest <= tolerance:
            raise Stop(f"the gradient is small enough: {self.seen.largest:.3g} <= tolerance_grad {tolerance:g}", True)

    def iterate(self) -> None:
        optimizer, work, tolerance = self.optimizer, self.work, self.group["tolerance_change"]
        self.result.iterations += 1
        work.scalars["n_iter"] += 1
        slope, largest = optimizer.direction(self)
        if not slope < 0.0 and optimizer.restart(self):
            slope, largest = optimizer.direction(self)
        if not slope <= -tolerance:
            raise Stop(f"the slope is small enough: {slope:.3g} > -tolerance_change {-tolerance:g}", slope <= 0.0)
        before = self.loss
        step = optimizer.first_trial(self, slope)
        if self.group["line_search_fn"] is None:
            self.fixed(step)
        elif not self.along(step, slope, largest):
            if optimizer.restart(self):
                return
            raise Stop("the line search found no lower point, even along the steepest descent")
        else:
            step = float(work.scalars["t"])
        self.result.loss, self.result.grad_norm, self.result.step = self.sign * self.loss, self.seen.largest, step
        if optimizer.callback is not None:
            self.call_back()
        self.check_gradient()
        if self.result.iterations >= self.group["max_iter"]:
            raise Stop(f"max_iter {self.group['max_iter']} is reached")
        if self.result.evaluations >= self.max_eval:
            raise Stop(f"max_eval {self.max_eval} is reached")
        if largest * step <= tolerance:
            raise Stop(f"the step is small enough: max |t * d| {largest * step:.3g} <= tolerance_change {tolerance:g}",
                       True)
        if abs(self.loss - before) < tolerance:
            raise Stop(f"the loss changed little enough: {abs(self.loss - before):.3g} < tolerance_change "
                       f"{tolerance:g}", True)

    def call_back(self) -> None:
        self.optimizer._publish(self.work)
        try:
            asked = self.optimizer.callback(self.result)         # type: ignore[misc]
        except StopIteration:
            asked = True
        if asked is True:
            raise Stop("the callback asked to stop")

    def accept(self, gradient: Vector, unused: Vector, step: float, loss: float, seen: Seen) -> None:
        """Makes the point at `step` the current one; `gradient` holds its gradient, `unused` nothing of worth."""
        work = self.work
        self.place.arrive()
        if self.box:                             # the step that was really made
            inverse = np.divide(1.0, self.space.scale, out=np.zeros_like(self.space.scale), where=self.space.scale > 0)
            self.space.run("combine", [work.d, self.space.x, work.x], inverse * [[1.0, -1.0]])
            step = 1.0
        work.previous, work.g, work.spare = work.g, gradient, unused
        work.pending = True
        work.scalars["t"][...] = step
        self.loss, self.seen = loss, self.freed(seen)

    def fixed(self, step: float) -> None:
        """torch's step without a line search: not evaluated after the last iteration."""
        work = self.work
        self.place.move(step)
        if self.result.iterations >= self.group["max_iter"] or self.result.evaluations >= self.max_eval:
            self.place.arrive()
            work.previous, work.g = work.g, work.previous
            work.pending = True
            work.scalars["t"][...] = step
            last = self.result.iterations >= self.group["max_iter"]
            why = f"max_iter {self.group['max_iter']}" if last else f"max_eval {self.max_eval}"
            raise Stop(f"{why} is reached; the last point was not evaluated")
        _, loss = self.evaluate()
        seen = self.here(work.spare, work.g)
        if not (math.isfinite(loss) and math.isfinite(seen.largest)):
            raise Stop(f"the loss ({self.sign * loss:g}) or its gradient isn't finite after the step; "
                       f"use a line search or a smaller `lr`")
        self.accept(work.spare, work.previous, step, loss, seen)

    def along(self, step: float, slope: float, largest: float) -> bool:
        """Searches along d; False, with the parameters where they were, if no better point was found."""
        line = LineOfParameters(self)
        found = self.optimizer.search(self, line, slope, step, largest, self.left)
        return line.settle(found)
