"""What follows an optimizer's step within the same native call: slow weights that its parameters go back to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..native import dispatch
from ..native.parameters import AddressRanges, ParameterCore
from ..native.plans import Plan
from ..native.steps import Launch
from .group_plan import Created
from .method import Group
from .parameter import Parameter, laid_out
from .shadows import format_name
from .state import StateMap

# Launches, one list after the other, and numbers to be stored in float64 arrays without axes.
Sequel = tuple[list[list[Launch]], list[np.ndarray], list[float]]
NOTHING: Sequel = [], [], []


class Follower(NamedTuple):
    """It knows no optimizer: an optimizer that held what holds it would live until the cyclic collector comes."""

    k: int
    alpha: float

    def follow(self, groups: list[Group], state: StateMap, created: list[Created]) -> Sequel:
        """What a step is to end with; slow weights that begin with it are noted in `created`."""
        counts, values, pairs = [], [], list[tuple[Parameter, np.ndarray]]()
        for group in groups:
            stepping = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not stepping:
                continue
            for parameter in stepping:
                begin(state, parameter, created)
            steps = int(group.setdefault("lookahead_step", np.array(0.0))) + 1
            meets = steps >= self.k
            counts.append(group["lookahead_step"])
            values.append(0.0 if meets else float(steps))
            pairs += [(parameter, state[parameter]["slow"]) for parameter in stepping] if meets else []
        stages = [meeting([pair for pair in pairs if pair[0].dtype == dtype], dtype, self.alpha)
                  for dtype in dict.fromkeys(p.dtype for p, _ in pairs)]
        return [list(stage) for stage in zip(*stages, strict=True)], counts, values


def begin(state: StateMap, parameter: Parameter, created: list[Created]) -> None:
    entries = state[parameter]
    if parameter.half:
        raise TypeError(f"Lookahead takes no parameters of 16 bits, got {parameter.half} for "
                        f"'{state.name_of(parameter)}'; use a float32 master, Parameter(master, shadow=a16)")
    if "slow" not in entries:
        slow = laid_out(parameter.data) if parameter.data.flags.forc else np.empty(parameter.shape, parameter.dtype)
        slow[...] = parameter.data
        created.append((entries, "slow"))
        dict.update(entries, {"slow": slow})     # unnoticed: plans needn't know


def meeting(pairs: list[tuple[Parameter, np.ndarray]], dtype: np.dtype, alpha: float) -> tuple[Launch, Launch]:
    """Of one float type: parameters go back by 1 - alpha of the way, then the slow weights are what they are."""
    back = plan_of("mean", [(parameter.data, slow) for parameter, slow in pairs], dtype)
    for at, (parameter, _) in enumerate(pairs):
        if parameter.shadow is not None:
            form = dispatch.kernel(format_name(parameter.shadow), dtype, "format")
            back.keep_beside(at, "shadow", parameter.shadow, form)
    # the copy in which a strided parameter is stepped has its values then
    there = plan_of("assign", [(slow, back.layout(at)) for at, (_, slow) in enumerate(pairs)], dtype)
    return Launch(back, 0, {"weight": 1.0 - alpha}, {}), Launch(there, 0, {}, {})


def plan_of(rule: str, pairs: list[tuple[np.ndarray, np.ndarray]], dtype: np.dtype) -> Plan:
    """Of a rule that moves the first of each pair; the second stands where it has a gradient."""
    cores = [ParameterCore(target) for target, _ in pairs]
    plan = Plan(cores, dispatch.kernel(rule, dtype), 0)
    for at, (_, operand) in enumerate(pairs):
        cores[at].grad = operand
        plan.attach(at, [], [], True)
    plan.bind(AddressRanges([]))
    plan.prepare()
    return plan
