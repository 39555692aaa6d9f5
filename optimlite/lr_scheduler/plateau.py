"""The schedule that follows a metric instead of the count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

from ..checks import at_least, interval, nonnegative, number, one_of, real
from ..engine.optimizer import Optimizer
from .arguments import PerGroup
from .base import LRScheduler


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the values by `factor` when a metric has stopped improving.

        better, mode "min":   metric < best - threshold * abs(best)     (threshold_mode "rel")
                              metric < best - threshold                 (threshold_mode "abs");   "max" mirrors both
        value = max(value * factor, min_lr)    after more than `patience` epochs in a row that weren't better

    A metric that is NaN or infinite is a bad epoch, and never the best. `at` and compositions don't exist for it.

    optimizer: the optimizer whose groups are scheduled.
    mode: "min" where a smaller metric is better, "max" where a larger one is.
    factor: from 0 to below 1.    min_lr: where the values stop; a number, or a list with one per group.
    patience: 2 ignores two bad epochs and reduces after the third.
    threshold, threshold_mode: what counts as better, relative to the best or absolute; see above.
    cooldown: the number of epochs after a reduction that don't count as bad.
    eps: a change of at most `eps` is left out.    key: the scheduled number, "lr" or another.

        >>> plateau = ReduceLROnPlateau(opt, factor=0.5, patience=1)
        >>> for loss in (3.0, 3.0, 3.0):
        ...     plateau.step(loss)
        >>> plateau.get_last_lr()
        [0.5]

    Source: torch.optim.lr_scheduler.
    """

    follows_count = False
    _group_state = ("_last_lr",)

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0,
                 min_lr: float | Sequence[float] = 0.0, eps: float = 1e-8, *, key: str = "lr") -> None:
        self.mode: str = one_of("min", "max")("mode", mode)
        self.factor: float = interval(0, 1, closed="left")("factor", factor)
        self.patience: int = at_least(0)("patience", patience)
        self.threshold: float = nonnegative("threshold", threshold)
        self.threshold_mode: str = one_of("rel", "abs")("threshold_mode", threshold_mode)
        self.cooldown: int = at_least(0)("cooldown", cooldown)
        self.min_lr: PerGroup[float] = PerGroup("min_lr", min_lr, optimizer, nonnegative)
        self.eps: float = nonnegative("eps", eps)
        self._attach(optimizer, key)
        self.last_epoch = 0
        self.best: float | None = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self._last_lr = [self._slot.get(group) for group in optimizer.param_groups]

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]
        """Takes the metric of an epoch, a single number; call it after the epoch's validation."""
        metric = real(metrics, "`metrics` must be a number")
        values = [self._slot.get(group) for group in self.optimizer.param_groups]
        smaller = [max(value * self.factor, self.min_lr[i]) for i, value in enumerate(values)]
        self.last_epoch += 1
        if self._is_better(metric):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
            values = [new if old - new > self.eps else old for old, new in zip(values, smaller, strict=True)]
        self._write(values, [])

    def _is_better(self, metric: float) -> bool:
        if not math.isfinite(metric):
            return False
        if self.best is None:
            return True
        best, sign = (self.best, 1) if self.mode == "max" else (-self.best, -1)
        if self.threshold_mode == "abs":
            return sign * metric > best + self.threshold
        # One product, not best + threshold * abs(best): so it rounds as torch's does for metrics above zero.
        return sign * metric > best * (1 + self.threshold if best > 0 else 1 - self.threshold)

    def at(self, t: float) -> list[float]:
        raise NotImplementedError("ReduceLROnPlateau has no at(): its values follow the metrics, not the count")

    def _adopt_new_groups(self) -> None:
        groups = self.optimizer.param_groups
        self._last_lr += [self._slot.get(group) for group in groups[len(self._last_lr):]]

    def _extra_state(self) -> dict[str, Any]:
        return {"best": self.best, "num_bad_epochs": self.num_bad_epochs, "cooldown_counter": self.cooldown_counter}

    def _check_extra(self, state: Mapping[str, Any]) -> None:
        if state["best"] is not None:
            number("best", state["best"])
        for name in ("num_bad_epochs", "cooldown_counter"):
            at_least(0)(name, state[name])

    def _load_extra(self, state: Mapping[str, Any]) -> None:
        self.best = None if state["best"] is None else number("best", state["best"])
        self.num_bad_epochs = int(state["num_bad_epochs"])
        self.cooldown_counter = int(state["cooldown_counter"])
