"""What follows an optimizer's step within the same native call: slow weights that its parameters go back to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


Chance = tuple[int, bool, int]                   # a seed, whether it is to the nearest, and the count that it goes by


class Meeting(NamedTuple):
    """Of parameters of one float type: they go back 1 - alpha of the way, then slow weights are set to them."""

    back: Plan
    there: Plan
    chance: Chance | None                        # relative to the first parameter's count, if rounding takes any


class Known(NamedTuple):
    """What was made for the parameters that stepped, until others do or somebody changes the state."""

    stepping: list[list[Parameter]]              # of each group
    version: int                                 # of the state
    meetings: dict[Any, list[Meeting]]           # by the groups that meet, and what their rounding goes by


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
        members = [(groups[at], parameter, state[parameter]) for at in meets for parameter in known.stepping[at]]
        return self._stages(known, tuple(meets), members), counts, values

    def _known_of(self, stepping: list[list[Parameter]], state: StateMap, created: list[Created]) -> Known:
        known = self._known
        if known is None or known.version != state.version or known.stepping != stepping:
            for parameter in chain.from_iterable(stepping):
                begin(state, parameter, created)
            self._known = known = Known(stepping, state.version, {})
        return known

    def _stages(self, known: Known, groups: tuple[int, ...], members: Sequence[Member]) -> list[list[Launch]]:
        if not members:
            return []
        chances = [chance_of(*member) for member in members]
        first = next((chance[2] for chance in chances if chance), 0)
        relative = tuple(chance and (*chance[:2], chance[2] - first) for chance in chances)
        meetings = known.meetings.get((groups, relative))
        if meetings is None:
            meetings = known.meetings[groups, relative] = meetings_of(members, relative)
        stages: list[list[Launch]] = [[], []]
        for back, there, chance in meetings:
            # chance of its own, beside that of the step
            scalars = {"step": -1 - first - chance[2]} if chance else {}
            stages[0].append(Launch(back, 0, {"weight": 1.0 - self.alpha}, scalars))
            stages[1].append(Launch(there, 0, {}, {}))
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


Member = tuple[Group, Parameter, Mapping[str, np.ndarray]]           # with its state


def chance_of(group: Group, parameter: Parameter, entries: Mapping[str, np.ndarray]) -> Chance | None:
    """What the rounding of a meeting goes by, where a parameter has no master that makes it exact."""
    if not parameter.half or master_in(parameter, entries).key not in ("", LOST):
        return None
    return group.get("seed", 0), group.get("rounding") == "nearest", int(entries["step"])


def meetings_of(members: Sequence[Member], chances: tuple[Chance | None, ...]) -> list[Meeting]:
    alike: dict[Any, list[Member]] = {}
    for member, chance in zip(members, chances, strict=True):
        alike.setdefault((member[1].float_type, chance), []).append(member)
    return [meeting(some, dtype, chance) for (dtype, chance), some in alike.items()]


def meeting(members: list[Member], dtype: np.dtype, chance: Chance | None) -> Meeting:
    back = plan_of("mean", [(parameter, parameter.data, entries["slow"]) for _, parameter, entries in members], dtype)
    for at, (_, parameter, entries) in enumerate(members):
        if parameter.shadow is not None:
            form = dispatch.kernel(format_name(parameter.shadow), dtype, "format")
            back.keep_beside(at, "shadow", parameter.shadow, form)
        if parameter.half:
            keep_master(back, at, master_in(parameter, entries), entries)
    # the copy in which a strided parameter is stepped has its values then
    there = plan_of("assign", [(parameter, entries["slow"], entries[MASTER] if parameter.half and MASTER in entries
                                else back.layout(at)) for at, (_, parameter, entries) in enumerate(members)], dtype)
    for at, (_, parameter, entries) in enumerate(members):
        if parameter.half and MASTER not in entries:
            keep_master(there, at, master_in(parameter, entries), entries, "lacking")
    if chance:
        back.round_by(*chance[:2])
    return Meeting(back, there, chance)


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
