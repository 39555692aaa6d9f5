"""Cosine annealing, once or with warm restarts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..checks import fraction, nonnegative, number
from ..engine.optimizer import Optimizer
from ._arguments import count
from .base import LRScheduler


def cosine(start: float, end: float, angle: float) -> float:
    """From `start` at angle 0 to `end` at pi along a cosine, exact at both."""
    weight = (1 + math.cos(angle)) / 2
    return start * weight + end * (1 - weight)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the initial value down to `eta_min` at count `T_max`, and up again after it.

        value(t) = eta_min + (initial - eta_min) * (1 + cos(pi * t / T_max)) / 2

    Count `T_max` is exactly `eta_min`. `WarmupCosineLR` stays there. The cosine is the C library's: the same bits on
    one machine only. Source: Loshchilov & Hutter 2017 (SGDR), torch.optim.lr_scheduler.
    """

    carries = True

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.T_max: int = count(1)("T_max", T_max)
        self.eta_min: float = nonnegative("eta_min", eta_min)
        super().__init__(optimizer, last_epoch, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        return cosine(base, self.eta_min, math.pi * t / self.T_max)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        if t == 0:
            return value
        if (t - 1) % (2 * self.T_max) == self.T_max:
            # At the bottom nothing is left to scale: the first step up is the closed form's.
            return value + (base - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        ratio = (1 + math.cos(math.pi * t / self.T_max)) / (1 + math.cos(math.pi * (t - 1) / self.T_max))
        return ratio * (value - self.eta_min) + self.eta_min


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine annealing that starts over after `T_0` counts, then after `T_0 * T_mult`, `T_0 * T_mult ** 2`, …

        value(t) = eta_min + (initial - eta_min) * (1 + cos(pi * T_cur / T_i)) / 2

    T_cur counts from the last restart, and T_i is the length of that cycle. With whole counts a cycle ends at
    T_cur = T_i - 1, as in torch; `step(epoch + batch / batches)` and `at(epoch + batch / batches)` take fractions, as
    the paper has it, and come as close to `eta_min` as the last batch is to the restart. The cosine is the C
    library's: the same bits on one machine only. Source: Loshchilov & Hutter 2017 (SGDR), torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.T_0: int = count(1)("T_0", T_0)
        self.T_mult: int = count(1)("T_mult", T_mult)
        self.eta_min: float = nonnegative("eta_min", eta_min)
        self._fraction: float = 0
        super().__init__(optimizer, last_epoch, key=key)

    def _cycle(self, t: float) -> tuple[float, int]:
        length = self.T_0
        if self.T_mult == 1:
            return t % length, length
        while t >= length:
            t -= length
            length *= self.T_mult
        return t, length

    def closed_form(self, base: float, t: float, i: int) -> float:
        since, length = self._cycle(t)
        return cosine(base, self.eta_min, math.pi * since / length)

    def step(self, epoch: float | None = None) -> None:
        """Move on by one, or to `epoch`, which may be a fraction; `last_epoch` is its whole part."""
        if self._order_unchecked:
            self._check_order()
        t = self.last_epoch + self._fraction + 1 if epoch is None else nonnegative("epoch", epoch)
        self._move_to(t)  # type: ignore[arg-type]
        self.last_epoch = math.floor(t)
        self._fraction = t - self.last_epoch

    def _check_count(self, t: Any) -> Any:
        return nonnegative("t", t)

    def _extra_state(self) -> dict[str, Any]:
        return {"fraction": self._fraction}

    def _check_extra(self, state: Mapping[str, Any]) -> None:
        fraction("fraction", state["fraction"])

    def _load_extra(self, state: Mapping[str, Any]) -> None:
        self._fraction = number("fraction", state["fraction"])
