"""The schedules of large models in one object: warm-up and cosine, warm-up and plateau and decay."""

from __future__ import annotations

import math

from ..checks import at_least, interval, one_of
from ..engine.optimizer import Optimizer
from .annealing import blend, half_cosine
from .base import LRScheduler


class _WarmupLR(LRScheduler):
    """A factor that rises linearly for `warmup_steps` counts and then follows the subclass."""

    def __init__(self, optimizer: Optimizer, warmup_steps: int, min_factor: float, start_factor: float,
                 last_epoch: int, key: str) -> None:
        self.warmup_steps: int = at_least(0)("warmup_steps", warmup_steps)
        self.min_factor: float = interval(0, 1)("min_factor", min_factor)
        self.start_factor: float = interval(0, 1)("start_factor", start_factor)
        super().__init__(optimizer, last_epoch, key=key)

    def _left(self, t: int) -> float:
        """What is left of the way from `min_factor` to 1, `t` counts after the warm-up."""
        raise NotImplementedError

    def closed_form(self, base: float, t: int, i: int) -> float:
        if t >= self.warmup_steps:
            return base * blend(1.0, self.min_factor, self._left(t - self.warmup_steps))
        return base * (self.start_factor + (1 - self.start_factor) * t / self.warmup_steps)


class WarmupCosineLR(_WarmupLR):
    """A linear warm-up to the initial value, then half a cosine down to `min_factor` of it at `total_steps`.

        value(t) = initial * (start_factor + (1 - start_factor) * t / warmup_steps)                  t < warmup_steps
        value(t) = initial * (min_factor + (1 - min_factor) * (1 + cos(pi * p)) / 2)                 after it,
        p = min(1, (t - warmup_steps) / (total_steps - warmup_steps))

    optimizer: the optimizer whose groups are scheduled.
    warmup_steps: the count at the initial value, from 0 to `total_steps`; there the schedule ends at its peak.
    total_steps: the count from which on the value is exactly at `min_factor`.
    min_factor, start_factor: from 0 to 1. With `start_factor=0`, as usual, the very first step does nothing.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> WarmupCosineLR(opt, warmup_steps=4, total_steps=20, min_factor=0.25).at(2)
        [0.5]

    The cosine is the C library's: the same bits on one machine only.  Source: Goyal et al. 2017 (the warm-up),
    Loshchilov & Hutter 2017 (the cosine).
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int, total_steps: int, min_factor: float = 0.0,
                 start_factor: float = 0.0, last_epoch: int = -1, *, key: str = "lr") -> None:
        self.total_steps: int = at_least(1)("total_steps", total_steps)
        if at_least(0)("warmup_steps", warmup_steps) > self.total_steps:
            raise ValueError(f"`warmup_steps` must be <= total_steps = {self.total_steps}, got {warmup_steps}")
        super().__init__(optimizer, warmup_steps, min_factor, start_factor, last_epoch, key)

    def _left(self, t: int) -> float:
        length = self.total_steps - self.warmup_steps
        return half_cosine(min(1.0, t / length)) if length else 1.0


class WarmupStableDecayLR(_WarmupLR):
    """A linear warm-up, a long plateau at the initial value, and a short decay to `min_factor` of it.

        value(t) = initial * (start_factor + (1 - start_factor) * t / warmup_steps)      t < warmup_steps
        value(t) = initial                                                               the next `stable_steps` counts
        value(t) = initial * (min_factor + (1 - min_factor) * d(p))                      p from 0 to 1 in `decay_steps`

    optimizer: the optimizer whose groups are scheduled.
    warmup_steps, stable_steps, decay_steps: the counts of the three parts.
    decay: d(p) is 1 - p for "linear", (1 + cos(pi * p)) / 2 for "cosine", 1 - sqrt(p) for "sqrt".
    min_factor, start_factor: from 0 to 1. With `start_factor=0`, as usual, the very first step does nothing.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> WarmupStableDecayLR(opt, warmup_steps=4, stable_steps=100, decay_steps=8).at(106)
        [0.75]

    Source: Hu et al. 2024 (MiniCPM), for "sqrt" Hägele et al. 2024.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int, stable_steps: int, decay_steps: int,
                 decay: str = "linear", min_factor: float = 0.0, start_factor: float = 0.0, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.stable_steps: int = at_least(0)("stable_steps", stable_steps)
        self.decay_steps: int = at_least(1)("decay_steps", decay_steps)
        self.decay: str = one_of("linear", "cosine", "sqrt")("decay", decay)
        super().__init__(optimizer, warmup_steps, min_factor, start_factor, last_epoch, key)

    def _left(self, t: int) -> float:
        progress = min(1.0, max(0, t - self.stable_steps) / self.decay_steps)
        if self.decay == "cosine":
            return half_cosine(progress)
        return 1 - (progress if self.decay == "linear" else math.sqrt(progress))
