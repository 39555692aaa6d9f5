"""What follows an optimizer's step within the same native call: slow weights that its parameters go back to."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..native import dispatch
from ..native.parameters import AddressRanges, ParameterCore
from ..native.plans import Plan
from ..native.steps import Launch
from .group_plan import Created, keep_master, reading
from .halves import LOST, MASTER, exact, master_in
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
        return self._stages(known, tuple(meets), groups, state), counts, values

    def _known_of(self, stepping: list[list[Parameter]], state: StateMap, created: list[Created]) -> Known:
        known = self._known
        if known is None or known.version != state.version or known.stepping != stepping:
            for parameter in chain.from_iterable(stepping):
                begin(state, parameter, created)
            self._known = known = Known(stepping, state.version, {})
        return known

    def _stages(self, known: Known, groups: tuple[int, ...], all_groups: list[Group], state: StateMap,
                ) -> list[list[Launch]]:
        if not groups:
            return []
        launches = known.meetings.get(groups)
        if launches is None:
            members: dict[Any, list[Member]] = {}
            for group, parameter in [(all_groups[at], parameter) for at in groups for parameter in known.stepping[at]]:
                entries = state[parameter]
                members.setdefault((parameter.float_type, rounding_of(group, parameter, entries)), []).append(
                    (parameter, entries))
            launches = [meeting(some, dtype, rounding, self.alpha) for (dtype, rounding), some in members.items()]
            if not any(rounding for _, rounding in members):         # else each meeting has a count of its own
                known.meetings[groups] = launches
        stages = [list(stage) for stage in zip(*launches, strict=True)]
        for launch in chain.from_iterable(stages):       # slow weights of a user's own may be read in a copy
            launch.plan.bind(NOWHERE)
            launch.plan.prepare()
        return stages


def begin(state: StateMap, parameter: Parameter, created: list[Created]) -> None:
    entries = state[parameter]
    if "slow" not in entries:
        slow = state.empty(place_of(parameter, parameter.shape, parameter.float_type))
        slow[...] = exact(parameter, entries)
        created.append((entries, "slow"))
        dict.update(entries, {"slow": slow})     # past StateMap, so without a new version: no plan has it


Member = tuple[Parameter, Mapping[str, np.ndarray]]      # with its state


def rounding_of(group: Group, parameter: Parameter, entries: Mapping[str, np.ndarray]) -> tuple[int, bool, int] | None:
    """The seed of what a meeting leaves to chance, whether it is to the nearest, and the count that it goes by."""
    if not parameter.half or master_in(parameter, entries).key not in ("", LOST):
        return None
    return group.get("seed", 0), group.get("rounding") == "nearest", int(entries["step"])


def meeting(members: list[Member], dtype: np.dtype, rounding: tuple[int, bool, int] | None, alpha: float,
            ) -> tuple[Launch, Launch]:
    """Launches for one float type: parameters go back 1 - alpha of the way, then the slow weights are set to them."""
    back = plan_of("mean", [(parameter, parameter.data, entries["slow"]) for parameter, entries in members], dtype)
    for at, (parameter, entries) in enumerate(members):
        if parameter.shadow is not None:
            form = dispatch.kernel(format_name(parameter.shadow), dtype, "format")
            back.keep_beside(at, "shadow", parameter.shadow, form)
        if parameter.half:
            keep_master(back, at, master_in(parameter, entries), entries)
    # the copy in which a strided parameter is stepped has its values then
    there = plan_of("assign", [(parameter, entries["slow"], entries[MASTER] if parameter.half and MASTER in entries
                                else back.layout(at)) for at, (parameter, entries) in enumerate(members)], dtype)
    for at, (parameter, entries) in enumerate(members):
        if parameter.half and MASTER not in entries:
            keep_master(there, at, master_in(parameter, entries), entries, "lacking")
    scalars = {}
    if rounding:
        back.round_by(*rounding[:2])
        scalars["step"] = -1 - rounding[2]       # chance of its own, beside that of the step
    return Launch(back, 0, {"weight": 1.0 - alpha}, scalars), Launch(there, 0, {}, {})


class Operand(ParameterCore):
    """An array that a rule moves by another one, of any float type."""

    offset = 0

    def accepts(self, value: np.ndarray) -> np.ndarray:
        return value


def plan_of(rule: str, triples: list[tuple[Parameter, np.ndarray, np.ndarray]], dtype: np.dtype) -> Plan:
    """A plan that moves, for each parameter, the first array; its rule reads the second one as the gradient."""
    cores = []
    for parameter, target, operand in triples:
        cores.append(Operand(target))
        cores[-1].offset, cores[-1].grad = parameter.offset, operand
    plan = Plan(cores, dispatch.kernel(rule, dtype), 0)
    plan.reads = reading(dtype)
    for at in range(len(cores)):
        plan.attach(at, [], [], True)
    return plan
