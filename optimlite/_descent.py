"""The base of L-BFGS and conjugate gradients: a direction from the subclass, a line search along it, when to stop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _check
from ._bounds import Bounds
from ._vectors import Seen, Space, Vector
from .line_search import SEARCHES, Found, Phi
from .optimizer import Group, Optimizer
from .parameter import Parameter

Closure = Callable[[], Any]
MOST = 40                        # evaluations of one line search, after which something else is wrong


@dataclass
class Result:
    """How a step with a closure went: `opt.result`.

    `loss` and `grad_norm` (max |g|, of the projected gradient if there are bounds) belong to the last accepted point at
    which the closure was evaluated; `step` is the last step length t.  `reason` says in words why it stopped, and
    `converged` is True for a tolerance that was met.
    """

    iterations: int = 0
    evaluations: int = 0
    loss: float = math.nan
    grad_norm: float = math.nan
    step: float = 0.0
    converged: bool = False
    reason: str = "still running"


class Stop(Exception):  # noqa: N818 - the normal end of an iteration
    def __init__(self, reason: str, converged: bool = False) -> None:
        self.reason, self.converged = reason, converged


def count(name: str, value: Any) -> int:
    value = _check.number(name, value)
    if value != int(value) or value < 1:
        raise ValueError(f"`{name}` must be an integer >= 1, got {value}")
    return int(value)


def optional_count(name: str, value: Any) -> int | None:
    return None if value is None else count(name, value)


def search(name: str, value: Any) -> Any:
    if callable(value) or (isinstance(value, str) and value in SEARCHES):
        return value
    raise ValueError(f"`{name}` must be a line search function or one of "
                     f"{', '.join(repr(key) for key in SEARCHES)}, got {value!r}")


def optional_search(name: str, value: Any) -> Any:
    return None if value is None else search(name, value)


class Workspace:
    """The vectors that live from step to step: x, the direction d, and three gradients that take turns."""

    def __init__(self, parameters: list[Parameter]) -> None:
        self.space = space = Space(parameters)
        self.x = space.empty()                   # where the line starts
        self.d = space.zeros()
        self.g, self.previous, self.spare = space.zeros(), space.zeros(), space.zeros()
        self.free: Vector | None = None          # the gradient without what bounds stop
        self.scalars: dict[str, np.ndarray] = {}
        self.pending = False                     # a step was made whose change of the gradient isn't known yet
        self.version = -1                        # of the optimizer's state

    def publish(self, entries: Mapping[str, Vector], scalars: Mapping[str, np.ndarray], optimizer: Optimizer) -> None:
        """Makes vectors and scalars the state of the parameters: the very arrays, without a copy."""
        for index, parameter in enumerate(self.space.parameters):
            state = optimizer.state[parameter]
            dict.clear(state)                    # unnoticed: the workspace knows
            dict.update(state, scalars, **{key: vector.arrays[index] for key, vector in entries.items()})

    def adopt(self, key: str, optimizer: Optimizer) -> Vector:
        """The vector whose arrays are in the state, laid out and typed as the parameters are."""
        arrays = []
        for parameter in self.space.parameters:
            array, data = optimizer.state[parameter][key], parameter.data
            if array.shape != data.shape or array.dtype != data.dtype:
                name = optimizer.state.name_of(parameter)
                raise ValueError(f"state `{key}` of '{name}' must be {data.dtype} of shape {data.shape}, "
                                 f"got {array.dtype} of shape {array.shape}")
            same = array.flags.c_contiguous if data.flags.c_contiguous else array.flags.f_contiguous
            if not (same and array.flags.aligned and array.flags.writeable):
                own = np.empty_like(data, subok=False)
                np.copyto(own, array)
                array = own
            arrays.append(array)
        return Vector(arrays)


class Descent(Optimizer):
    """A method that re-evaluates the model: `step(closure)` runs up to `max_iter` iterations.

    A subclass gives `direction` and the names of its vectors in the state.  Hyper-parameters belong to the whole
    optimizer and must be equal in all groups, except `lr`: the largest is the first trial step, and the others are a
    change of variables that gives each group's steepest descent its share (a group of lr 0 stands still).
    """

    def __init__(self, params: Any, defaults: Mapping[str, Any], bounds: Any, callback: Callable[[Result], Any] | None,
                 ) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"`callback` must be callable, got {callback!r}")
        super().__init__(params, defaults)
        self.bounds = None if bounds is None else Bounds(bounds, self)
        self.callback = callback
        self.result = Result()
        self._common()

    def _prepare_to_step(self) -> None:
        super()._prepare_to_step()
        self._work: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "_work"}

    def rule(self, group: Group) -> tuple[str, dict[str, float]]:
        return "", {}                            # no compiled rule and no slots: the state is made as it is needed

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        super().add_param_group(param_group)
        self._work = None

    def _check_states(self, states: list[dict[str, Any]]) -> list[str]:
        keys = {tuple(sorted(entries)) for entries in states}
        return [f"the states belong together and must have the same entries, got {', '.join(map(str, sorted(keys)))}"
                ] if len(keys) > 1 else []

    # What a subclass gives -------------------------------------------------------------------------------------------

    def workspace(self, parameters: list[Parameter]) -> Workspace:
        return Workspace(parameters)

    def direction(self, run: Run) -> tuple[float, float]:
        """Fills `run.work.d` and returns the slope g.d and max |d|."""
        raise NotImplementedError

    def evaluations(self, max_iter: int) -> int:
        """`max_eval` where it isn't given."""
        return max_iter * 5 // 4

    def restart(self, run: Run) -> bool:
        """Forgets what the directions are made from; False if there was nothing to forget."""
        raise NotImplementedError

    def first_trial(self, run: Run, slope: float) -> float:
        raise NotImplementedError

    def search(self, run: Run, phi: Phi, slope: float, step: float, largest: float, max_evals: int) -> Found:
        chosen = run.group["line_search_fn"]
        chosen = SEARCHES[chosen] if isinstance(chosen, str) else chosen
        found: Found = chosen(phi, run.loss, slope, step, max_evals=min(max_evals, MOST))
        return found

    def vectors(self, work: Any) -> dict[str, Vector]:
        """What of the workspace is state, by name."""
        return {"direction": work.d, "prev_grad": work.previous} if work.pending else {}

    def adopt(self, work: Any, names: Iterable[str]) -> None:
        """Takes the vectors from the state into the workspace."""
        if work.pending:
            work.d, work.previous = work.adopt("direction", self), work.adopt("prev_grad", self)

    # Stepping --------------------------------------------------------------------------------------------------------

    def step(self, closure: Closure | None = None, *, grads: Any = None) -> Any:  # type: ignore[override]
        """Runs the method from here for up to `max_iter` iterations and returns the closure's first loss.

        `closure`: clears the gradients, computes and returns the loss, or `(loss, grads)`; called at most `max_eval`
        times.  An exception in it leaves the parameters at the last accepted point.  `self.result` says how it went.
        """
        name = type(self).__name__
        if closure is None or not callable(closure):
            raise TypeError(f"{name}.step needs a closure that computes the loss and its gradients, got {closure!r}")
        if grads is not None:
            raise TypeError(f"{name}.step takes no `grads`, since it evaluates the model several times; "
                            f"return (loss, grads) from the closure")
        if self._updating:
            raise RuntimeError("this optimizer is already stepping in another thread; "
                               "step it from one thread at a time, or use one optimizer per thread")
        self._updating = True
        try:
            return Run(self, closure).all()
        finally:
            self._updating = False

    def _common(self) -> Group:
        """The hyper-parameters, validated; equal in all groups except `lr`."""
        for group in self.param_groups:
            self._check_group(group)
        first = self.param_groups[0]
        for index, group in enumerate(self.param_groups):
            for key in self.defaults:
                if key != "lr" and group[key] != first[key]:
                    raise ValueError(f"`{key}` must be the same in every group of {type(self).__name__}, "
                                     f"got {first[key]!r} and {group[key]!r} in group {index}")
        if self.bounds and first["line_search_fn"] is None:
            raise ValueError("`bounds` need a line search, got line_search_fn=None; use 'strong_wolfe'")
        return {**first, "lr": max(group["lr"] for group in self.param_groups)}

    def _attached(self) -> Any:
        """The workspace, with the state in it: the vectors it had, or those that were loaded."""
        work = self._work
        if work is not None and work.version == self.state.version:
            return work
        parameters = self._parameters()
        work = self.workspace(parameters)
        known = [set(self.state[p]) for p in parameters]
        names = known[0] if known and all(names == known[0] for names in known) else set()
        scalars = self.state[parameters[0]] if names else {}
        work.scalars = {key: np.array(scalars.get(key, initial)) for key, initial in self.scalars.items()}
        work.pending = "prev_grad" in names
        self.adopt(work, names)
        work.version, self._work = self.state.version, work
        return work

    def _publish(self, work: Any) -> None:
        work.publish(self.vectors(work), work.scalars, self)


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
        self.moved = False                       # the parameters are at a trial, not at an accepted point

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

    def here(self, out: Vector) -> Seen:
        """Reads the gradients into `out`; within bounds also what they leave free."""
        return self.space.observe(out, self.sign, self.work.d)

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
        optimizer, work, result = self.optimizer, self.work, self.result
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
            if self.moved:
                self.space.restore(work.x)
            result.loss, result.grad_norm = self.sign * self.loss, self.seen.largest
            optimizer._publish(work)
        return self.first

    def start(self) -> None:
        self.first, self.loss = self.evaluate()
        self.seen = self.freed(self.here(self.work.g))
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
        self.moved = False
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
        self.space.save(work.x)
        self.moved = True
        self.space.move(work.x, step, work.d, self.box)
        if self.result.iterations >= self.group["max_iter"] or self.result.evaluations >= self.max_eval:
            self.moved = False
            work.previous, work.g = work.g, work.previous
            work.pending = True
            work.scalars["t"][...] = step
            last = self.result.iterations >= self.group["max_iter"]
            why = f"max_iter {self.group['max_iter']}" if last else f"max_eval {self.max_eval}"
            raise Stop(f"{why} is reached; the last point was not evaluated")
        _, loss = self.evaluate()
        seen = self.here(work.spare)
        if not (math.isfinite(loss) and math.isfinite(seen.largest)):
            raise Stop(f"the loss ({self.sign * loss:g}) or its gradient isn't finite after the step; "
                       f"use a line search or a smaller `lr`")
        self.accept(work.spare, work.previous, step, loss, seen)

    def along(self, step: float, slope: float, largest: float) -> bool:
        """Searches along d; False, with the parameters where they were, if no better point was found."""
        line = LineOfParameters(self)
        found = self.optimizer.search(self, line, slope, step, largest, self.left)
        return line.settle(found)


