"""The loop of `step(closure)`: evaluate, direction, line search, until something says stop.  It knows no Optimizer."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..checks import real, shown
from .line import LinePosition, ParameterLine
from .method import MAX_SEARCH_EVALS, Direction, Method
from .progress import PATIENCE, Progress
from .result import ASKED, CONVERGED, LIMIT, NOT_FINITE, STUCK, Result, Stop
from .vectors import GradientProducts, Vector

NO_GRADIENT = "the closure left no gradient: assign p.grad in it, or return (loss, grads)"


class Descent:
    """One call of `step`: the model and the count of its evaluations, the current point, and the iterations.

    `model()` returns the loss and leaves the gradients in the parameters; `publish()` makes the vectors the state.
    """

    def __init__(self, method: Method, options: Mapping[str, Any], result: Result, model: Callable[[], Any],
                 publish: Callable[[], None], callback: Callable[[Result], Any] | None = None) -> None:
        self.method, self.options, self.result = method, options, result
        self.model, self.publish, self.callback = model, publish, callback
        self.work, self.space = method.work, method.space
        self.sign = -1.0 if options["maximize"] else 1.0
        self.max_eval: int = options["max_eval"] or method.evaluations(options["max_iter"])
        # By default a search that has begun may come to its end; torch's takes one evaluation more at most.
        overrun = 1 if method.follows_torch else MAX_SEARCH_EVALS
        self.search_limit: int = options["max_eval"] or self.max_eval + overrun
        self.position = LinePosition(self.work)
        self.under_way = False                   # an iteration
        self.first: Any = None                   # the loss as the first evaluation returned it
        self.loss = math.nan
        self.seen = GradientProducts(math.nan, math.nan)
        self.progress = Progress(self.work.scalars, self.space.eps)

    def run(self) -> Any:
        result = self.result
        try:
            self.start()
            while True:
                self.iterate()
        except Stop as stop:
            result.reason, result.status, result.converged = stop.reason, stop.status, stop.status == CONVERGED
        except BaseException as error:
            result.reason = f"the closure or callback raised {type(error).__name__}"
            if self.under_way:                   # the iteration will begin once more
                self.work.count("n_iter", -1)
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
        self.method.settle(self.position.away)
        self.position.back()
        self.result.loss, self.result.grad_norm = self.sign * self.loss, self.seen.largest
        self.publish()

    # Evaluating ------------------------------------------------------------------------------------------------------

    def evaluate(self) -> float:
        """The loss where the parameters are, to be made small."""
        self.result.evaluations += 1
        self.work.count("func_evals")
        loss = self.model()
        if self.result.evaluations == 1:
            self.first = loss
        value = self.sign * real_loss(loss)
        if self.work.orthants is not None:
            value += self.work.orthants.norm()
        if self.result.evaluations > 1:
            self.progress.note(value)
        return value

    @property
    def evaluations_left(self) -> int:
        return self.search_limit - self.result.evaluations

    def start(self) -> None:
        self.loss = self.evaluate()
        self.progress.begin(self.loss)
        self.seen = self.work.project(self.method.read_gradient(self.work.g, self.work.previous))
        if self.space.parameters and all(parameter.grad is None for parameter in self.space.parameters):
            raise Stop(NO_GRADIENT)
        if not (math.isfinite(self.loss) and math.isfinite(self.seen.largest)):
            raise Stop(f"the loss ({self.sign * self.loss:g}) or its gradient isn't finite at the start",
                       NOT_FINITE)
        self.check_gradient()
        if self.options["lr"] == 0.0:
            raise Stop("`lr` is 0 in every group, so that nothing moves")

    # Iterating -------------------------------------------------------------------------------------------------------

    def iterate(self) -> None:
        self.result.iterations += 1
        self.work.count("n_iter")
        self.under_way = True
        before, steepest, direction = self.loss, self.seen.largest, self.direction()
        step = direction.trial
        if self.options["line_search_fn"] is None:
            self.fixed_step(step)
        elif self.line_search_step(direction):
            step = float(self.work.scalars["t"])
        else:
            return
        self.result.loss, self.result.grad_norm, self.result.step = self.sign * self.loss, self.seen.largest, step
        if self.callback is not None:
            self.call_back()
        self.check_gradient()
        self.check_limits()
        self.check_changes(direction.largest * step, before, steepest)

    def direction(self) -> Direction:
        tolerance = self.options["tolerance_change"]
        direction = self.method.direction(self.seen, self.position)
        if not direction.slope < 0.0:
            self.position.back()                 # a method may have made the first step already
            if self.method.restart():
                direction = self.method.direction(self.seen, self.position)
        if not (direction.slope < 0.0 and direction.slope <= -tolerance):
            raise Stop(f"the slope is small enough: {direction.slope:.3g} > -tolerance_change {-tolerance:g}",
                       CONVERGED if direction.slope <= 0.0 else STUCK)
        return direction

    def line_search_step(self, direction: Direction) -> bool:
        """Searches along d; False, with the parameters where they were, if there is another direction to try."""
        line, step = ParameterLine(self.position, self.evaluate, self.method.read_gradient), 0.0
        if -math.inf < direction.slope and 0.0 < direction.trial < math.inf and self.evaluations_left > 0:
            step = line.checked(self.method.search(line, self.loss, direction.slope, direction.trial,
                                                   direction.largest, self.evaluations_left))
        point = line.at(step)
        if point is None and step > 0.0:         # only the gradients of the last and the lowest are kept
            point = line.trial(step) if self.evaluations_left > 0 else line.lowest
        if point is not None and point.finite:
            self.position.move(point.step)
            self.accept(point.gradient, line.unused(point), point.step, point.loss, point.products)
            return True
        self.position.back()
        forgot = self.method.restart()
        if self.evaluations_left <= 0:
            raise Stop(f"max_eval {self.max_eval} is reached, within a line search that had found no lower point",
                       LIMIT)
        if not forgot:
            raise Stop("the line search found no lower point"
                       + ("" if self.method.follows_torch else ", even along the steepest descent"))
        return False

    def accept(self, gradient: Vector, unused: Vector, step: float, loss: float, seen: GradientProducts) -> None:
        """Makes the point at `step` the current one; `gradient` holds its gradient, `unused` may be overwritten."""
        work, self.under_way = self.work, False
        self.position.arrive()
        if work.box is not None and self.method.keeps_steps:         # the step that was really made
            self.space.displacement(work.d, work.x)
            step = 1.0
        work.previous, work.g, work.spare = work.g, gradient, unused
        work.pending = True
        work.scalars["t"][...] = step
        self.loss, self.seen = loss, work.project(seen)
        self.progress.accept(loss)

    def fixed_step(self, step: float) -> None:
        """torch's step without a line search: not evaluated after the last iteration."""
        work, result = self.work, self.result
        self.position.move(step)
        last = result.iterations >= self.options["max_iter"]
        if (last and not self.method.within_steps) or result.evaluations >= self.max_eval:
            self.position.arrive()
            work.previous, work.g = work.g, work.previous
            work.pending = not self.method.within_steps
            work.scalars["t"][...] = step
            why = f"max_iter {self.options['max_iter']}" if last else f"max_eval {self.max_eval}"
            raise Stop(f"{why} is reached; the last point was not evaluated", LIMIT)
        loss = self.evaluate()
        seen = self.method.read_gradient(work.spare, work.g)
        if not (math.isfinite(loss) and math.isfinite(seen.largest)):
            raise Stop(f"the loss ({self.sign * loss:g}) or its gradient isn't finite after the step; "
                       f"use a line search or a smaller `lr`", NOT_FINITE)
        self.accept(work.spare, work.previous, step, loss, seen)

    # Stopping --------------------------------------------------------------------------------------------------------

    def call_back(self) -> None:
        self.publish()
        try:
            asked = self.callback(self.result)           # type: ignore[misc]
        except StopIteration:
            asked = True
        if isinstance(asked, (bool, np.bool_)) and asked:
            raise Stop("the callback asked to stop", ASKED)

    def check_gradient(self) -> None:
        tolerance = self.options["tolerance_grad"]
        if self.seen.largest <= tolerance:
            raise Stop(f"the gradient is small enough: {self.seen.largest:.3g} <= tolerance_grad {tolerance:g}",
                       CONVERGED)

    def check_limits(self) -> None:
        if self.result.iterations >= self.options["max_iter"]:
            raise Stop(f"max_iter {self.options['max_iter']} is reached", LIMIT)
        if self.result.evaluations >= self.max_eval:
            raise Stop(f"max_eval {self.max_eval} is reached", LIMIT)

    def check_changes(self, moved: float, before: float, steepest: float) -> None:
        if self.work.orthants is not None and self.work.orthants.turned:
            return                               # the step was cut short at 0: its size tells nothing
        tolerance, change = self.options["tolerance_change"], abs(self.loss - before)
        if moved <= tolerance:
            raise Stop(f"the step is small enough: max |t * d| {moved:.3g} <= tolerance_change {tolerance:g}",
                       CONVERGED)
        if change < tolerance:
            raise Stop(f"the loss changed little enough: {change:.3g} < tolerance_change {tolerance:g}",
                       CONVERGED)
        tolerance, change = self.options["tolerance_loss"] or 0.0, self.progress.relative(before, self.loss)
        # a gradient that grows is the sign of a saddle point, which the next steps leave
        if tolerance > 0.0 and change <= tolerance and self.seen.largest <= steepest:
            raise Stop(f"the loss fell little enough: by {change:.3g} of itself <= tolerance_loss {tolerance:g}",
                       CONVERGED)
        if self.progress.spent and not self.method.follows_torch:
            raise Stop(f"{PATIENCE} evaluations brought no lower loss", CONVERGED)


