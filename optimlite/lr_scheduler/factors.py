"""Schedules that multiply the initial value by a factor of the count."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..checks import at_least, interval, nonnegative
from ..engine.optimizer import Optimizer
from .arguments import PerGroup, counts, function, power, result_of
from .base import LRScheduler
from .kinds import Overwriting, Walked
from .state_dict import callable_state, check_callable_state, load_callable_state

Factor = Callable[[int], float]


class _FromFunction(LRScheduler):
    lr_lambda: PerGroup[Factor]

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.lr_lambda = PerGroup("lr_lambda", lr_lambda, optimizer, function)
        super().__init__(optimizer, last_epoch, key=key)

    def _factor(self, t: int, i: int) -> float:
        return result_of("lr_lambda", self.lr_lambda[i], t)

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


class LambdaLR(Overwriting, _FromFunction):
    """The initial value times a function of the count.

        value(t) = initial * lr_lambda(t)

    optimizer: the optimizer whose groups are scheduled.
    lr_lambda: a function from the count to a factor, or a list with one function per group. A callable object is
        saved with its attributes, a function is not saved.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> LambdaLR(opt, lambda t: 1 / (1 + t)).at(3)
        [0.25]

    Source: torch.optim.lr_scheduler.
    """

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * self._factor(t, i)


class MultiplicativeLR(Walked, _FromFunction):
    """The value times a function of the count, in every step.

        value(0) = initial,   value(t) = value(t-1) * lr_lambda(t)

    optimizer: the optimizer whose groups are scheduled.
    lr_lambda: a function from the count to a factor, or a list with one function per group. A callable object is
        saved with its attributes, a function is not saved. `at(t)` multiplies all factors up to t.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> MultiplicativeLR(opt, lambda t: 0.5).at(3)
        [0.125]

    Source: torch.optim.lr_scheduler.
    """

    chainable = True

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        return value * self._factor(t, i) if t else value


class _Decay(LRScheduler):
    """value(t) = initial * gamma ** decays(t)."""

    chainable = True
    gamma: float

    def _decays(self, t: int) -> int:
        raise NotImplementedError

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * power(self.gamma, self._decays(t))

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        # The same proportion by exponents: the powers themselves are 0 or infinite after some hundred decays.
        return value * power(self.gamma, self._decays(t) - (self._decays(t - 1) if t else 0))


class StepLR(_Decay):
    """A decay every `step_size` counts.

        value(t) = initial * gamma ** (t // step_size)

    optimizer: the optimizer whose groups are scheduled.
    step_size: counts from one decay to the next.    gamma: the factor of a decay.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> StepLR(opt, step_size=30, gamma=0.5).at(60)
        [0.25]

    Powers are the C library's: the same bits on one machine only. Source: torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.step_size: int = at_least(1)("step_size", step_size)
        self.gamma: float = nonnegative("gamma", gamma)
        super().__init__(optimizer, last_epoch, key=key)

    def _decays(self, t: int) -> int:
        return t // self.step_size


class MultiStepLR(_Decay):
    """A decay at each milestone.

        value(t) = initial * gamma ** (number of milestones <= t)

    optimizer: the optimizer whose groups are scheduled.
    milestones: a list of counts, in any order; one that is listed n times counts n times.
    gamma: the factor of a decay.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> MultiStepLR(opt, milestones=[30, 80], gamma=0.5).at(80)
        [0.25]

    Powers are the C library's: the same bits on one machine only. Source: torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.milestones = sorted(counts("milestones", milestones))
        self.gamma: float = nonnegative("gamma", gamma)
        super().__init__(optimizer, last_epoch, key=key)

    def _decays(self, t: int) -> int:
        return bisect_right(self.milestones, t)


class ExponentialLR(_Decay):
    """A decay in every count.

        value(t) = initial * gamma ** t

    optimizer: the optimizer whose groups are scheduled.
    gamma: the factor of a decay.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> ExponentialLR(opt, gamma=0.5).at(3)
        [0.125]

    Powers are the C library's: the same bits on one machine only. Source: torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1, *, key: str = "lr") -> None:
        self.gamma: float = nonnegative("gamma", gamma)
        super().__init__(optimizer, last_epoch, key=key)

    def _decays(self, t: int) -> int:
        return t


class ConstantLR(LRScheduler):
    """A constant factor until count `total_iters`, then the initial value.

        value(t) = initial * (factor if t < total_iters else 1)

    optimizer: the optimizer whose groups are scheduled.
    factor: from 0, which rests for `total_iters` counts, to 1.
    total_iters: the number of counts; 0 is no schedule at all.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> ConstantLR(opt, factor=0.5, total_iters=4).at(3)
        [0.5]

    Source: torch.optim.lr_scheduler.
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.factor: float = interval(0, 1)("factor", factor)
        self.total_iters: int = at_least(0)("total_iters", total_iters)
        self.chainable = self.factor != 0  # a product of 0 has lost the other factors
        super().__init__(optimizer, last_epoch, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * self.factor if t < self.total_iters else base


class LinearLR(LRScheduler):
    """A factor that moves along a line in `total_iters` counts, and stays.

        value(t) = initial * (start_factor + (end_factor - start_factor) * min(t, total_iters) / total_iters)

    optimizer: the optimizer whose groups are scheduled.
    start_factor: above 0, up to 1.    end_factor: from 0 to 1.
    total_iters: the number of counts between them; 0 is at `end_factor` at once.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> LinearLR(opt, start_factor=0.5, total_iters=4).at(2)
        [0.75]

    Source: torch.optim.lr_scheduler.
    """

    chainable = True

    def __init__(self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0,
                 total_iters: int = 5, last_epoch: int = -1, *, key: str = "lr") -> None:
        self.start_factor: float = interval(0, 1, closed="right")("start_factor", start_factor)
        self.end_factor: float = interval(0, 1)("end_factor", end_factor)
        self.total_iters: int = at_least(0)("total_iters", total_iters)
        super().__init__(optimizer, last_epoch, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        if t >= self.total_iters:
            return base * self.end_factor
        return base * (self.start_factor + (self.end_factor - self.start_factor) * t / self.total_iters)


class PolynomialLR(LRScheduler):
    """A polynomial decay to zero in `total_iters` counts.

        value(t) = initial * (1 - min(t, total_iters) / total_iters) ** power

    optimizer: the optimizer whose groups are scheduled.
    total_iters: the count from which on the value is 0.    power: 1 is a line.
    last_epoch: -1 starts at count 0, k resumes at count k + 1.    key: the scheduled number, "lr" or another.

        >>> PolynomialLR(opt, total_iters=4, power=2).at(2)
        [0.25]

    Powers are the C library's: the same bits on one machine only. Source: torch.optim.lr_scheduler.
    """

    chainable = True

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1, *,
                 key: str = "lr") -> None:
        self.total_iters: int = at_least(1)("total_iters", total_iters)
        self.power: float = nonnegative("power", power)
        super().__init__(optimizer, last_epoch, key=key)

    def closed_form(self, base: float, t: int, i: int) -> float:
        return base * math.pow(1 - min(t, self.total_iters) / self.total_iters, self.power)
