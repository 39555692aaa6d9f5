"""The gradient noise scale: about which batch size more examples stop paying."""

from __future__ import annotations

import math
from typing import Any

from ..checks import checked, count, fraction
from ..clipping import get_total_norm


class NoiseScale:
    """The simple noise scale of gradients, tr(S) / |G|^2, from those of micro-batches and their mean.

        |g_b|^2 = |G|^2 + tr(S) / b     for batches of b examples: two sizes give both, in exponential means

    micro_batch: the examples of one micro-batch.    decay: of the means over steps, in [0, 1).

    `add(grads)` takes each micro-batch's gradients, `step(mean)` their mean, which ends the step and returns `value`:
    in examples; infinite while the mean gradient can't be told from noise, NaN before the first step.  Below it,
    larger batches pay; above it, they mostly waste examples.  Raises ValueError for a `micro_batch` below 1, a `decay`
    outside its range and a `step` before two micro-batches were added, and TypeError for gradients that aren't arrays
    of floats.  Source: McCandlish et al. 2018, appendix A.

        >>> noise = ol.NoiseScale(micro_batch=8)
        >>> for grads in ([np.array([3.0])], [np.array([1.0])]):
        ...     noise.add(grads)
        >>> noise.step([np.array([2.0])])
        5.333333333333333
    """

    @checked
    def __init__(self, micro_batch: int, decay: float = 0.95) -> None:
        self.micro_batch: int = count("micro_batch", micro_batch)
        self.decay: float = fraction("decay", decay)
        self._squares: list[float] = []
        self._signal = self._noise = 0.0
        self._steps = 0

    def add(self, grads: Any) -> None:
        """Takes the gradients of one micro-batch: the mean over its examples, in any nesting."""
        self._squares.append(get_total_norm(grads) ** 2)

    def step(self, mean: Any) -> float:
        """Takes the mean of the gradients that were added since the last step; at least two."""
        if len(self._squares) < 2:
            raise ValueError(f"a step needs the gradients of at least 2 micro-batches, got {len(self._squares)}; "
                             f"call add(grads) for each")
        small, n = self.micro_batch, len(self._squares)
        of_small, of_all = sum(self._squares) / n, get_total_norm(mean) ** 2
        signal = (n * of_all - of_small) / (n - 1)
        noise = (of_small - of_all) / (1 / small - 1 / (n * small))
        self._signal += (1 - self.decay) * (signal - self._signal)       # their bias at the start is the same
        self._noise += (1 - self.decay) * (noise - self._noise)
        self._squares = []
        self._steps += 1
        return self.value

    @property
    def value(self) -> float:
        if not self._steps:
            return math.nan
        return self._noise / self._signal if self._signal > 0 else math.inf