def stepper(now: tuple[int, int] | None, name: str, within: str) -> tuple[int, int]:
    """This process and thread, which step from now on; refused while a call of `step` is under way in this process."""
    found = os.getpid(), threading.get_ident()
    if now is not None and now[0] == found[0]:   # else left over by a fork
        if now == found:
            raise RuntimeError(f"{name}.step was called from within its own {within}; "
                               f"the closure only computes the loss and its gradients")
        raise RuntimeError("this optimizer is already stepping in another thread; "
                           "step it from one thread at a time, or use one optimizer per thread")
    return found


def real_loss(loss: Any) -> float:
    """A closure's loss as a float; refuses what isn't one real number."""
    if isinstance(loss, float):
        return float(loss)
    if loss is None:
        raise TypeError("the closure must return the loss or (loss, grads), got None; is a `return` missing?")
    if isinstance(loss, list):
        raise TypeError(f"the closure must return the loss or a tuple (loss, grads), got a list, {shown(loss)}")
    if isinstance(loss, tuple):                  # where gradients are differences
        raise TypeError(f"the loss must be a single number, got a tuple of {len(loss)}; return the loss alone, or with "
                        f"its gradient where that isn't found by differences (`minimize` takes jac=True)")
    value = np.asarray(loss)
    if value.size != 1:
        raise ValueError(f"the loss must be a single number, got an array of shape {value.shape}; sum it")
    if value.dtype.kind not in "fiuO":
        cure = "; return its real part" if value.dtype.kind == "c" else ""
        raise TypeError(f"the loss must be a real number, got {shown(loss)}{cure}")
    return real(value.item(), "the loss must be a real number")
