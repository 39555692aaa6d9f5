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
    cautious_decay: bool = False


class MatrixOptimizer(RuleOptimizer):
    """An optimizer that overrides `update` and `state_shapes` instead of a rule for single elements.

    Groups, closures, checks, clipping and state are the base's.  What can't be computed in place is computed beside
    it, for all parameters before the first changes, so a step that fails leaves everything as it was.
    """

    single_pass = False
    options = EXACT
    by_element = False
    twin: ClassVar[str]          # the whole method in `optimlite.reference`

    def whole(self, group: Group) -> bool:
        """Whether a group's parameters step by `update`; else by `rule` and `coefficients`, as other optimizers' do."""
        return True

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
    """The plans of a group whose method computes with whole matrices."""

    def choices(self, method: Method) -> tuple[Any, ...]:
        """The shapes of state belong to it: options may change them, which state that is there doesn't."""
        return *super().choices(method), [method.state_shapes(self.group, one) for one in self.group["params"]]

    def make_plan(self, method: Any, parameters: list[Parameter], recipe: Recipe, dtype: np.dtype,
                  kind: type[Plan] = Plan) -> Plan:
        for parameter in parameters:             # which one it takes may depend on the group's options
            method.check_parameter(parameter, method.state.name_of(parameter), self.group)
        if not method.whole(self.group):
            return super().make_plan(method, parameters, recipe, dtype, kind)
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

    def create_states(self, method: Any, created: list[Created]) -> None:
        if not method.whole(self.group):
            super().create_states(method, created)
            return
        for parameter in self.group["params"]:
            if parameter.grad is None:
                continue
            state = method.state[parameter]
            missing = [key for key in places(method, self.group, parameter) if key not in state]
            new = new_arrays(method, self.group, parameter, missing)
            new |= {key: np.array(initial) for key, initial in method.scalars_of(self.group).items()
                    if key not in state}
            created += [(state, key) for key in new]
            dict.update(state, new)

    def launches(self, method: Any, launches: list[Launch], factor: float, max_abs: float) -> None:
        """Computes the updates and adds what puts them in place."""
        if not method.whole(self.group):
            super().launches(method, launches, factor, max_abs)
            return
        names = [*method.scalars_of(self.group)]
        finish = {"grad_scale": -factor if self.group.get("maximize") else factor, "max_abs": max_abs}
        for plan in self.plans:
            for at, parameter in enumerate(plan.parameters):
                g = plan.gradient(at)
                if g is None:
                    continue
                state = method.state[parameter]
                scalars = {key: state[key].item() for key in names}
                with np.errstate(all="ignore"):
                    first, *others = method.update(self.group, parameter.data, g, state, scalars, finish)
                launches.append(launch_of(first, [state[key] for key in names], scalars))
                launches += map(launch_of, others)


def launch_of(update: Update, scalars: Sequence[np.ndarray] = (), values: dict[str, Any] | None = None) -> Launch:
    """The launch that applies an update, and sets the `scalars` to these values."""
    core = ParameterCore(update.target)
    core.grad = update.operand
    plan = Plan([core], dispatch.kernel(update.rule, update.target.dtype), len(scalars))
    plan.cautious_decay = update.cautious_decay
    plan.attach(0, list(update.slots), list(scalars), True)
    plan.bind(AddressRanges([]))                 # the operand, bound as the gradient, overlaps nothing
    plan.prepare()
    return Launch(plan, 0, update.coefficients, values or {})


def apply_now(update: Update) -> None:
    """Runs an update at once: for arrays that the step has made for itself."""
    execute([launch_of(update)])


def finished(g: np.ndarray, finish: dict[str, float]) -> np.ndarray:
    """The gradient, scaled and clipped by value, in an array of the step's own in C order."""
    result = np.empty(g.shape, g.dtype)
    apply_now(Update("assign", result, g, finish))
    return result


def moved(mean: np.ndarray, values: np.ndarray, weight: float) -> np.ndarray:
    """mean + weight * (values - mean), beside the mean."""
    result = mean.copy(order="K")
    apply_now(Update("mean", result, values, {"weight": weight}))
    return result


def like(p: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values in the shape of `p`, in the order in which steps go through it."""
    return np.asarray(values.reshape(p.shape), order="F" if p.flags.fnc else "C")


def put(target: np.ndarray, values: np.ndarray) -> Update:
    """The update that sets an array to values that were computed beside it, perhaps in another shape."""
    return Update("assign", target, like(target, values), {})
