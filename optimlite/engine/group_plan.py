"""Between a parameter group and its kernels: plans made once, and rechecked cheaply before every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .. import checks
from ..native import dispatch
from ..native.parameters import AddressRanges
from ..native.plans import Plan, RowPlan, SparsePlan
from ..native.runtime import Kernel
from ..native.steps import GroupPlanCore
from .formats import is_bfloat16
from .halves import LOST, LOW, MASTER, Master, master_of
from .method import Group, Method, Recipe
from .modifiers import coefficients_of, modifier_of
from .parameter import Parameter, describe
from .shadows import format_name
from .sparse_grad import SparseGrad
from .state import Place
from .storage import counts_to_round, kept, new_arrays, places, rounds, scales_of

Created = tuple[dict[str, np.ndarray], str]      # an entry of the state that begins with this step


class GroupPlan(GroupPlanCore):
    """The plans of one group: one for each float type and rule in it.

    The method is handed in with every call, not kept: an optimizer holds its plans, and if they held it, too, it would
    live until the cyclic collector comes, which takes no notice of megabytes.
    """

    def __init__(self, method: Method, group: Group) -> None:
        super().__init__(group, special=type(self) is not GroupPlan)
        self.params: tuple[Parameter, ...] | None = None     # those that were checked last
        self.made_of: Any = None                 # what the group's values have chosen: rules, a modifier, a format

    def has_others(self) -> bool:
        """Whether the group has other parameters than those that were checked last."""
        if "params" in self.group:
            self.group["params"] = tuple(self.group["params"])   # a list could grow unnoticed
        return self.group.get("params", self.params) != self.params

    def refresh(self, method: Method) -> None:
        """Validates the group, and makes the plans anew where parameters, rules or state changed."""
        group = self.group
        for name in ("params", *method.defaults):
            if name not in group:
                raise KeyError(f"a parameter group lacks the hyper-parameter `{name}`")
        checks.group_keys(group, {*method.defaults, *method.options, *method.totals(group)}, type(method).__name__)
        method.check_group(group)
        version = method.state.version
        made_of = self.choices(method)
        if made_of != self.made_of or group["params"] is not self.params or self.version != version:
            plans = self.make_plans(method, made_of[0])
            scalars, counts = tuple(method.scalars_of(group)), counts_to_round(method, group)
            for parameter in group["params"]:
                parameter.casts = parameter.reads_any or bool(group.get("cast_grads"))
            # at once: neither an interrupt nor a refusal may leave one without the others
            self.made_of, self.plans, self.scalars, self.counts = made_of, plans, scalars, counts
        self.params, self.totals = group["params"], [group[name] for name in method.totals(group)]
        self.of_modifier = coefficients_of(group)
        given = [name for name in method.options if name in group]
        self.watched = ("params", *dict.fromkeys((*method.defaults, *given)), *method.totals(group))
        self.remember(version)

    def choices(self, method: Method) -> tuple[Any, ...]:
        """What the plans are made of: its first item are the rules."""
        options = tuple(self.group.get(name) for name in method.options)
        modifiers = modifier_of(self.group), bool(self.group.get("cautious_weight_decay"))
        return method.rules(self.group), method.first_rule(self.group), modifiers, options

    def make_plans(self, method: Method, recipes: tuple[Recipe, ...]) -> list[Plan]:
        members: dict[tuple[Any, ...], list[Parameter]] = {}
        for parameter in self.group["params"]:
            members.setdefault(alike(method, self.group, parameter), []).append(parameter)
        return [self.make_plan(method, parameters, recipes[which], dtype)
                for (which, dtype, _), parameters in sorted(members.items(), key=lambda item: item[0][0])]

    def make_plan(self, method: Method, parameters: list[Parameter], recipe: Recipe, dtype: np.dtype,
                  kind: type[Plan] = Plan) -> Plan:
        name, slots = recipe
        kernel = dispatch.kernel(name, dtype)
        check_rule(method, kernel, slots)
        if kernel.by_rows and kind is Plan:
            kind = RowPlan
        scalars = method.scalars_of(self.group)
        plan = kind(parameters, kernel, len(scalars))
        if isinstance(plan, RowPlan):
            plan.split([method.rows_of(self.group, parameter) for parameter in parameters])
        plan.slots = slots
        if first := method.first_rule(self.group):
            plan.first_kernel = dispatch.kernel(first, dtype)
            check_rule(method, plan.first_kernel, slots)
            if plan.first_kernel.own_scalars != kernel.own_scalars:
                raise TypeError(f"the rules '{first}' and '{name}' of {type(method).__name__} must move the same "
                                f"scalars, got {plan.first_kernel.own_scalars} and {kernel.own_scalars}")
        plan.cautious_decay = bool(self.group.get("cautious_weight_decay"))
        modifier = modifier_of(self.group)
        if modifier or plan.cautious_decay:
            for either in (kernel, plan.first_kernel or kernel):
                check_modifier(method, either, modifier or "cautious_weight_decay")
        if modifier:
            plan.modifier = dispatch.kernel(modifier, dtype, "modifier")
        shadows = {at: p.shadow for at, p in enumerate(parameters) if p.shadow is not None}
        casts = self.group.get("cast_grads") or any(parameter.reads_any for parameter in parameters)
        plan.reads = reading(dtype) if casts else None
        for at, shadow in shadows.items():
            plan.keep_beside(at, "shadow", shadow, dispatch.kernel(format_name(shadow), dtype, "format"))
        plan.formats = kept(method, self.group, parameters[0])
        if plan.formats:
            kernels = [plan.formats[key].kernel if key in plan.formats else None for key in slots]
            plan.store_as([dispatch.kernel(name, dtype, "format") if name else None for name in kernels])
        if rounds(self.group):
            plan.round_by(self.group.get("seed", 0), self.group.get("rounding") == "nearest")
        for at, parameter in enumerate(parameters):
            state = method.state[parameter]
            if state:
                self.check_state(method, plan, at)
                if all(key in state for key in (*places(method, self.group, parameter), *scalars)):
                    self.attach(plan, at, state, scalars, True)
            elif not (slots or scalars or parameter.half):
                plan.attach(at, [], [], True)
        return plan

    def outgrown(self, method: Method, plan: Plan) -> SparsePlan:
        """The same plan with room for sparse gradients."""
        grown = self.make_plan(method, plan.parameters, (plan.kernel.name, plan.slots), plan.parameters[0].float_type,
                               SparsePlan)
        assert isinstance(grown, SparsePlan)
        return grown

    def sparse(self, method: Method, plan: Plan) -> Callable[[Any], Any]:
        """What a plan runs for a sparse gradient: its indices and values, or a dense gradient where all rows move."""
        unchanged = method.leaves_zero_rows_unchanged(self.group)
        if any(form.format.scaled for form in plan.formats.values()):
            raise TypeError("a sparse gradient can't step state in int8, where elements of several rows share a scale; "
                            "use state_dtype='bfloat16', or make it dense with gradient.to_dense(len(parameter))")
        if any(p.reads_any and isinstance(p.grad, SparseGrad) for p in plan.parameters):
            raise TypeError("a sparse gradient can't step a parameter with a shadow, which is written as a whole; make "
                            "it dense with gradient.to_dense(len(parameter))")
        return lambda p: p.grad.arrays() if unchanged else p.grad.to_dense(len(p.data))

    # State -----------------------------------------------------------------------------------------------------------

    def check_state(self, method: Method, plan: Plan, at: int) -> None:
        """Raises if somebody replaced an entry of the state by something that a kernel can't update in place."""
        parameter = plan.parameters[at]
        state = method.state[parameter]
        where = f"of {describe(method.state.name_of(parameter), parameter.shape)}"
        for key, place in places(method, self.group, parameter).items():
            if (array := state.get(key)) is not None:
                check_place(array, place, key, where)
        check_scalars(method.scalars_of(self.group), state, where)
        master = master_of(self.group, parameter)
        if others := {LOW, LOST, MASTER} & state.keys() - {master.key} if master else ():
            raise ValueError(f"state `{min(others)}` {where} is of another `master` than "
                             f"{self.group.get('master', 'float32')!r}; use opt.load_state_dict(opt.state_dict())")

    def create_state(self, method: Method, plan: Plan, created: list[Created]) -> None:
        """Creates the state of the parameters that have their first gradient now, and notes it in `created`."""
        pending = plan.pending()
        # Scalars that step together stand side by side in memory: five hundred counters are 63 cache lines, not 500.
        blocks = [np.full(len(pending), initial) for initial in method.scalars_of(self.group).values()]
        for k, at in enumerate(pending):
            parameter = plan.parameters[at]
            state = method.state[parameter]
            has_stepped = not (plan.slots or self.scalars) or any(key in state for key in (*plan.slots, *self.scalars))
            missing = [key for key in places(method, self.group, parameter) if key not in state]
            new = new_arrays(method, self.group, parameter, missing)
            new |= {key: block[k:k + 1].reshape(())
                    for key, block in zip(self.scalars, blocks, strict=True) if key not in state}
            created += [(state, key) for key in new]
            dict.update(state, new)              # past StateMap, so without a new version: this plan gets it here
            self.attach(plan, at, state, self.scalars, has_stepped)

    def attach(self, plan: Plan, at: int, state: Mapping[str, np.ndarray], scalars: Iterable[str], has_stepped: bool,
               ) -> None:
        plan.attach(at, [state[key] for key in plan.slots], [state[key] for key in scalars], has_stepped,
                    tuple(state.get(scales_of(key)) for key in plan.slots) if plan.formats else ())
        if master := master_of(self.group, plan.parameters[at]):
            keep_master(plan, at, master, state)


