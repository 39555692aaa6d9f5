"""Gradients by finite differences: two or three evaluations of `fun` for each unknown, side by side if asked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from ..checks import shown
from ..native.arrays import parts
from .descent import real_loss
from .unknowns import Unknowns

MANY = 1000                      # unknowns from which on a warning says what a gradient costs
SCHEMES = {"2-point": 2, "3-point": 3}


def check_workers(workers: Any) -> None:
    known = callable(workers) or (isinstance(workers, (int, np.integer)) and not isinstance(workers, bool))
    if not known or (not callable(workers) and workers < 1 and workers != -1):
        raise ValueError(f"`workers` must be a number of threads, -1 for all CPUs, or a function like `map`, "
                         f"got {shown(workers)}")


def mapping(workers: Any) -> tuple[Callable[..., Any], ThreadPoolExecutor | None]:
    """A function like `map`, and the pool to close at the end."""
    if callable(workers):
        return workers, None
    if workers == 1:
        return map, None
    pool = ThreadPoolExecutor(os.cpu_count() if workers == -1 else int(workers))
    return pool.map, pool


class Function:
    """fun(x, *args, **kwargs) as a function of x, that other processes can be sent."""

    def __init__(self, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> None:
        self.fun, self.args, self.kwargs = fun, args, kwargs or {}

    def __call__(self, x: Any) -> Any:
        return self.fun(x, *self.args, **self.kwargs)


class Differences:
    """The gradient of `fun(nesting)` from its values beside x, never outside the bounds.

    The steps are scipy's: sign(x) * max(1, |x|) times the square root of the type's resolution, or its cube root for
    "3-point"; `step` is an absolute one, `relative` one in parts of x.
    """

    def __init__(self, fun: Function, unknowns: Unknowns, scheme: str, pairs: Sequence[Any] | None,
                 workers: Any, step: Any = None, relative: Any = None) -> None:
        self.fun, self.unknowns, self.points = fun, unknowns, SCHEMES[scheme]
        self.step, self.relative = step, relative
        self.evaluations = 0
        self.low, self.high = [], []
        for array, pair in zip(unknowns.arrays.values(), pairs or [None] * len(unknowns.arrays), strict=True):
            low, high = pair or (None, None)
            n = parts(array).size                # complex ones have no bounds
            self.low.append(np.broadcast_to(-np.inf if low is None else low, array.shape if pair else n).ravel())
            self.high.append(np.broadcast_to(np.inf if high is None else high, array.shape if pair else n).ravel())
        self.size = sum(parts(array).size for array in unknowns.arrays.values())
        self.map, self.pool = mapping(workers)
        if self.size > MANY:
            warnings.warn(f"a gradient by differences takes {self.each:,} evaluations of `fun`; give the gradient as "
                          f"`jac`, or let `fun` return (loss, gradient)", stacklevel=4)

    @property
    def each(self) -> int:
        """How many evaluations a gradient takes, beside that of the loss."""
        return (self.points - 1) * self.size

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()

    def __call__(self, loss: float) -> list[np.ndarray]:
        return [self.slopes(index, np.float64(loss), real_loss).astype(x.real.dtype).view(x.dtype).reshape(x.shape)
                for index, x in enumerate(self.unknowns.arrays.values())]

    def slopes(self, index: int, base: Any, read: Callable[[Any], Any]) -> np.ndarray:
        """The slopes by each unknown of an array, along the first axis: of what `read` makes of a value of `fun`, which
        is `base` at x."""
        x = parts(list(self.unknowns.arrays.values())[index])
        first, second = self.steps(x, self.low[index], self.high[index])
        able = np.flatnonzero(first)             # the others can't move
        steps = np.array([first[able]] if self.points == 2 else [first[able], second[able]])
        shifts = [(k, h) for row in steps.tolist() for k, h in zip(able.tolist(), row, strict=True)]
        found = map(read, self.map(partial(moved, self.fun, self.unknowns, index), shifts))
        falls = np.array(list(found), np.float64).reshape(*steps.shape, *base.shape) - base
        self.evaluations += len(shifts)
        slopes, steps = np.zeros((x.size, *base.shape)), steps.reshape(*steps.shape, *(1,) * base.ndim)
        if self.points == 2:
            slopes[able] = falls[0] / steps[0]
        else:                                    # exact for parabolas, wherever the two points are
            (a, b), (h, other) = falls, steps
            slopes[able] = (a * other / h - b * h / other) / (other - h)
        return slopes

    def steps(self, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two steps from each unknown, opposite ones where both sides have room; the first alone serves two points."""
        eps = np.finfo(x.dtype).eps
        size = np.where(x < 0, -1.0, 1.0) * np.maximum(1.0, abs(x)) * eps ** (1 / self.points)
        if self.relative is not None:
            wanted = np.asarray(self.relative, np.float64) * np.where(x < 0, -1.0, 1.0) * abs(x)
            size = np.where(wanted == 0, size, wanted)
        if self.step is not None:
            size = np.broadcast_to(np.asarray(self.step, np.float64), x.shape)
        below, above = x - low, high - x
        room = np.where(size > 0, above, below)
        other = np.where(size > 0, below, above)
        reach = 1.0 if self.points == 2 else 2.0
        flip = (abs(size) > room) & (other > room)
        size, room, other = (np.where(flip, a, b) for a, b in ((-size, size), (other, room), (room, other)))
        both = abs(size) <= np.minimum(room, other)
        length = np.where(both, abs(size), np.minimum(abs(size), room / reach))
        first = np.sign(size) * length
        second = np.where(both, -first, 2.0 * first)
        return exact(x, first), exact(x, second)


def exact(x: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The step as x's type rounds it: (x + step) - x."""
    with np.errstate(invalid="ignore"):
        return np.asarray((x + step).astype(x.dtype) - x, np.float64)


def moved(fun: Function, unknowns: Unknowns, index: int, shift: tuple[int, float]) -> Any:
    """The value with one unknown of one array shifted."""
    arrays = list(unknowns.views)
    own = np.array(arrays[index], order="C")
    parts(own)[shift[0]] += shift[1]
    own.flags.writeable = False
    arrays[index] = own
    return fun(unknowns.nest(arrays))
