"""What a step does with the gradients besides using them: unscale, test, clip, zero."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..native import dispatch
from ..native.gradients import BoundGradients, not_zeroable_in_place
from ..native.parameters import AddressRanges
from ..native.plans import Plan
from ..native.runtime import Kernel
from .overlap import overlaps_itself, relation
from .parameter import Parameter, describe
from .sparse_grad import SparseGrad

UNSCALED = 1.0


class GradientOptions(NamedTuple):
    """The arguments of `step`, checked."""

    grad_scale: float = UNSCALED
    max_grad_norm: float | None = None
    max_grad_value: float | None = None
    skip_nonfinite: bool = False
    zero_grad: bool = False


DEFAULT = GradientOptions()


most = checks.optional(checks.or_infinite(checks.nonnegative))           # a bound of clipping


@lru_cache(64, typed=True)
def remembered(scale: Any, norm: Any, value: Any, skip: Any, zero: Any) -> GradientOptions:
    made = GradientOptions(float(checks.positive("grad_scale", scale)), most("max_grad_norm", norm),
                           most("max_grad_value", value), checks.flag("skip_nonfinite", skip),
                           checks.flag("zero_grad", zero))
    return DEFAULT if made == DEFAULT else made


def checked_options(given: tuple[Any, ...]) -> GradientOptions:
    """The arguments of `step`, checked once: a training loop gives the same ones every time."""
    try:
        return remembered(*given)
    except TypeError:                            # an array of one number, say, can't be remembered
        return remembered.__wrapped__(*given)


def clip_coefficient(max_norm: float, norm: float) -> float:
    """What clips gradients of this norm: torch's, never above 1; NaN if the norm is."""
    coefficient = max_norm / (norm + 1e-6)
    return 1.0 if coefficient > 1 else coefficient


def squares(plans: list[Plan], level: str) -> list[tuple[Kernel, Plan]]:
    """What sums the squares of all gradients: float32 before float64, each in the order of groups."""
    return [(dispatch.vector_kernel("sum_squares", plan.kernel.itemsize, level), plan)
            for plan in sorted(plans, key=lambda plan: plan.kernel.itemsize)]


def check_writeable(gradient: np.ndarray, what: str, done: str, cure: str, memory: AddressRanges,
                   kept: Iterable[np.ndarray]) -> None:
    """Raises unless the values of a gradient can be changed where they lie, and nothing else changes with them.

    `memory` and `kept` hold the arrays that it may not overlap; `done` says what is to be done to it.
    """
    reason = ""
    if not gradient.flags.writeable:
        reason = "is read-only"
    elif overlaps_itself(gradient):
        reason = "is a broadcast array" if 0 in gradient.strides else "overlaps itself"
    elif memory.overlaps(gradient) and any(relation(gradient, array) for array in kept):
        reason = "shares memory with a parameter or state"
    if reason:
        raise ValueError(f"{what} {reason} and can't be {done}; {cure}")


def check_ordered(plans: list[Plan]) -> None:
    """Raises TypeError for complex gradients, which have no largest value."""
    for plan in plans:
        if plan.parameters and plan.parameters[0].dtype.kind == "c":
            raise TypeError(f"`max_grad_value` can't clip complex gradients, which have no order, got one of "
                            f"{describe(plan.parameters[0].name, plan.parameters[0].shape)}; use max_grad_norm")


class GradientPass:
    """The gradients of one step, bound in plans, and what the step does with them.

    `swept`: one sweep reads them, so that it may zero those that aren't read twice.
    """

    def __init__(self, options: GradientOptions, plans: list[Plan], bound: BoundGradients, swept: bool) -> None:
        self.options, self.plans, self.bound = options, plans, bound
        self.norm: float | None = None           # of all, before clipping, where the options ask for it
        self.max_abs = math.inf if options.max_grad_value is None else options.max_grad_value
        if options.max_grad_value is not None:
            check_ordered(plans)
        self.zero_in_sweep = False
        self.zero_later: list[Parameter] = []    # the parameters whose gradient the sweep can't zero
        if options.zero_grad:
            self.zero_later = not_zeroable_in_place(plans)
            # one that several parameters share is read several times
            self.zero_in_sweep = swept and bound.disjoint(plans)

    def scale_factor(self) -> float | None:
        """The factor that unscales and clips the gradients, in float64; None skips the step."""
        scale, max_norm, _, skip, _ = self.options
        if max_norm is None and not skip:
            return scale
        norm = self.norm = scale * math.sqrt(self.bound.sum(self.plans, dispatch.level, squares))
        if skip and not math.isfinite(norm):
            return None
        return scale if max_norm is None else scale * clip_coefficient(max_norm, norm)

    def zero(self, stepped: bool) -> None:
        """Zeroes the gradients that the sweep hasn't zeroed."""
        if not self.options.zero_grad:
            return
        every = (parameter for plan in self.plans for parameter in plan.parameters)
        zero_gradients(self.zero_later if self.zero_in_sweep and stepped else every)


def zero_gradients(parameters: Iterable[Parameter]) -> None:
    for parameter in parameters:
        if isinstance(parameter.grad, SparseGrad):
            parameter.grad = parameter.grad.empty()
        elif parameter.grad is not None and parameter.grad.size:     # an empty one may be read-only
            parameter.grad.fill(0)
