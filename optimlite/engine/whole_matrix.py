"""Whole-matrix methods: what needs the whole matrix is computed first, and one native call puts everything in place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..native import dispatch
from ..native.parameters import AddressRanges, ParameterCore
from ..native.plans import Plan
from ..native.steps import Launch, execute
from .group_plan import Created, GroupPlan, check_place, check_scalars
from .method import Group, Method, Recipe
from .parameter import Parameter, describe
from .rule_optimizer import RuleOptimizer
from .storage import EXACT, new_arrays, places


class Update(NamedTuple):
    """What a compiled rule does to `target`, `operand` standing where it has its gradient."""

    rule: str
    target: np.ndarray
    operand: np.ndarray
    coefficients: dict[str, float]
    slots: tuple[np.ndarray, ...] = ()


class MatrixOptimizer(RuleOptimizer):
    """An optimizer that overrides `update` and `state_shapes` instead of a rule for single elements.

    Groups, closures, checks, clipping and state are the base's.  What can't be computed in place is computed beside
    it, for all parameters before the first changes, so a step that fails leaves everything as it was.
    """

    single_pass = False
    options = EXACT
    twin: ClassVar[str]          # the whole method in `optimlite.reference`

    @abstractmethod
    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        """The state arrays of a parameter, which start at zero: name and shape."""

    @abstractmethod
    def update(self, group: Group, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray],
               scalars: dict[str, Any], finish: dict[str, float]) -> list[Update]:
        """The updates to apply for one parameter.  Must not modify anything except `scalars`.

        `g` is laid out as `p`; `finish` are the coefficients `grad_scale` and `max_abs` of whatever reads it.
        """

    def rule(self, group: Group) -> Recipe:
        return "descend", {}

    def _make_plan(self, group: Group) -> GroupPlan:
        return WholeMatrixPlan(self, group)


class WholeMatrixPlan(GroupPlan):
    """What a GroupPlan is for element rules, for whole-matrix methods."""

    def make_plan(self, method: Method, parameters: list[Parameter], recipe: Recipe, dtype: np.dtype,
                  kind: type[Plan] = Plan) -> Plan:
        for parameter in parameters:
            if state := method.state[parameter]:
                where = f"of {describe(method.state.name_of(parameter), parameter.shape)}"
                for key, place in places(method, self.group, parameter).items():
                    if key in state:
                        check_place(state[key], place, key, where)
                check_scalars(method.scalars, state, where)
        plan = kind(parameters, dispatch.kernel(recipe[0], dtype), 0)        # to bind and measure the gradients
        plan.slots = {}
        return plan

    def create_states(self, method: Method, created: list[Created]) -> None:
        for parameter in self.group["params"]:
            if parameter.grad is None:
                continue
            state = method.state[parameter]
            missing = [key for key in places(method, self.group, parameter) if key not in state]
            new = new_arrays(method, self.group, parameter, missing)
            new |= {key: np.array(initial) for key, initial in method.scalars.items() if key not in state}
            created += [(state, key) for key in new]
            dict.update(state, new)

    def launches(self, method: Any, launches: list[Launch], factor: float, max_abs: float) -> None:
        """Computes the updates and adds what puts them in place."""
        finish = {"grad_scale": -factor if self.group.get("maximize") else factor, "max_abs": max_abs}
        for plan in self.plans:
            for at, parameter in enumerate(plan.parameters):
                g = plan.gradient(at)
                if g is None:
                    continue
                state = method.state[parameter]
                scalars = {key: state[key].item() for key in self.scalars}
                with np.errstate(all="ignore"):
                    first, *others = method.update(self.group, parameter.data, g, state, scalars, finish)
                launches.append(launch_of(first, [state[key] for key in self.scalars], scalars))
                launches += map(launch_of, others)


def launch_of(update: Update, scalars: Sequence[np.ndarray] = (), values: dict[str, Any] | None = None) -> Launch:
    """What applies it, and changes the `scalars` to these values."""
    core = ParameterCore(update.target)
    core.grad = update.operand
    plan = Plan([core], dispatch.kernel(update.rule, update.target.dtype), len(scalars))
    plan.attach(0, list(update.slots), list(scalars), True)
    plan.bind(AddressRanges([]))                 # what stands where a gradient does overlaps nothing that is written
    plan.prepare()
    return Launch(plan, 0, update.coefficients, values or {})


def apply_now(update: Update) -> None:
    """For arrays that are the step's own."""
    execute([launch_of(update)])
