"""The learning-rate range test: steps with growing rates, until the loss diverges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..checks import checked, fraction, interval, positive, real
from ..engine.method import parameters_of
from ..engine.optimizer import Optimizer
from .smoothing import exponential_mean
from .snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIVERGED = 4.0                   # times the lowest loss


@dataclass(repr=False)
class LRFind:
    """What `lr_find` found: `lr`, at which the loss falls steepest, and the curve of `losses` (smoothed) over `lrs`."""

    lr: float
    lowest: float                # the rate at which the loss was lowest
    lrs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"LRFind(lr={self.lr:.3g}, lowest={self.lowest:.3g}, {len(self.lrs)} steps)"

    def plot(self, ax: Axes | None = None) -> Any:
        """Draws the curve and the suggestion into `ax` or a new figure; needs matplotlib."""
        from .plotting import axes

        ax = axes(ax)
        ax.plot(self.lrs, self.losses)
        ax.axvline(self.lr, linestyle="--", label=f"lr = {self.lr:.2g}")
        ax.set(xscale="log", xlabel="lr", ylabel="loss, smoothed")
        ax.legend()
        return ax


@checked
def lr_find(optimizer: Optimizer, closure: Callable[[], Any], start: float = 1e-7, end: float = 10.0,
            steps: int = 100, smoothing: float = 0.9) -> LRFind:
    """Finds a learning rate: trains with rates that grow from `start` to `end`; the loss falls steepest at `.lr`.

        lr(t) = start * (end / start) ** (t / (steps - 1)),   stops where the loss is not finite or 4 times the lowest

    optimizer: any with an `lr`; groups keep their rates' proportions, and the largest one is meant.
    closure: as for `step`; it takes the next batch, computes and returns the loss, or `(loss, grads)`.
    start, end, steps: the range, in equal factors.    smoothing: of the losses' exponential mean, in [0, 1).

    Parameters, gradients, state, rates and counts are restored at the end, also after an exception.  The result has
    `lr` (a tenth of `lowest` where the curve has no clear descent) and `plot()`.  Raises ValueError if the loss is not
    finite from the first step on.  Source: Smith 2017.

        >>> w = np.array([4.0, -2.0])
        >>> opt = ol.SGD([w], lr=0.1)
        >>> found = ol.lr_find(opt, lambda: (float(w @ w), [2 * w]))
        >>> 0.01 < found.lr < 1, w, opt.param_groups[0]["lr"]
        (True, array([ 4., -2.]), 0.1)
    """
    check(optimizer, start, end, steps, smoothing)
    parameters = parameters_of(optimizer.param_groups)
    before, gradients = Snapshot(parameters, optimizer), [parameter.grad for parameter in parameters]
    counts = optimizer.steps_taken, optimizer.skipped_steps, optimizer.last_grad_norm
    rates = [group["lr"] for group in optimizer.param_groups]
    shares = [rate / max(rates) if max(rates) else 1.0 for rate in rates]
    lrs: list[float] = []
    losses: list[float] = []
    smooth = 0.0
    try:
        for t in range(steps):
            lr = start * (end / start) ** (t / (steps - 1))
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = lr * share
            loss = real(optimizer.step(closure), "`closure` must return the loss, a number")
            smooth = exponential_mean(smooth, loss, t, smoothing)
            if not math.isfinite(smooth) or (losses and abs(smooth) > DIVERGED * abs(min(losses)) + abs(losses[0])):
                break
            lrs.append(lr)
            losses.append(smooth)
    finally:
        before.restore()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.steps_taken, optimizer.skipped_steps, optimizer.last_grad_norm = counts
    if not losses:
        raise ValueError(f"the loss must be finite at `start`, got {loss} at lr {start:g}")
    lowest = lrs[losses.index(min(losses))]
    return LRFind(steepest(lrs, losses, lowest), lowest, lrs, losses)


def check(optimizer: Any, start: float, end: float, steps: int, smoothing: float) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"`optimizer` must be an optimizer, got {type(optimizer).__name__}")
    if not all("lr" in group for group in optimizer.param_groups):
        raise ValueError(f"`optimizer` must have an `lr` in each group, and {type(optimizer).__name__} has none")
    positive("start", start)
    if positive("end", end) <= start:
        raise ValueError(f"`end` must be > start = {start:g}, got {end:g}")
    interval(2, 100_000)("steps", steps)
    fraction("smoothing", smoothing)


def steepest(lrs: list[float], losses: list[float], lowest: float) -> float:
    """The rate before the lowest loss at which it falls fastest over log(lr)."""
    until = lrs.index(lowest)
    falls = [losses[t - 1] - losses[t + 1] for t in range(1, until)]         # central differences
    return lrs[1 + falls.index(max(falls))] if falls and max(falls) > 0 else lowest / 10