class LineOfParameters:
    """phi(t): moves the parameters to x + t * d and evaluates there.  Keeps two gradients: the lowest and the last."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lowest: tuple[float, float, Seen, Vector] | None = None     # step, loss, what was seen, gradient
        self.last: tuple[float, float, Seen, Vector] | None = None
        self.buffers = [run.work.spare, run.work.previous]
        run.space.save(run.work.x)

    def __call__(self, step: float) -> tuple[float, float]:
        run, work = self.run, self.run.work
        run.moved = True
        run.space.move(work.x, step, work.d, run.box)
        _, loss = run.evaluate()
        out = next(vector for vector in self.buffers if self.lowest is None or vector is not self.lowest[3])
        seen = run.here(out)
        if run.box:
            seen = seen._replace(slope=run.space.slope_within(out, work.d, run.box))
        self.last = step, loss, seen, out
        finite = math.isfinite(loss) and math.isfinite(seen.largest)
        if finite and (self.lowest is None or loss < self.lowest[1]):
            self.lowest = self.last
        return loss, seen.slope if finite else math.nan

    def settle(self, found: Found) -> bool:
        run, work = self.run, self.run.work
        if not found.step > 0.0:
            run.space.restore(work.x)
            run.moved = False
            return False
        point = next((p for p in (self.last, self.lowest) if p is not None and p[0] == found.step), None)
        if point is None and run.left > 0:           # neither the last nor the lowest trial: its gradient is gone
            self(found.step)
            point = self.last
        point = point or self.lowest
        assert point is not None
        if self.last is None or point[0] != self.last[0]:
            run.space.move(work.x, point[0], work.d, run.box)
        other = self.buffers[0] if point[3] is self.buffers[1] else self.buffers[1]
        run.accept(point[3], other, point[0], point[1], point[2])
        return True
