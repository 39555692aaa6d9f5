"""What a watched step measures of itself: norms of gradients, weights and updates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..native.arrays import over_arrays, sum_squares
from ..native.plans import Plan, SparsePlan
from ..native.steps import Probe
from .formats import widened
from .groups import Grouped
from .parameter import Parameter
from .sparse_grad import SparseGrad, dense


def collected(optimizer: Grouped) -> dict[str, float]:
    """What `metrics()` returns."""
    found: dict[str, float] = {"steps": optimizer.steps_taken, "skipped_steps": optimizer.skipped_steps}
    groups = optimizer.param_groups
    for index, group in enumerate(groups):
        for name in ("lr", *optimizer.totals(group)):
            if name in group:
                found[name if len(groups) == 1 else f"{name}/{index}"] = float(group[name])
    if optimizer._watch is not None:
        found |= optimizer._watch.measured
    if optimizer.last_grad_norm is not None:     # of the last step, which needn't be the one that was watched
        found["grad_norm"] = optimizer.last_grad_norm
    return found


Row = tuple[Any, float, float, float]            # a parameter; squares of its gradient, of what it was, of how it moved


class Watch:
    """Measures one step in `every`: `before` is called once its gradients are bound, `after` when it is whole."""

    def __init__(self, every: int, by_name: bool, swept: bool) -> None:
        self.every, self.by_name = every, by_name
        self.swept = swept                       # a sweep reads the gradients; else Python does
        self._wait = 0                           # steps until the next one is measured
        self._probe: Probe | None = None         # of this step, if it is measured
        # of the step that was measured last:
        self._at: int | None = None
        self._scale = 1.0
        self._grad_norm: float | None = None
        self._moved: tuple[float, float] | None = None           # squares of weights and updates; None: it was skipped
        self._found: Probe | list[Row] = []      # or rows, where parameters are measured one by one
        self._parameters: list[Any] = []         # those that were measured, and their names
        self._names: list[str] = []
        # squares that no sweep finds: of gradients that Python reads, and of parameters whose gradient is sparse
        self._gradients: dict[Parameter, float] = {}
        self._tables: dict[Parameter, float] = {}

    def before(self, optimizer: Grouped, plans: list[Plan], grad_scale: float, skipped: bool) -> Probe | None:
        """The probe that is to measure this step, if it is its turn."""
        self._probe = None
        if self._wait:
            self._wait -= 1
            return None
        self._wait = self.every - 1
        self._at, self._scale, self._grad_norm = optimizer.steps_taken, grad_scale, optimizer.last_grad_norm
        self._moved, self._found = None, []
        unread = not self.swept or (skipped and self.by_name)
        self._gradients = squares_of_gradients(plans) if unread else {}
        if skipped:
            self._keep(optimizer, [(parameter, square, 0.0, 0.0) for parameter, square in self._gradients.items()])
            return None
        self._tables = {parameter: sum_squares(gapless(widened(parameter.data)))
                        for plan in plans if isinstance(plan, SparsePlan)
                        for parameter in plan.parameters if isinstance(parameter.grad, SparseGrad)}
        self._probe = Probe(self.by_name or bool(self._gradients or self._tables))
        return self._probe

    def after(self, optimizer: Grouped) -> None:
        if self._probe is None:
            return
        found: Probe | list[Row] = self._probe
        sums = [self._probe.gradient, self._probe.before, self._probe.change]
        if self._gradients or self._tables:
            rows = self._probe.rows()
            if self._gradients:
                rows = [*whole_rows(self._gradients, rows)]
            found = [(parameter, gradient, self._tables.get(parameter, before), change)
                     for parameter, gradient, before, change in rows]
            _, *columns = zip(*found, strict=True)
            sums = [*map(sum, columns)]
        if self._grad_norm is None:
            self._grad_norm = self._scale * math.sqrt(sums[0])
        self._moved = sums[1], sums[2]
        self._keep(optimizer, found)

    def _keep(self, optimizer: Grouped, found: Probe | list[Row]) -> None:
        if not self.by_name:
            return
        parameters = found.parameters if isinstance(found, Probe) else [row[0] for row in found]
        if parameters != self._parameters:       # else their names are known
            self._parameters, self._names = parameters, [*map(optimizer.state.name_of, parameters)]
        self._found = found

    @property
    def measured(self) -> dict[str, float]:
        """The numbers of the step that was measured last; a skipped one has no updates."""
        if self._at is None or self._grad_norm is None:
            return {}
        found = {"measured_at": self._at, "grad_norm": self._grad_norm}
        if self._moved is not None:
            found |= norms("", *self._moved)
        rows = self._found.rows() if isinstance(self._found, Probe) else self._found
        for at, (_, gradient, before, change) in enumerate(rows):
            name = self._names[at]
            found[f"grad_norm/{name}"] = self._scale * math.sqrt(gradient)
            if self._moved is not None:
                found |= norms(f"/{name}", before, change)
        return found


def squares_of_gradients(plans: list[Plan]) -> dict[Parameter, float]:
    """The sums of squares of all bound gradients, by parameter; a sparse one is made dense."""
    pairs = [(parameter, plan.gradient(at)) for plan in plans for at, parameter in enumerate(plan.parameters)]
    present = {parameter: in_its_type(parameter, dense(parameter.grad, parameter)
                                      if isinstance(parameter.grad, SparseGrad) else found)
               for parameter, found in pairs if found is not None}
    return dict(zip(present, over_arrays("sum_squares", [*present.values()], by_array=True), strict=True))


def in_its_type(parameter: Parameter, grad: np.ndarray) -> np.ndarray:
    return gapless(np.asarray(widened(grad), parameter.float_type))


def whole_rows(gradients: dict[Parameter, float], found: list[Row]) -> Iterator[Row]:
    """The rows of a whole-matrix step, whose sweeps put state in place, too, and perhaps not every parameter."""
    moved = {id(core.array): squares for core, _, *squares in found}
    for parameter, gradient in gradients.items():
        before, change = moved.get(id(parameter.data)) or (sum_squares(gapless(widened(parameter.data))), 0.0)
        yield parameter, gradient, before, change


def gapless(array: np.ndarray) -> np.ndarray:
    return array if array.flags.forc and array.flags.aligned else array.copy()


def norms(suffix: str, weight: float, update: float) -> dict[str, float]:
    """Norms and their ratio, made of sums of squares."""
    return {f"weight_norm{suffix}": math.sqrt(weight), f"update_norm{suffix}": math.sqrt(update),
            f"update_ratio{suffix}": math.sqrt(update / weight) if weight else math.inf if update else 0.0}
