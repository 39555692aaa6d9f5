"""Steps of single parameters, as a backward pass yields their gradients one by one and lets go of each."""

from __future__ import annotations

import math
import operator
from itertools import chain, repeat
from typing import Any

from .. import checks
from .gradient_options import clip_coefficient, most
from .parameter import Parameter
from .sparse_grad import dense

params_of, grad_of = operator.itemgetter("params"), operator.attrgetter("grad")


class Round:
    """A round: each parameter steps once; the first to step again begins the next."""

    def __init__(self) -> None:
        self.done: set[Parameter] = set()
        self.squares = 0.0                       # of the gradients so far
        self.norm: float | None = None           # of the round before

    def begins_with(self, parameter: Parameter) -> bool:
        """Whether this parameter's step is the first of another round."""
        if self.done and parameter not in self.done:
            return False
        if self.done:
            self.norm = math.sqrt(self.squares)
        self.done, self.squares = set(), 0.0
        return True


def step_parameter(optimizer: Any, parameter: Parameter, grad: Any, grad_scale: float, max_grad_norm: float | None,
                   ) -> None:
    check_method(optimizer)
    scale, max_norm = float(checks.positive("grad_scale", grad_scale)), most("max_grad_norm", max_grad_norm)
    check_others(optimizer, parameter)
    this = optimizer._round = optimizer._round or Round()
    begins, taken = this.begins_with(parameter), optimizer.steps_taken
    try:
        parameter.grad = grad
        square = 0.0 if max_norm is None else (scale * norm_of(parameter)) ** 2
        clip = 1.0 if max_norm is None or this.norm is None else clip_coefficient(max_norm, this.norm)
        optimizer.step(grad_scale=scale * clip)
        optimizer.last_grad_norm = this.norm if max_norm is not None else None
        optimizer.steps_taken = taken + begins
        this.done.add(parameter)
        this.squares += square
    finally:
        parameter.grad = None


def check_method(optimizer: Any) -> None:
    """Raises TypeError for methods that need all gradients at once."""
    name = type(optimizer).__name__
    if optimizer.begins_anew:
        raise TypeError(f"{name} evaluates the model several times in a step; use step(closure)")
    if getattr(optimizer, "follower", None) is not None:
        raise TypeError(f"{name} goes back to slow weights every few steps of all parameters; use step()")
    if any(map(optimizer.totals, optimizer.param_groups[:1])):           # the names of all groups' are the same
        raise TypeError(f"{name} estimates a number from all its parameters together; use step()")


def check_others(optimizer: Any, parameter: Parameter) -> None:
    """Raises ValueError where another parameter has a gradient; the loop that finds none is compiled."""
    everyone = chain.from_iterable(map(params_of, optimizer.param_groups))
    if any(map(operator.is_not, map(grad_of, everyone), repeat(None))):
        for other in optimizer._parameters():
            if other.grad is not None and other is not parameter:
                raise ValueError(f"'{optimizer.state.name_of(other)}' has a gradient, which a step of "
                                 f"'{optimizer.state.name_of(parameter)}' alone would apply, too; call zero_grad() "
                                 f"before, or step()")


def norm_of(parameter: Parameter) -> float:
    from ..native.arrays import sum_squares
    from .formats import widened

    grad: Any = parameter.grad
    array = widened(dense(grad, parameter)).astype(parameter.float_type, copy=False)
    return math.sqrt(sum_squares(array if array.flags.forc and array.flags.aligned else array.copy()))
