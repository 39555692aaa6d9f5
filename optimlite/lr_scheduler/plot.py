"""A picture of a schedule: what `scheduler.plot(steps)` draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_schedule(values: Sequence[Sequence[float]], key: str, title: str, ax: Axes | None = None) -> Axes:
    """Draws `values[count][group]`, a line for each group, into `ax` or a new figure; needs matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plot needs matplotlib; install it with pip install matplotlib") from error
    if ax is None:
        ax = plt.subplots()[1]
    for i, line in enumerate(zip(*values, strict=True)):
        ax.plot(line, label=f"group {i}")
    ax.set(title=title, xlabel="count", ylabel=key)
    if len(values[0]) > 1:
        ax.legend()
    return ax
