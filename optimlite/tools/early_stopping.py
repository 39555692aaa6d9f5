"""Stopping a run when a metric has not improved for a while, and going back to its best state."""

from __future__ import annotations

import math
from typing import Any

from ..checks import checked, count, nonnegative, one_of, real
from ..engine import nesting
from ..engine.method import parameters_of
from ..engine.optimizer import Optimizer
from .snapshot import Snapshot


class EarlyStopping:
    """Says when a metric has stopped improving, and keeps the best parameters and the optimizer's state of that moment.

    target: the optimizer, whose parameters and state are kept, or parameters in any nesting.
    patience: how many values in a row may fail to improve.    min_delta: by how much a value must be better to count.
    mode: "min" for a loss, "max" for an accuracy.

    NaN is never an improvement.  `best` and `best_step` are the best value and its number, from 0; `wait` counts the
    values since then.  The copy takes the memory of the parameters and their state once more.  Raises ValueError for a
    `patience` below 1, a negative `min_delta` and another `mode`, and TypeError for a value that isn't a number.

        >>> w = np.array([4.0])
        >>> opt = ol.SGD([w], lr=0.1)
        >>> stopping = ol.EarlyStopping(opt, patience=2)
        >>> for loss in (3.0, 2.0, 2.5, 2.5, 2.5):
        ...     w -= 1
        ...     if stopping.step(loss):
        ...         break
        >>> stopping.restore()
        >>> w, stopping.best, stopping.best_step
        (array([2.]), 2.0, 1)
    """

    @checked
    def __init__(self, target: Any, patience: int = 10, min_delta: float = 0.0, mode: str = "min") -> None:
        self.patience: int = count("patience", patience)
        self.min_delta: float = nonnegative("min_delta", min_delta)
        self.mode: str = one_of("min", "max")("mode", mode)
        self._optimizer = target if isinstance(target, Optimizer) else None
        self._parameters = [] if self._optimizer else nesting.as_parameters(nesting.read(target))[0]
        self._snapshot: Snapshot | None = None
        self.best, self.best_step, self.wait = math.nan, -1, 0
        self._steps = 0

    def step(self, value: float) -> bool:
        """Takes the next value of the metric; True when it is time to stop."""
        value = real(value, "`value` must be a number")
        if self._improves(value):
            self.best, self.best_step, self.wait = value, self._steps, 0
            self._keep()
        else:
            self.wait += 1
        self._steps += 1
        return self.wait >= self.patience

    def restore(self) -> None:
        """Puts the best parameters and the optimizer's state of then in place; RuntimeError before the first value."""
        if self._snapshot is None:
            raise RuntimeError("there is nothing to restore: no value but NaN was given yet; call step(value) first")
        self._snapshot.restore()

    def _improves(self, value: float) -> bool:
        if math.isnan(value):
            return False
        gain = self.best - value if self.mode == "min" else value - self.best
        return self.best_step < 0 or gain > self.min_delta

    def _keep(self) -> None:
        parameters = parameters_of(self._optimizer.param_groups) if self._optimizer else self._parameters
        if self._snapshot is None or self._snapshot.parameters != parameters:        # groups may have been added
            self._snapshot = Snapshot(parameters, self._optimizer)
        else:
            self._snapshot.take()
