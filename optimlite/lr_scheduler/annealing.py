"""Schedules that anneal the initial value to an end of their own, along a cosine or a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..checks import at_least, fraction, nonnegative, number, one_of
from ..engine.optimizer import Optimizer
from .arguments import PerGroup
from .base import LRScheduler
from .kinds import Overwriting


def half_cosine(progress: float) -> float:
    """What is left after a part of the way down half a cosine: exactly 1 at 0, and 0 at 1."""
    return (1 + math.cos(math.pi * progress)) / 2


def blend(start: float, end: float, left: float) -> float:
    """A value between `start` and `end`, exact at both; to go by what is left keeps the digits of an end near zero."""
    return start * left + end * (1 - left)


class _Annealing(LRScheduler):
    """value(t) = end + (initial - end) * left(t)."""

    chainable = True

    def _end(self, i: int) -> float:
        raise NotImplementedError

    def _left(self, t: int) -> float:
        raise NotImplementedError

    def closed_form(self, base: float, t: int, i: int) -> float:
        return blend(base, self._end(i), self._left(t))

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        """What is scaled is the distance between the value and the end."""
        before, after, end = self._left(t - 1) if t else 1.0, self._left(t), self._end(i)
        if not before:
            return blend(base, end, after)
        return value if after == before else end + (value - end) * (after / before)


class CosineAnnealingLR(_Annealing):
    """Half a cosine from the initial value down to `eta_min` at count `T_max`, and up again after it.

        value(t) = eta_min + (initial - eta_min) * (1 + cos(pi * t / T_max)) / 2

    optimizer: the optimizer whose groups are scheduled.
    T_max: the count that is exactly at `eta_min`; `WarmupCosineLR` stays there.
    eta_min: the lowest value, of all groups. A value that another schedule has taken below it isn't lowered further.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> CosineAnnealingLR(opt, T_max=100, eta_min=0.125).at(100)
        [0.125]

    The cosine is the C library's: the same bits on one machine only. Source: Loshchilov & Hutter 2017 (SGDR),
    torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.T_max: int = at_least(1)("T_max", T_max)
        self.eta_min: float = nonnegative("eta_min", eta_min)
        super().__init__(optimizer, last_epoch, key=key)

    def _end(self, i: int) -> float:
        return self.eta_min

    def _left(self, t: int) -> float:
        return half_cosine(t / self.T_max)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        if t and (t - 1) % (2 * self.T_max) == self.T_max:
            carried = value + (base - self.eta_min) * self._left(t)  # torch's first step up from the bottom
        else:
            carried = super().recurrence(value, base, t, i)
        if value < self.eta_min:
            # Its distance from `eta_min` is negative, and would grow with the cosine until the value is below zero.
            carried = max(carried, min(value, self.closed_form(base, t, i)))
        return carried


class CosineAnnealingWarmRestarts(Overwriting):
    """Cosine annealing that starts over after `T_0` counts, then after `T_0 * T_mult`, `T_0 * T_mult ** 2`, …

        value(t) = eta_min + (initial - eta_min) * (1 + cos(pi * T_cur / T_i)) / 2

    T_cur counts from the last restart, and T_i is the length of that cycle. With whole counts a cycle ends at
    T_cur = T_i - 1, as in torch; `step(epoch + batch / batches)` and `at(epoch + batch / batches)` take fractions, as
    the paper has it, and come as close to `eta_min` as the last batch is to the restart.

    optimizer: the optimizer whose groups are scheduled.
    T_0: the counts of the first cycle.    T_mult: how many times as long as the last one each cycle is.
    eta_min: the lowest value, of all groups.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> CosineAnnealingWarmRestarts(opt, T_0=10, T_mult=2).at(30)
        [1.0]

    The cosine is the C library's: the same bits on one machine only. Source: Loshchilov & Hutter 2017 (SGDR),
    torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.T_0: int = at_least(1)("T_0", T_0)
        self.T_mult: int = at_least(1)("T_mult", T_mult)
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
        return blend(base, self.eta_min, half_cosine(since / length))

    def step(self, epoch: float | None = None) -> None:
        """Moves on by one, or to `epoch`, which may be a fraction; `last_epoch` is its whole part."""
        if self._order_unchecked:
            self._check_order(stacklevel=3)
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


class SWALR(_Annealing):
    """Anneals the value that it finds to the constant of stochastic weight averaging.

        left(t) = (1 + cos(pi * p)) / 2, or 1 - p with `anneal_strategy="linear"`,   p = min(1, t / anneal_epochs)
        value(t) = swa_lr + (initial - swa_lr) * left(t)

    The initial value is that of the group when the stepping starts, whatever scheduler left it there.

    optimizer: the optimizer whose groups are scheduled.
    swa_lr: the constant, or a list with one per group.
    anneal_epochs: the counts until it is reached; 0 is there at once.    anneal_strategy: "cos" or "linear".
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> SWALR(opt, swa_lr=0.5, anneal_epochs=4, anneal_strategy="linear").at(2)
        [0.75]

    The cosine is the C library's: the same bits on one machine only. Source: Izmailov et al. 2018,
    torch.optim.swa_utils.
    """

    def __init__(self, optimizer: Optimizer, swa_lr: float | Sequence[float], anneal_epochs: int = 10,
                 anneal_strategy: str = "cos", last_epoch: int = -1, *, key: str = "lr") -> None:
        self.swa_lr: PerGroup[float] = PerGroup("swa_lr", swa_lr, optimizer, nonnegative)
        self.anneal_epochs: int = at_least(0)("anneal_epochs", anneal_epochs)
        self.anneal_strategy: str = one_of("cos", "linear")("anneal_strategy", anneal_strategy)
        super().__init__(optimizer, last_epoch, key=key)

    def _end(self, i: int) -> float:
        return self.swa_lr[i]

    def _left(self, t: int) -> float:
        progress = t / self.anneal_epochs if t < self.anneal_epochs else 1.0
        return 1 - progress if self.anneal_strategy == "linear" else half_cosine(progress)
