"""Schedules that multiply the initial value by a factor of the count."""

from __future__ import annotations

import copy
import math
import types
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..checks import interval, nonnegative, shown
from ..engine.optimizer import Optimizer
from ._arguments import PerGroup, count, function, power
from .base import LRScheduler, Walk

Factor = Callable[[int], float]


def callable_state(fn: Any) -> dict[str, Any] | None:
    """torch's rule: a callable object is saved as a copy of its attributes, a function not at all."""
    attributes = None if isinstance(fn, types.FunctionType) else getattr(fn, "__dict__", None)
    return copy.deepcopy(attributes)


def check_callable_state(name: str, fn: Any, state: Any) -> None:
    """Raises where `load_callable_state` would, but for nothing that it does."""
    if state is None:
        return
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise TypeError(f"`state_dict` must have None or the attributes of an object in {name!r}, got {shown(state)}")
    if not hasattr(fn, "__dict__"):
        raise ValueError(f"`state_dict` must have None in {name!r} for a function without attributes, "
                         f"got {shown(state)}")
    copy.deepcopy(dict(state))


def load_callable_state(fn: Any, state: Mapping[str, Any] | None) -> None:
    if state is not None:
        fn.__dict__.update(copy.deepcopy(dict(state)))


class _FromFunction(LRScheduler):
    lr_lambda: PerGroup[Factor]

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.lr_lambda = PerGroup("lr_lambda", lr_lambda, optimizer, function)
        super().__init__(optimizer, last_epoch, key=key)

    def _extra_state(self) -> dict[str, Any]:
        return {"lr_lambda": [callable_state(fn) for fn in self.lr_lambda.values]}

    def _check_extra(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state["lr_lambda"], (list, tuple)):
            raise TypeError(f"`state_dict` must have a list in 'lr_lambda', got {type(state['lr_lambda']).__name__}")
        if len(state["lr_lambda"]) != len(self.lr_lambda.values):
            raise ValueError(f"`state_dict` must have {len(self.lr_lambda.values)} entries in 'lr_lambda', "
                             f"got {len(state['lr_lambda'])}")
        for fn, saved in zip(self.lr_lambda.values, state["lr_lambda"], strict=True):
            check_callable_state("lr_lambda", fn, saved)

    def _load_extra(self, state: Mapping[str, Any]) -> None:
        for fn, saved in zip(self.lr_lambda.values, state["lr_lambda"], strict=True):
            load_callable_state(fn, saved)


class LambdaLR(_FromFunction):
    """The initial value times a function of the count, or one function per group.

        value(t) = initial * lr_lambda(t)

    A callable object is saved with its attributes, a function is not saved. Source: torch.optim.lr_scheduler.
    """

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * float(self.lr_lambda[i](t))


class MultiplicativeLR(_FromFunction):
    """The value times a function of the count, in every step.

        value(0) = initial,   value(t) = value(t-1) * lr_lambda(t)

    `at(t)` multiplies all factors up to t. Callables are saved as by `LambdaLR`. Source: torch.optim.lr_scheduler.
    """

    carries = True
    walked = True

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self._walk = Walk()
        super().__init__(optimizer, lr_lambda, last_epoch, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        return self._walk(self.recurrence, base, t, i)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        return value * float(self.lr_lambda[i](t)) if t else value


class StepLR(LRScheduler):
    """A decay by `gamma` every `step_size` counts.

        value(t) = initial * gamma ** (t // step_size)

    Powers are the C library's: the same bits on one machine only. Source: torch.optim.lr_scheduler.
    """

    carries = True

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.step_size: int = count(1)("step_size", step_size)
        self.gamma: float = nonnegative("gamma", gamma)
        super().__init__(optimizer, last_epoch, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * power(self.gamma, t // self.step_size)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        return value if t == 0 or t % self.step_size else value * self.gamma


class MultiStepLR(LRScheduler):
    """A decay by `gamma` at each milestone.

        value(t) = initial * gamma ** (number of milestones <= t)

    `milestones` may come in any order; one that is listed n times counts n times. Powers are the C library's: the
    same bits on one machine only. Source: torch.optim.lr_scheduler.
    """

    carries = True

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.milestones = sorted(count(0)("milestones", m) for m in milestones)
        self.gamma: float = nonnegative("gamma", gamma)
        super().__init__(optimizer, last_epoch, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * power(self.gamma, bisect_right(self.milestones, t))

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        now = bisect_right(self.milestones, t) - bisect_left(self.milestones, t)
        return value * power(self.gamma, now)


class ConstantLR(LRScheduler):
    """A constant `factor` until count `total_iters`, then the initial value.

        value(t) = initial * (factor if t < total_iters else 1)

    `total_iters=0` is no schedule at all, and `factor=0` rests for `total_iters` counts. Source:
    torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.factor: float = interval(0, 1)("factor", factor)
        self.total_iters: int = count(0)("total_iters", total_iters)
        # From zero no multiplication leads back, so the value starts over from the initial one.
        self.carries = self.factor != 0
        super().__init__(optimizer, last_epoch, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * self.factor if t < self.total_iters else base

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        if t == 0:
            return value * self.factor if self.total_iters else value
        if t != self.total_iters:
            return value
        return value * (1 / self.factor) if self.factor else base


class LinearLR(LRScheduler):
    """A factor that moves linearly from `start_factor` to `end_factor` in `total_iters` counts, and stays.

        value(t) = initial * (start_factor + (end_factor - start_factor) * min(t, total_iters) / total_iters)

    `total_iters=0` is at `end_factor` at once. `start_factor` must be above 0. Source: torch.optim.lr_scheduler.
    """

    carries = True

    def __init__(self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0,
                 total_iters: int = 5, last_epoch: int = -1, *, key: str = "lr") -> None:
        self.start_factor: float = interval(0, 1, closed="right")("start_factor", start_factor)
        self.end_factor: float = interval(0, 1)("end_factor", end_factor)
        self.total_iters: int = count(0)("total_iters", total_iters)
        super().__init__(optimizer, last_epoch, key=key)

    def _factor(self, t: int) -> float:
        if t >= self.total_iters:
            return self.end_factor
        return self.start_factor + (self.end_factor - self.start_factor) * t / self.total_iters

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * self._factor(t)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        if t == 0:
            return value * self._factor(0)
        return value if t > self.total_iters else value * (self._factor(t) / self._factor(t - 1))


class ExponentialLR(LRScheduler):
    """A decay by `gamma` in every count.

        value(t) = initial * gamma ** t

    Powers are the C library's: the same bits on one machine only. Source: torch.optim.lr_scheduler.
    """

    carries = True

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1, *, key: str = "lr") -> None:
        self.gamma: float = nonnegative("gamma", gamma)
        super().__init__(optimizer, last_epoch, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * power(self.gamma, t)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        return value * self.gamma if t else value


class PolynomialLR(LRScheduler):
    """A polynomial decay to zero in `total_iters` counts.

        value(t) = initial * (1 - min(t, total_iters) / total_iters) ** power

    Powers are the C library's: the same bits on one machine only. Source: torch.optim.lr_scheduler.
    """

    carries = True

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.total_iters: int = count(1)("total_iters", total_iters)
        self.power: float = nonnegative("power", power)
        super().__init__(optimizer, last_epoch, key=key)

    def _left(self, t: int) -> float:
        return 1 - min(t, self.total_iters) / self.total_iters

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * math.pow(self._left(t), self.power)

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        if t == 0 or t > self.total_iters:
            return value
        return value * math.pow(self._left(t) / self._left(t - 1), self.power)
