"""What a step measures of itself where that was asked for: norms of gradients, weights and updates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..native import dispatch
from ..native.arrays import blocks_of
from ..native.plans import Plan
from ..native.vectors import Vector
from .formats import widened
from .gradient_options import bound_norm
from .parameter import Parameter, laid_out
from .sparse_grad import SparseGrad

if TYPE_CHECKING:
    from .optimizer import Optimizer


def collected(optimizer: Optimizer) -> dict[str, float]:
    """What `metrics()` returns."""
    found: dict[str, float] = {"steps": optimizer.steps_taken, "skipped_steps": optimizer.skipped_steps}
    groups = optimizer.param_groups
    for index, group in enumerate(groups):
        for name in ("lr", *optimizer.totals(group)):
            if name in group:
                found[name if len(groups) == 1 else f"{name}/{index}"] = float(group[name])
    if optimizer.last_grad_norm is not None:
        found["grad_norm"] = optimizer.last_grad_norm
    watch = optimizer._watch
    return found if watch is None else found | watch.measured


class Watch:
    """Measures one step in `every`: `before` and `after` are called around it, once its gradients are bound."""

    def __init__(self, every: int, by_name: bool) -> None:
        self.every, self.by_name = every, by_name
        self._wait = 0                           # steps until the next one is measured
        self._space: Space | None = None
        self._in_step = False
        self._at, self._grad_norm, self._scale = 0, math.nan, 1.0
        self._squares: list[list[float]] = []    # of gradients, weights, updates: of each parameter

    def before(self, optimizer: Optimizer, plans: list[Plan], grad_scale: float) -> None:
        self._in_step = not self._wait
        if self._wait:
            self._wait -= 1
            return
        self._wait = self.every - 1
        pairs = [pair for plan in plans
                 for pair in bound(plan)]
        parameters = [parameter for parameter, _ in pairs]
        if self._space is None or self._space.parameters != parameters:
            self._space = Space(parameters, [optimizer.state.name_of(parameter) for parameter in parameters])
        norm = optimizer.last_grad_norm
        self._at, self._scale = optimizer.steps_taken, grad_scale
        self._grad_norm = grad_scale * bound_norm(plans) if norm is None else norm
        self._squares = [self._space.squares(dense(pairs)) if self.by_name else []]
        self._space.keep()

    def after(self) -> None:
        if self._in_step:
            assert self._space is not None
            self._squares += self._space.updates()

    @property
    def measured(self) -> dict[str, float]:
        """The numbers of the step that was measured last; a skipped one has no updates."""
        if self._space is None:
            return {}
        found = {"measured_at": self._at, "grad_norm": self._grad_norm}
        gradients, *others = self._squares
        if others:
            found |= rows("", *(math.sqrt(sum(squares)) for squares in others))
        for at, name in enumerate(self._space.names if self.by_name else ()):
            found[f"grad_norm/{name}"] = self._scale * math.sqrt(gradients[at])
            if others:
                found |= rows(f"/{name}", *(math.sqrt(squares[at]) for squares in others))
        return found


class Space:
    """The parameters that have a gradient, and room for what they were before the step."""

    def __init__(self, parameters: list[Parameter], names: list[str]) -> None:
        self.parameters, self.names = parameters, names
        data = [parameter.data.view(np.ndarray) for parameter in parameters]
        current = [array if array.flags.forc and not p.half else laid_out(array, dtype=p.float_type)
                   for array, p in zip(data, parameters, strict=True)]
        self.blocks = blocks_of(current)
        self.strided = [(copy, array) for copy, array in zip(current, data, strict=True) if copy is not array]
        self.current = Vector(current)
        self.old = Vector([laid_out(array) for array in current])

    def keep(self) -> None:
        self._gather()
        self._run("copy", [self.old, self.current])

    def updates(self) -> list[list[float]]:
        """The sums of squares of the parameters as they were, and of what they have moved by."""
        weights = self._run("sum_squares", [self.old], by_array=True)
        self._gather()
        self._run("scale", [self.old], -1.0)
        self._run("add", [self.old, self.current])
        return [weights, self._run("sum_squares", [self.old], by_array=True)]

    def squares(self, arrays: list[np.ndarray]) -> list[float]:
        return self._run("sum_squares", [Vector(arrays)], by_array=True)

    def _gather(self) -> None:
        for copy, array in self.strided:
            np.copyto(copy, widened(array))

    def _run(self, name: str, vectors: list[Vector], c: float = 0.0, by_array: bool = False) -> list[float]:
        return self.blocks.run(dispatch.vector_kernels(name, dispatch.level), vectors, np.array([[c]]),
                               by_array=by_array)


def bound(plan: Plan) -> Iterator[tuple[Parameter, np.ndarray | SparseGrad]]:
    """The parameters of a plan that have a gradient, with that gradient as kernels read it."""
    for at, parameter in enumerate(plan.parameters):
        if (gradient := plan.gradient(at)) is not None:
            yield parameter, gradient


def dense(pairs: list[tuple[Parameter, np.ndarray | SparseGrad]]) -> list[np.ndarray]:
    """The gradients in their parameters' types and without gaps; sparse ones as the tables that they stand for."""
    return [dense_gradient(parameter, gradient) for parameter, gradient in pairs]


def dense_gradient(parameter: Parameter, gradient: np.ndarray | SparseGrad) -> np.ndarray:
    dtype = parameter.float_type
    if isinstance(gradient, np.ndarray) and gradient.flags.forc and gradient.dtype == dtype:
        return gradient
    given = parameter.grad
    made = given.to_dense(len(parameter)) if isinstance(given, SparseGrad) else widened(gradient)
    return np.asarray(made, dtype, order="C")


def rows(suffix: str, weight: float, update: float) -> dict[str, float]:
    return {f"weight_norm{suffix}": weight, f"update_norm{suffix}": update,
            f"update_ratio{suffix}": update / weight if weight else math.inf if update else 0.0}
