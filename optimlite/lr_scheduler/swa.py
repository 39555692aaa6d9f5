"""The schedule of stochastic weight averaging: from wherever the value is to a constant."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..checks import nonnegative
from ..engine.optimizer import Optimizer
from ._arguments import PerGroup, choice, count
from .base import LRScheduler


class SWALR(LRScheduler):
    """Anneals the value that it finds to the constant `swa_lr` in `anneal_epochs` counts.

        a(t) = (1 - cos(pi * p)) / 2, or p with `anneal_strategy="linear"`,   p = min(1, t / anneal_epochs)
        value(t) = initial * (1 - a(t)) + swa_lr * a(t)

    The initial value is that of the group when the stepping starts, whatever scheduler left it there. With
    `anneal_epochs=0` the value is `swa_lr` at once. The cosine is the C library's: the same bits on one machine only.
    Source: Izmailov et al. 2018, torch.optim.swa_utils.
    """

    carries = True

    def __init__(self, optimizer: Optimizer, swa_lr: float | Sequence[float], anneal_epochs: int = 10,
                 anneal_strategy: str = "cos", last_epoch: int = -1, *, key: str = "lr") -> None:
        self.swa_lr: PerGroup[float] = PerGroup("swa_lr", swa_lr, optimizer, nonnegative)
        self.anneal_epochs: int = count(0)("anneal_epochs", anneal_epochs)
        self.anneal_strategy: str = choice("cos", "linear")("anneal_strategy", anneal_strategy)
        super().__init__(optimizer, last_epoch, key=key)

    def _weight(self, t: int) -> float:
        if t >= self.anneal_epochs:
            return 1.0
        progress = t / self.anneal_epochs
        return progress if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * progress)) / 2

    def closed_form(self, base: float, t: int, i: int) -> float:
        weight = self._weight(t)
        return self.swa_lr[i] * weight + base * (1 - weight)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        before = self._weight(t - 1) if t else 0.0
        end = self.swa_lr[i]
        # Where the annealing would have to start to pass through the value that was found.
        start = (value - before * end) / (1 - before) if before < 1 else end
        weight = self._weight(t)
        return end * weight + start * (1 - weight)
