"""What a step does with the gradients besides using them: unscale, test, clip, zero."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _check, _cpu
from ._core import Memory, Plan, Reduction, Rule, reduce_gradients, unusual
from .parameter import FLOATS, Parameter
from .sparse import SparseGrad

if TYPE_CHECKING:
    from .optimizer import Optimizer

positive = _check.interval(0, closed="neither")


class Handling(NamedTuple):
    """The arguments of `step`, checked."""

    grad_scale: float = 1.0
    max_grad_norm: float | None = None
    max_grad_value: float | None = None
    skip_nonfinite: bool = False
    zero_grad: bool = False


PLAIN = Handling()


def most(name: str, value: Any) -> float | None:
    """A bound of clipping: >= 0, and infinity clips nothing."""
    return None if value is None else math.inf if value == math.inf else float(_check.nonnegative(name, value))


@lru_cache(64, typed=True)
def checked(scale: Any, norm: Any, value: Any, skip: Any, zero: Any) -> Handling:
    return Handling(float(positive("grad_scale", scale)), most("max_grad_norm", norm), most("max_grad_value", value),
                    _check.flag("skip_nonfinite", skip), _check.flag("zero_grad", zero))


def handling(given: tuple[Any, ...]) -> Handling:
    """The arguments of `step` checked, or remembered: a training loop gives the same ones every time."""
    try:
        return checked(*given)
    except TypeError:                            # or an array of one number, which can't be remembered
        return checked.__wrapped__(*given)


def coefficient(max_norm: float, norm: float) -> float:
    """What clips gradients of this norm: torch's, never above 1; NaN if the norm is."""
    coefficient = max_norm / (norm + 1e-6)
    return 1.0 if coefficient > 1 else coefficient


@lru_cache(8)
def square_sums(level: str) -> dict[int, Reduction]:
    return {dtype.itemsize: _cpu.compiled(Reduction, dtype, level)["sum_squares"] for dtype in FLOATS}


def bound_norm(pairs: list[tuple[Plan, Rule]]) -> float:
    """The 2-norm of all gradients bound in plans: float32 before float64, each in the order of groups."""
    kernel = square_sums(_cpu.level)
    terms = [(kernel[rule.itemsize], plan) for plan, rule in sorted(pairs, key=lambda pair: pair[1].itemsize)]
    return math.sqrt(reduce_gradients(terms))


def check_writable(gradient: np.ndarray, what: str, done: str, cure: str, memory: Memory,
                   kept: Iterable[np.ndarray]) -> None:
    """Raises unless the values of a gradient can be changed where they lie, and nothing else changes with them.

    `memory` and `kept` hold the arrays that it may not overlap; `done` says what is to be done to it.
    """
    reason = ""
    if not gradient.flags.writeable:
        reason = "is read-only"
    elif overlaps_itself(gradient):
        reason = "is a broadcast array" if 0 in gradient.strides else "overlaps itself"
    elif memory.overlaps(gradient) if gradient.flags.forc else any(np.shares_memory(gradient, a) for a in kept):
        reason = "shares memory with a parameter or state"
    if reason:
        raise ValueError(f"{what} {reason} and can't be {done}; {cure}")


def overlaps_itself(array: np.ndarray) -> bool:
    """Whether elements may share memory: broadcast, or windows that slide by less than their length."""
    extent = array.itemsize
    if not array.size:
        return False
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1:
            if stride < extent:
                return True
            extent = stride * (size - 1) + extent
    return False


class Gradients:
    """The gradients of one step, bound in plans, and what the step does with them."""

    def __init__(self, optimizer: Optimizer, handling: Handling, pairs: list[tuple[Plan, Rule]]) -> None:
        self.optimizer, self.handling, self.pairs = optimizer, handling, pairs
        self.within = False                      # whether they are zeroed while the step runs
        self.after: list[Parameter] = []         # the parameters whose gradient is zeroed after it
        if handling.zero_grad:
            plans = [plan for plan, _ in pairs]
            self.after = unusual(plans)
            optimizer._check_zeroing(self.after)
            # one that several parameters share is read several times
            self.within = optimizer.sweeps and optimizer._apart.check(plans)

    def factor(self) -> float | None:
        """What multiplies them: one float64 number that unscales and clips, or None to skip the step."""
        scale, max_norm, _, skip, _ = self.handling
        if max_norm is None and not skip:
            return scale
        norm = self.optimizer.last_grad_norm = scale * bound_norm(self.pairs)
        if skip and not math.isfinite(norm):
            return None
        return scale if max_norm is None else scale * coefficient(max_norm, norm)

    def zero(self, stepped: bool) -> None:
        """Zeroes what the step has not."""
        if not self.handling.zero_grad:
            return
        every = (leaf for plan, _ in self.pairs for leaf in plan.leaves)
        zero_gradients(self.after if self.within and stepped else every)


def zero_gradients(parameters: Iterable[Parameter]) -> None:
    for parameter in parameters:
        if isinstance(parameter.grad, SparseGrad):
            parameter.grad = parameter.grad.empty()
        elif parameter.grad is not None and parameter.grad.size:     # an empty one may be read-only
            parameter.grad.fill(0)