class SparseGroupPlan(GroupPlan):
    """A GroupPlan that takes sparse gradients alone."""

    def bind(self, method: Method, memory: AddressRanges) -> None:
        for parameter in self.group["params"]:
            if isinstance(parameter.grad, np.ndarray):
                raise TypeError(f"gradient of '{method.state.name_of(parameter)}' must be a SparseGrad for "
                                f"{type(method).__name__}, got an array; use Adam for dense gradients")
        super().bind(method, memory)


def keep_master(plan: Plan, at: int, master: Master, state: Mapping[str, np.ndarray], what: str = "rest") -> None:
    """Enters the rest of a parameter of 16 bits: the master itself where that is kept, else as `what`."""
    plan.keep_beside(at, "master" if master.key == MASTER else what, state[master.key] if master.key else None,
                     dispatch.kernel(master.kernel, np.dtype(np.float32), "format"))


def check_place(array: np.ndarray, place: Place, key: str, where: str) -> None:
    if array.shape != place.shape or array.dtype != place.dtype:
        raise ValueError(f"state `{key}` {where} must be {place.dtype} of shape {place.shape}, "
                         f"got {array.dtype} of shape {array.shape}")
    flags, layout, fits = array.flags, "C-contiguous", array.flags.c_contiguous
    if place.like is not None:
        layout, like = "laid out as the parameter", place.like.flags
        fits = flags.c_contiguous == like.c_contiguous and flags.f_contiguous == like.f_contiguous
    if not (flags.writeable and flags.aligned and fits):
        raise ValueError(f"state `{key}` {where} must be writeable and {layout}; "
                         f"assign into it: state['{key}'][...] = value")


