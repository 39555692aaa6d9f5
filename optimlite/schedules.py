"""Schedules as plain functions of the count, for loops that aren't ours: `rate = ol.schedules.cosine(0.1, T_max=100)`.

    rate = ol.schedules.cosine(0.1, T_max=100)
    rate(0), rate(50), rate(100)                 # (0.1, 0.05, 0.0)

Each takes the initial value, and then the arguments of the scheduler that it is named after, whose closed form it is:

    constant linear exponential polynomial step multi_step multiplied_by cosine cosine_with_restarts
    warmup_cosine warmup_stable_decay cyclic one_cycle

`cyclic` and `one_cycle` have peaks of their own, and take no initial value.  A function can be given to other
libraries: `jax`, `autograd`, or torch's LambdaLR with the initial value 1.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from . import lr_scheduler
from .checks import constructor, nonnegative
from .engine.optimizer import Optimizer

__all__ = ["constant", "cosine", "cosine_with_restarts", "cyclic", "exponential", "linear", "multi_step",
           "multiplied_by", "one_cycle", "polynomial", "step", "warmup_cosine", "warmup_stable_decay"]

LEFT_OUT = ("optimizer", "last_epoch", "key", "cycle_momentum", "base_momentum", "max_momentum")
ARGUMENT = re.compile(r"(\w+)(?:, \w+)*: ")
EXAMPLE = re.compile(r">>> \w+\(opt, (.+)\)\.at\((\w+)\)\n +\[(.+)\]")


class Schedule:
    """The value at a count: `schedule(t)`."""

    def __init__(self, kind: type[lr_scheduler.LRScheduler], value: float, arguments: dict[str, Any]) -> None:
        self._made_of = kind, value, arguments
        self._scheduler = kind(Optimizer([np.zeros(1)], {"lr": value}), **arguments)

    def __call__(self, t: int) -> float:
        return self._scheduler.at(t)[0]

    def __repr__(self) -> str:
        return f"<schedule of {self._scheduler!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Schedule, self._made_of


def of(name: str, kind: type[lr_scheduler.LRScheduler], own_value: bool = False) -> Callable[..., Schedule]:
    """A function that makes schedules of a scheduler's closed form; `own_value`: one that needs no initial value."""
    given = inspect.signature(kind).parameters
    parameters = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for key, p in given.items() if key not in LEFT_OUT]
    more = {"cycle_momentum": False} if "cycle_momentum" in given else {}

    def make(*args: Any, **options: Any) -> Schedule:
        constructor(f"the schedule of {kind.__name__}", options, signature.parameters)
        arguments = signature.bind(*args, **options).arguments
        value = 1.0 if own_value else nonnegative("value", arguments.pop("value"))
        return Schedule(kind, value, arguments | more)

    first = [] if own_value else [inspect.Parameter("value", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    signature = inspect.Signature([*first, *parameters])
    make.__signature__ = signature               # type: ignore[attr-defined]
    make.__name__ = make.__qualname__ = name
    make.__doc__ = described(name, kind, own_value)
    return make


def described(name: str, kind: type[lr_scheduler.LRScheduler], own_value: bool) -> str:
    """The scheduler's docstring, without the arguments that a function doesn't have, and with its own example."""
    lines: list[str] = []
    left_out = False
    for line in (inspect.getdoc(kind) or "").splitlines():           # none where Python runs by -OO
        if argument := ARGUMENT.match(line):
            left_out = argument[1] in LEFT_OUT
            if argument[1] == "optimizer" and not own_value:
                lines.append("value: the initial value, >= 0.")
        elif not line:
            left_out = False
        if not left_out:
            lines.append(line)
    first = "" if own_value else "1.0, "
    text = EXAMPLE.sub(rf">>> ol.schedules.{name}({first}\1)(\2)\n    \3", "\n".join(lines))
    return f"A function of the count, `schedule(t)`: the closed form of {kind.__name__}.\n\n{text}"


constant = of("constant", lr_scheduler.ConstantLR)
linear = of("linear", lr_scheduler.LinearLR)
exponential = of("exponential", lr_scheduler.ExponentialLR)
polynomial = of("polynomial", lr_scheduler.PolynomialLR)
step = of("step", lr_scheduler.StepLR)
multi_step = of("multi_step", lr_scheduler.MultiStepLR)
multiplied_by = of("multiplied_by", lr_scheduler.LambdaLR)
cosine = of("cosine", lr_scheduler.CosineAnnealingLR)
cosine_with_restarts = of("cosine_with_restarts", lr_scheduler.CosineAnnealingWarmRestarts)
warmup_cosine = of("warmup_cosine", lr_scheduler.WarmupCosineLR)
warmup_stable_decay = of("warmup_stable_decay", lr_scheduler.WarmupStableDecayLR)
cyclic = of("cyclic", lr_scheduler.CyclicLR, own_value=True)
one_cycle = of("one_cycle", lr_scheduler.OneCycleLR, own_value=True)
