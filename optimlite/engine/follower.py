"""What follows an optimizer's step within the same native call: slow weights that its parameters go back to."""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..native import dispatch
from ..native.parameters import AddressRanges, ParameterCore
from ..native.plans import Plan
from ..native.steps import Launch
from .group_plan import Created
from .method import Group
from .parameter import Parameter
from .shadows import format_name
from .state import StateMap, place_of

# Launches, one list after the other, and numbers to be stored in float64 arrays without axes.
Sequel = tuple[list[list[Launch]], list[np.ndarray], list[float]]
NOWHERE = AddressRanges([])


class Known(NamedTuple):
    """What was made for the parameters that stepped, until others do or somebody changes the state."""

    stepping: list[list[Parameter]]              # of each group
    version: int                                 # of the state
    meetings: dict[tuple[int, ...], list[tuple[Launch, Launch]]]         # by the groups that meet


class Follower:
    """It holds no optimizer: the optimizer holds it, and a cycle would live until the cyclic collector runs."""

    moves = True                                 # parameters, behind the step

    def __init__(self, k: int, alpha: float) -> None:
        self.k, self.alpha = k, alpha
        self._known: Known | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Follower, (self.k, self.alpha)

    def forget(self) -> None:
        self._known = None

    def follow(self, groups: list[Group], state: StateMap, created: list[Created]) -> Sequel:
        """The launches that end a step; slow weights that are created for it are noted in `created`."""
        known = self._known_of([[parameter for parameter in group["params"] if parameter.grad is not None]
                                for group in groups], state, created)
        counts, values, meets = [], [], []
        for at, group in enumerate(groups):
            if not known.stepping[at]:
                continue
            steps = int(group.setdefault("lookahead_step", np.array(0.0))) + 1
            counts.append(group["lookahead_step"])
            values.append(float(steps) if steps < self.k else 0.0)
            if steps >= self.k:
                meets.append(at)
        return self._stages(known, tuple(meets), state), counts, values

    def _known_of(self, stepping: list[list[Parameter]], state: StateMap, created: list[Created]) -> Known:
        known = self._known
        if known is None or known.version != state.version or known.stepping != stepping:
            for parameter in chain.from_iterable(stepping):
                begin(state, parameter, created)
            self._known = known = Known(stepping, state.version, {})
        return known

    def _stages(self, known: Known, groups: tuple[int, ...], state: StateMap) -> list[list[Launch]]:
        if not groups:
            return []
        launches = known.meetings.get(groups)
        if launches is None:
            pairs = [(parameter, state[parameter]["slow"]) for at in groups for parameter in known.stepping[at]]
            launches = [meeting([pair for pair in pairs if pair[0].dtype == dtype], dtype, self.alpha)
                        for dtype in dict.fromkeys(p.dtype for p, _ in pairs)]
            known.meetings[groups] = launches
        stages = [list(stage) for stage in zip(*launches, strict=True)]
        for launch in chain.from_iterable(stages):       # slow weights of a user's own may be read in a copy
            launch.plan.bind(NOWHERE)
            launch.plan.prepare()
        return stages


def begin(state: StateMap, parameter: Parameter, created: list[Created]) -> None:
    entries = state[parameter]
    if parameter.half:
        raise TypeError(f"Lookahead takes no parameters of 16 bits, got {parameter.half} for "
                        f"'{state.name_of(parameter)}'; use a float32 master, Parameter(master, shadow=a16)")
    if "slow" not in entries:
        slow = state.empty(place_of(parameter, parameter.shape, parameter.dtype))
        slow[...] = parameter.data
        created.append((entries, "slow"))
        dict.update(entries, {"slow": slow})     # past StateMap, so without a new version: no plan has it


def meeting(pairs: list[tuple[Parameter, np.ndarray]], dtype: np.dtype, alpha: float) -> tuple[Launch, Launch]:
    """Launches for one float type: parameters go back 1 - alpha of the way, then the slow weights are set to them."""
    back = plan_of("mean", [(parameter.data, slow) for parameter, slow in pairs], dtype)
    for at, (parameter, _) in enumerate(pairs):
        if parameter.shadow is not None:
            form = dispatch.kernel(format_name(parameter.shadow), dtype, "format")
            back.keep_beside(at, "shadow", parameter.shadow, form)
    # the copy in which a strided parameter is stepped has its values then
    there = plan_of("assign", [(slow, back.layout(at)) for at, (_, slow) in enumerate(pairs)], dtype)
    return Launch(back, 0, {"weight": 1.0 - alpha}, {}), Launch(there, 0, {}, {})


def plan_of(rule: str, pairs: list[tuple[np.ndarray, np.ndarray]], dtype: np.dtype) -> Plan:
    """A plan that moves the first array of each pair; its rule reads the second one as the gradient."""
    cores = [ParameterCore(target) for target, _ in pairs]
    plan = Plan(cores, dispatch.kernel(rule, dtype), 0)
    for at, (_, operand) in enumerate(pairs):
        cores[at].grad = operand
        plan.attach(at, [], [], True)
    return plan