def check_scalars(scalars: Mapping[str, float], state: Mapping[str, np.ndarray], where: str) -> None:
    for key, initial in scalars.items():
        scalar, dtype = state.get(key), np.asarray(initial).dtype
        if scalar is not None and (scalar.shape != () or scalar.dtype != dtype or not scalar.flags.writeable):
            raise ValueError(f"state `{key}` {where} must be a writeable 0-d array of {dtype}, "
                             f"got {scalar.dtype} of shape {scalar.shape}")


def alike(method: Method, group: Group, parameter: Parameter) -> tuple[int, np.dtype, tuple[Any, ...]]:
    """What parameters of one plan have in common: the rule, the float type, and how they and their state are stored."""
    return method.which_rule(parameter), parameter.float_type, (bool(kept(method, group, parameter)), parameter.half)


def reading(dtype: np.dtype) -> Callable[[np.dtype], Kernel]:
    """What decodes gradients of other types for parameters of this one."""
    def format_of(given: np.dtype) -> Kernel:
        name = "bfloat16" if is_bfloat16(given) or given == np.uint16 else "float16" if given == np.float16 else "other"
        return dispatch.kernel(name, dtype, "format")

    return format_of


def check_rule(method: Method, kernel: Kernel, slots: dict[str, float]) -> None:
    """Raises TypeError where a class and its kernel don't agree on the state."""
    has = kernel.slots + kernel.line_states
    if len(slots) != has:
        names = f" ({', '.join(slots)})" if slots else ""
        raise TypeError(f"the rule '{kernel.name}' has {has} state arrays, but {type(method).__name__} names "
                        f"{len(slots)}{names}; `rule` must name each, in the order of s[0], s[1], ...")
    own = list(method.scalars.values())[-kernel.own_scalars:] if kernel.own_scalars else []
    if len(own) < kernel.own_scalars or not all(isinstance(initial, float) for initial in own):
        raise TypeError(f"the rule '{kernel.name}' moves the last {kernel.own_scalars} of `scalars`, which must be "
                        f"floats, but {type(method).__name__} has {dict(method.scalars)}")


def check_modifier(method: Method, kernel: Kernel, modifier: str) -> None:
    if not kernel.yields:
        option = {"limited": "max_update_rms"}.get(modifier, modifier)
        raise ValueError(f"`{option}` can't be applied to {type(method).__name__}, whose rule '{kernel.name}' writes "
                         f"the parameter itself instead of yielding an update")
