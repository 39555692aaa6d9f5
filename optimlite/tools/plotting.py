"""Axes to draw into: matplotlib, where it is installed, imported when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes(ax: Axes | None = None, count: int | None = None) -> Any:
    """`ax`, or those of a new figure, `count` of them one below the other; raises ImportError without matplotlib."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plot needs matplotlib; install it with pip install matplotlib") from error
    if count is None:
        return plt.subplots()[1]
    return plt.subplots(count, squeeze=False, sharex=True, figsize=(8, 2 * count))[1].ravel()
