"""A picture of a schedule: what `scheduler.plot(steps)` draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .lr_scheduler import LRScheduler


def plot_schedule(scheduler: LRScheduler, steps: int, ax: Axes | None = None) -> Axes:
    """Draw counts 0 to `steps` - 1 of every group, by `scheduler.at`; needs matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plot needs matplotlib; install it with pip install optimlite[plot]") from error
    values = [scheduler.at(t) for t in range(steps)]
    if ax is None:
        ax = plt.subplots()[1]
    for i, line in enumerate(zip(*values, strict=True)):
        ax.plot(range(steps), line, label=f"group {i}")
    ax.set(title=type(scheduler).__name__, xlabel="count", ylabel=scheduler.key)
    if len(values[0]) > 1:
        ax.legend()
    return ax
