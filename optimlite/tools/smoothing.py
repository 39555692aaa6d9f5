"""An exponential mean of a run's values, without the bias of where it starts."""

from __future__ import annotations


def exponential_mean(mean: float, value: float, t: int, smoothing: float) -> float:
    """The mean of values 0 to t, from that of those before `value`: the first is itself."""
    return mean + (1 - smoothing) / (1 - smoothing ** (t + 1)) * (value - mean)
