"""Pictures of a run's metrics."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from ..checks import checked, fraction
from ..log import read
from .plotting import axes
from .smoothing import exponential_mean

ALWAYS = ("step", "time", "steps", "measured_at")


@checked
def plot_metrics(log: str | os.PathLike[str] | Mapping[str, Any], names: Iterable[str] | str | None = None,
                 smoothing: float = 0.0, axs: Any = None) -> Any:
    """Draws the metrics of a run over the steps, each into axes of its own; returns these.  Needs matplotlib.

    log: a file or folder that `ol.log` wrote, or columns by name, "step" among them.
    names: of metrics, patterns such as "update_ratio/*" among them; what a pattern matches shares axes.  All that
        aren't of single parameters unless given.
    smoothing: of an exponential mean, in [0, 1); the values themselves are drawn pale behind it.
    axs: axes to draw into, one for each of `names`; new ones unless given.

    Raises ImportError without matplotlib, ValueError for names that the log doesn't have, for a log without metrics and
    for a `smoothing` outside its range, and what `ol.log.read` raises.

        >>> [ax] = ol.plot_metrics({"step": [0, 1, 2], "loss": [3.0, 2.0, 1.5]}, "loss")      # doctest: +SKIP
    """
    fraction("smoothing", smoothing)
    columns = dict(log) if isinstance(log, Mapping) else read(log)
    known = [name for name in columns if name not in ALWAYS]
    if names is None:
        names = [name for name in known if "/" not in name]
    patterns = [names] if isinstance(names, str) else list(names)
    found = {pattern: [name for name in known if fnmatchcase(name, pattern)] for pattern in patterns}
    if missing := [pattern for pattern, matched in found.items() if not matched]:
        raise ValueError(f"`names` must be of metrics in the log, got {', '.join(missing)}; "
                         f"it has {', '.join(known) or 'none'}")
    if not found:
        raise ValueError("the log has no metrics to draw")
    drawn = axes(None, len(found)) if axs is None else np.ravel(axs)
    steps = np.asarray(columns.get("step", np.arange(len(columns[known[0]]))), np.float64)
    for ax, (pattern, matched) in zip(drawn, found.items(), strict=True):
        for name in matched:
            draw(ax, steps, np.asarray(columns[name], np.float64), name, smoothing)
        ax.set_ylabel(pattern)
        if len(matched) > 1:
            ax.legend(fontsize="small")
    drawn[-1].set_xlabel("step")
    return list(drawn)


def draw(ax: Any, steps: np.ndarray, values: np.ndarray, name: str, smoothing: float) -> None:
    there = ~np.isnan(values)
    steps, values = steps[there], values[there]
    [line] = ax.plot(steps, values, label=name, alpha=0.3 if smoothing else 1.0)
    if smoothing:
        line.set_label("_")
        ax.plot(steps, smoothed(values, smoothing), color=line.get_color(), label=name)


def smoothed(values: np.ndarray, smoothing: float) -> np.ndarray:
    result, mean = np.empty_like(values), 0.0
    for t, value in enumerate(values):
        result[t] = mean = exponential_mean(mean, value, t, smoothing)
    return result
