"""The base of every optimizer: parameter groups, state, closures, state dicts. It owns everything but the formula."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from math import inf
from typing import Any, ClassVar

import numpy as np

from .. import checks
from ..native.gradients import DisjointGradients, clippable_in_place
from ..native.parameters import AddressRanges, Stepping, assign_gradients, forget_gradients
from ..native.steps import bind, changed, run_step
from . import nesting
from . import state_dict as state_dicts
from .gradient_options import DEFAULT, GradientOptions, GradientPass, check_writable, checked_options, zero_gradients
from .group_plan import Created, GroupPlan, SparseGroupPlan
from .hooks import Hooked, call, passed, surrounded
from .method import Group, Recipe
from .overlap import refusal, relation
from .parameter import Parameter, describe
from .sparse_grad import SparseGrad
from .state import State, StateMap, check_distinct, fitting


class OfGroups:
    """Stands for a hyper-parameter among the attributes of an optimizer, where `opt.lr = 0.1` would do nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Any, owner: type) -> Any:
        if optimizer is None:                            # so `hasattr` says no of the class, too
            raise AttributeError(f"type object '{owner.__name__}' has no attribute '{self.name}'")
        raise AttributeError(f"{owner.__name__} has no `{self.name}` of its own, each parameter group has one; "
                             f"use opt.param_groups[0][\"{self.name}\"]")

    def __set__(self, optimizer: Any, value: Any) -> None:
        raise AttributeError(f"{type(optimizer).__name__} has no `{self.name}` of its own, each parameter group has "
                             f"one; use opt.param_groups[0][\"{self.name}\"] = {checks.shown(value)}")


class Optimizer(Hooked):
    """The base class of all optimizers.

    `params`: any nesting of dicts, lists, tuples and generators of Parameters or arrays, or a list of groups: dicts
    with such a nesting under "params" and, beside it, the hyper-parameters that differ from `defaults`.  Bare arrays
    are wrapped and share memory.

    A user's own optimizer calls `super().__init__(params, defaults)` and overrides `step`: it loops over
    `self.param_groups`, reads `p.grad`, keeps arrays in `self.state[p]` and updates `p.data` in place.  An optimizer
    with a compiled rule overrides `rule` and `coefficients` instead.

    Raises TypeError or ValueError, before anything is changed, for parameters that can't be updated in place, that
    appear twice or overlap in memory, for an empty parameter list, and for hyper-parameters out of range.
    """

    checks: ClassVar[dict[str, checks.Check]] = {}       # hyper-parameter: what it may be
    scalars: ClassVar[dict[str, float | int]] = {}       # scalar state: its value before the first step
    state_names: ClassVar[tuple[str, ...] | None] = None     # every key of state there can be; None: anything
    line_states: ClassVar[tuple[str, ...]] = ()          # those with a value for each row, or column, of matrices
    accepts_dense: ClassVar[bool] = True                 # else sparse gradients alone
    single_pass: ClassVar[bool] = True                   # one native call reads the gradients, so it may zero them, too
    begins_anew: ClassVar[bool] = False                  # its state is of all parameters together
    state_format: ClassVar[str | None] = None            # a row of formats.py

    def __new__(cls, *args: Any, **kwargs: Any) -> Optimizer:
        names, any_other = checks.parameters_of(cls.__init__)
        if kwargs and not any_other:
            checks.constructor(cls.__name__, kwargs, names)
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = surrounded(cls.step)              # type: ignore[method-assign]
        for name in cls.__dict__.get("checks", ()):
            if not hasattr(cls, name):
                setattr(cls, name, OfGroups(name))

    def __init__(self, params: Any, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self.state = StateMap()
        self.steps_taken = 0                             # by this object; a loaded state dict doesn't count
        self.skipped_steps = 0                           # by `skip_nonfinite`
        self.last_grad_norm: float | None = None         # before clipping; None where the last step didn't measure it
        self._prepare_to_step()
        for name, check in self.checks.items():
            self.defaults[name] = check(name, self.defaults[name])
        given, params = params, _listed(params)
        self._trees: nesting.Trees = []                  # gradients may come so nested
        self._grouped = _is_groups(params)
        groups = params if self._grouped else [{"params": params}]
        if isinstance(params, (list, Mapping)) and not len(params):
            used_up = "; a generator gives its items once" if isinstance(given, Iterator) else ""
            raise ValueError(f"an optimizer needs at least one parameter, got an empty list{used_up}")
        for group in groups:
            self.add_param_group(group)
        if not (self._grouped or self._parameters()):
            raise ValueError("an optimizer needs at least one parameter, got an empty nesting")

    def _prepare_to_step(self) -> None:
        self._plans: list[GroupPlan] = []
        self._memory: AddressRanges | None = None
        self._whole: Any = None                          # the nesting of all groups together, and its leaves
        self._in_order: list[Parameter] = []
        self._disjoint = DisjointGradients()
        self._version = -1
        self._in_step = -1                               # else the count of forks when the step began
        self._stepping = Stepping()
        self._warned = False
        self._forget_hooks()

    # Groups ----------------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Adds parameters with hyper-parameters of their own; what isn't given comes from the defaults.

        Raises ValueError for a parameter that the optimizer has already, for overlapping memory, and for keys that look
        like misspelt hyper-parameters; nothing is added then.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise TypeError(f"a parameter group must be a dict with a 'params' key, got {type(param_group).__name__}")
        group = dict(param_group)
        checks.group_keys(group, {*self.defaults, *self.totals({**self.defaults, **group})}, type(self).__name__)
        tree = nesting.read(group["params"])
        parameters, names, chosen = nesting.as_parameters(tree)
        if "param_names" in group:
            given = group["param_names"]
            names = list(given) if isinstance(given, Iterable) else []
            if isinstance(given, str) or not (isinstance(given, Iterable) and all(isinstance(n, str) for n in names)):
                raise TypeError(f"`param_names` must be a list of str, got {checks.shown(given)}")
            group["param_names"] = names
            if len(names) != len(parameters):
                raise ValueError(f"`param_names` must have {len(parameters)} items, got {len(names)}")
        elif chosen and parameters:
            group["param_names"] = names
        group["params"] = tuple(parameters)
        for key, value in self.defaults.items():
            group.setdefault(key, value)
        self.check_group(group)
        group |= {name: group[name].copy() for name in self.totals(group)}       # they may be another optimizer's
        for parameter, name in zip(parameters, names, strict=True):
            self.check_parameter(parameter, name)
        _check_distinct(parameters, names)
        states = self._make_way(parameters, names, by_name="param_names" in group)
        self.param_groups.append(group)
        self._trees.append((nesting.skeleton(tree), parameters))
        for parameter, name in zip(parameters, names, strict=True):
            self.state.register(parameter, name, states.get(parameter))
        self._rearranged()

    def _make_way(self, parameters: list[Parameter], names: list[str], by_name: bool) -> dict[Parameter, State]:
        """Forgets parameters that left their groups and have the memory, or a name, of new ones; returns their states.

        Raises ValueError for one that is still in a group, or shares memory with one.
        """
        rivals = [one for parameter in parameters for one in self.state.sharing(parameter)]
        if by_name:
            rivals += [one for name in names for one in self.state.called(name)]
        if not rivals:
            return {}
        present = set(self._parameters())
        for parameter, name in zip(parameters, names, strict=True):
            if parameter in present:
                raise ValueError(f"parameter '{name}' appears more than once in the optimizer; "
                                 f"list it once{checks.TIED}")
            for one in self.state.sharing(parameter):
                if one in present:
                    there, how = self.state.name_of(one), relation(one.data, parameter.data)
                    raise ValueError(refusal(f"parameter '{there}'", f"parameter '{name}'", how, "list it once"
                                             + checks.TIED, f", and '{there}' is in the optimizer already"))
        left = [one for one in dict.fromkeys(rivals) if one not in present]
        for one in left:
            self._trees = nesting.pruned(self._trees, one)
        return {one: self.state.forget(one) for one in left}

    def remove(self, parameter: Parameter | np.ndarray | str) -> None:
        """Takes a parameter out of its group, and its state with it; `parameter` may be its array or its name.

        The group stays, even an empty one.  Gradients that come in the nesting of the parameters come without it then,
        and without branches that it leaves empty.  Raises KeyError for a parameter that isn't there.
        """
        from .replacing import remove  # few programs do

        remove(self, self.state.find(parameter))

    def replace(self, parameter: Parameter | np.ndarray | str, new: Parameter | np.ndarray, rows: Any = None,
                ) -> Parameter:
        """Puts another array in the place of a parameter, in its group and under its name; returns its Parameter.

            params["x"] = np.concatenate([x[keep], fresh])
            opt.replace("x", params["x"], rows=keep)

        `rows`: for each row of `new` the number of the row of the old array whose state it takes over, -1 for none; or
        a mask of the old rows that stay, in order.  Rows beyond it are new.  New rows begin with the values that state
        begins with; what isn't kept by row (`step`, Adafactor's `col_var`) stays as it is.  Without `rows`, the state
        stays if the shape does; else it begins anew, as if the parameter hadn't stepped.  Closure methods always begin
        anew.  Gradients aren't taken over.

        Raises KeyError for a parameter that isn't there, TypeError for another dtype, and ValueError for rows that
        aren't there, for state that rows don't fit, and for what an optimizer refuses of parameters; nothing is changed
        then.
        """
        from .replacing import replace

        return replace(self, self.state.find(parameter), new, rows)

    def _rearranged(self) -> None:
        """Forgets what was made for the parameters as they were."""
        self._plans, self._memory, self._disjoint = [], None, DisjointGradients()
        self._whole, self._in_order = None, []

    def check_group(self, group: Group) -> None:
        """Validates a group's hyper-parameters and puts plain Python numbers in their place; creates its totals."""
        checked = {name: check(name, group[name]) for name, check in self.checks.items()}
        self.check_together(checked)
        totals = {name: checks.total(name, group.get(name, initial))
                  for name, initial in self.totals({**group, **checked}).items()}
        group.update(checked | totals)

    def check_together(self, group: Mapping[str, Any]) -> None:
        """Raises ValueError for hyper-parameters that exclude each other."""

    def check_parameter(self, parameter: Parameter, name: str) -> None:
        """Raises ValueError for a parameter that the method can't use."""

    def check_parameters(self) -> None:
        """Raises for parameters that came into a group, or into two, by assignment to group["params"]."""
        for parameter in self._parameters():
            if not isinstance(parameter, Parameter) or parameter not in self.state._states:
                what = describe(getattr(parameter, "name", None), np.shape(parameter))
                raise ValueError(f"group['params'] holds a stranger, {what}; add it with add_param_group")
        _check_distinct(self._parameters(), self._names())

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _names(self) -> list[str]:
        return [self.state.name_of(parameter) for parameter in self._parameters()]

    # Gradients -------------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients, or fills them with zeros in place.

        With `set_to_none=False`, raises ValueError for a gradient that is read-only, broadcast or shares memory with a
        parameter or state; nothing is changed then.
        """
        if set_to_none:
            for group in self.param_groups:
                forget_gradients(group["params"])
            return
        given = self._parameters()
        self._check_zeroing([parameter for parameter in given if not isinstance(parameter.grad, SparseGrad)])
        zero_gradients(given)

    def _check_zeroing(self, parameters: list[Parameter]) -> None:
        """Raises ValueError if a gradient can't be zeroed in place."""
        known = self._memory if self._version == self.state.version else None
        memory = known or AddressRanges(self.state.arrays())
        if not parameters or clippable_in_place(parameters, memory) is not None:
            return
        kept = list(self.state.arrays())
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is not None:
                check_writable(gradient, f"gradient of '{self.state.name_of(parameter)}'", "zeroed",
                               "use zero_grad() to drop it", memory, kept)

    def _assign(self, grads: Any) -> None:
        """Replaces every `.grad`: by the nesting of the parameters, or by name."""
        parameters = self._parameters()
        if self._whole is None:                  # which comes last: an interrupt may not leave one without the other
            several = self._grouped or len(self._trees) > 1
            self._in_order = [parameter for _, given in self._trees for parameter in given]
            self._whole = nesting.Tree(nesting.Branch(str(index), False, tree)
                                       for index, (tree, _) in enumerate(self._trees)) if several else self._trees[0][0]
        tree = self._whole
        if isinstance(grads, Mapping) and not nesting.has_keys(tree, grads) and self.state.names_any(grads):
            if not self.state.unique_names():
                raise ValueError("`grads` can't be given by name: several parameters have the same; use their nesting")
            tree = nesting.Tree(map(nesting.Branch, self._names(), repeat(True), parameters))
        elif parameters != self._in_order:
            raise ValueError("`grads` can't follow the nesting of the parameters, since the groups were rearranged; "
                             "give them as a dict by name, or assign each p.grad")
        assign_gradients(parameters, nesting.gradients(grads, tree))

    # Stepping --------------------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None, *, grads: Any = None, grad_scale: float = 1.0,
             max_grad_norm: float | None = None, max_grad_value: float | None = None, skip_nonfinite: bool = False,
             zero_grad: bool = False) -> Any:
        """Updates every parameter that has a gradient, in place; returns the closure's loss, or None.

            g = grad_scale * grad
            g = g * min(1, max_grad_norm / (norm + 1e-6))       norm: of all groups' g together, 2-norm
            g = clip(g, -max_grad_value, max_grad_value)

        `closure`: clears the gradients, computes and returns the loss, or `(loss, grads)`.  `grads`: gradients in the
        nesting of the parameters or as a dict by name; they replace every `.grad`, None skips.  Parameters whose
        gradient is None are skipped and their state stands still.  Everything is checked before anything is changed.

        `grad_scale` (> 0): 1 / loss scale, or 1 / number of accumulated micro-batches.  `skip_nonfinite`: a step whose
        norm is infinite or NaN changes no parameter and no state, and adds 1 to `skipped_steps`; without it such a norm
        spoils the parameters, as in torch.  `zero_grad`: leaves zeros in the gradients, after a skipped step too;
        raises ValueError where `zero_grad(set_to_none=False)` does.  Nothing else modifies gradients.
        `last_grad_norm` is the norm before clipping, of the unscaled gradients; None if neither `max_grad_norm` nor
        `skip_nonfinite` asked for it.
        """
        given = grad_scale, max_grad_norm, max_grad_value, skip_nonfinite, zero_grad
        options = DEFAULT if given == DEFAULT else checked_options(given)
        loss = None
        if closure is not None:
            loss, grads = self._evaluate(closure, grads)
        if grads is not None:
            self._assign(grads)
        self._update(options)
        return loss

    @staticmethod
    def _evaluate(closure: Callable[[], Any], grads: Any) -> tuple[Any, Any]:
        """The closure's loss, and its gradients or those that were given."""
        if not callable(closure):
            raise TypeError(f"`closure` must be a function that returns the loss, got {type(closure).__name__}; "
                            f"gradients are given as step(grads=...)")
        loss = closure()
        if not isinstance(loss, tuple):
            return loss, grads
        if len(loss) != 2:
            raise ValueError(f"`closure` must return the loss or (loss, grads), got a tuple of {len(loss)}")
        if grads is not None:
            raise ValueError("gradients came from the closure and as `grads`; give them once")
        return loss

    def _update(self, options: GradientOptions = DEFAULT) -> None:
        with self._stepping:
            groups = self._current_plans()
            bind(self, groups, self._memory or self._survey())
            self.last_grad_norm = None
            gradients = None
            factor: float | None = 1.0
            if options is not DEFAULT:
                gradients = GradientPass(self, options, [plan for group in groups for plan in group.plans])
                factor = gradients.scale_factor()
            launches = None
            if factor is None:
                self.skipped_steps += 1
            else:
                created: list[Created] = []
                max_abs = inf if options.max_grad_value is None else options.max_grad_value
                launches = run_step(self, groups, created, factor, max_abs,
                                    gradients is not None and gradients.zero_in_sweep)
                if created:
                    self._memory = None
            if gradients is not None:
                gradients.zero(stepped=launches is not None)
        if launches == 0 and not self._warned:
            self._warned = True
            warnings.warn("step() changed nothing: no parameter has a gradient; assign p.grad, or pass grads=",
                          stacklevel=4)

    def _current_plans(self) -> list[GroupPlan]:
        groups, version = self.param_groups, self.state.version
        others = changed(self._plans, groups, version)
        if others is None:
            self._plans, others = [self._make_plan(group) for group in groups], [*range(len(groups))]
        if others:
            self._refresh([self._plan_of(index) for index in others])
        if self._version != version:
            self._version, self._memory = version, None
        return self._plans

    def _plan_of(self, index: int) -> GroupPlan:
        if self._plans[index].group is not self.param_groups[index]:
            self._plans[index] = self._make_plan(self.param_groups[index])
        return self._plans[index]

    def _refresh(self, plans: list[GroupPlan]) -> None:
        if any([plan.has_others() for plan in plans]):           # of every one: a list may have grown unnoticed
            self.check_parameters()
        for plan in plans:
            plan.refresh(self)

    def _survey(self) -> AddressRanges:
        memory = AddressRanges(self.state.arrays())
        if memory.overlapping:
            check_distinct(self.state.labels(), self.state.arrays())
        self._memory = memory
        return memory

    def _make_plan(self, group: Group) -> GroupPlan:
        return GroupPlan(self, group) if self.accepts_dense else SparseGroupPlan(self, group)

    # What a method with a compiled rule says of itself ---------------------------------------------------------------

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        """The state arrays that a parameter has from its first step on: name and shape."""
        return dict.fromkeys(self.rules(group)[self.which_rule(parameter)][1], parameter.shape)

    def rule(self, group: Group) -> Recipe:
        """The name of the compiled rule for a group, and its state arrays: name and initial value, in slot order."""
        raise NotImplementedError(f"{type(self).__name__} must override `step`, or `rule` and `coefficients`")

    def rules(self, group: Group) -> tuple[Recipe, ...]:
        """The rules of a group, where its parameters have different ones; all take the same coefficients."""
        return (self.rule(group),)

    def which_rule(self, parameter: Parameter) -> int:
        """Which of `rules` is a parameter's."""
        return 0

    def first_rule(self, group: Group) -> str | None:
        """The rule of a parameter's first step, where that is another one; it has the same state."""
        return None

    def totals(self, group: Group) -> dict[str, float]:
        """Scalars of a whole group that the rule moves, and where they start; their names are always the same.

        They are entries of the group, float64 arrays without axes: they are saved and loaded as the hyper-parameters.
        """
        return {}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        """The finished coefficients of the rule, in float64.

        `state` holds the scalar state of parameters that step together; the method advances it.  `first` says that they
        step for the first time.
        """
        raise NotImplementedError(f"{type(self).__name__} must override `coefficients`")

    def leaves_zero_rows_unchanged(self, group: Group) -> bool:
        """Whether the rule leaves a row alone whose gradient is zero; then a sparse gradient costs the rows it touches.

        Where False, a sparse gradient is made dense first.  Raises TypeError or ValueError where none is taken.
        """
        raise TypeError(f"{type(self).__name__} takes no sparse gradients; use SparseAdam, SGD or Adagrad, or make it "
                        f"dense with gradient.to_dense(len(parameter))")

    # State dicts -----------------------------------------------------------------------------------------------------

    def state_dict(self, copy: bool = True) -> dict[str, Any]:
        """State and hyper-parameters in torch's layout: {"state": {index: {name: array}}, "param_groups": [...]}.

        A snapshot: later steps don't change it.  `copy=False` gives the live arrays, for writing to disk at once.
        """
        call(self._before_save, self)
        state_dict: dict[str, Any] = passed(self._after_save, self, state_dicts.save(self, copy))
        return state_dict

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> state_dicts.Mismatch:
        """Loads a state dict of optimlite or torch: copies into the live arrays, and replaces the hyper-parameters.

        Parameters are matched by name where both sides are fully and uniquely named, else by position.  Raises
        ValueError, naming every key, if anything is missing, unexpected, misshapen or would lose values in the cast to
        the parameter's dtype; nothing is changed then.  `strict=False` loads what fits.  Returns what didn't.
        """
        mismatch = state_dicts.load(self, passed(self._before_load, self, state_dict), strict)
        call(self._after_load, self)
        return mismatch

    def _check_states(self, states: list[dict[str, Any]]) -> list[str]:
        """What is wrong with the states of several parameters together, before they are loaded."""
        return []

    def __getstate__(self) -> dict[str, Any]:
        kept = {key: value for key, value in self.__dict__.items() if key not in _OF_THIS_OBJECT}
        return {**kept, "state": {parameter: dict(state) for parameter, state in self.state.items()},
                "_names": self._names()}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        names, states = saved.pop("_names"), saved.pop("state")
        self.__dict__.update(saved)
        self._prepare_to_step()
        self.state = StateMap()
        for parameter, name in zip(self._parameters(), names, strict=True):
            self.state.register(parameter, name)
            # NumPy copies a view of rows that stand in memory as columns into Fortran order.
            self.state[parameter].update({key: fitting(parameter, array, key in self.line_states)
                                          for key, array in states.get(parameter, {}).items()})

    def __repr__(self) -> str:
        lines = []
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return f"{type(self).__name__} (\n" + "\n".join(lines) + "\n)"


_OF_THIS_OBJECT = {"_plans", "_memory", "_whole", "_in_order", "_disjoint", "_version", "_in_step", "_stepping",
                   "_warned", "_before_step", "_after_step", "_before_save", "_after_save", "_before_load",
                   "_after_load"}
# what copies don't take over


Optimizer.step = surrounded(Optimizer.step)  # type: ignore[method-assign]


def _listed(params: Any) -> Any:
    whole = (isinstance(params, (Parameter, np.ndarray, Mapping, str, bytes, np.generic, set, frozenset))
             or nesting.cure_of(params) != "")
    return params if whole or nesting.is_pair(params) or not hasattr(params, "__iter__") else list(params)


def _is_groups(params: Any) -> bool:
    return isinstance(params, list) and any(isinstance(item, Mapping) and "params" in item for item in params)


def _check_distinct(parameters: list[Parameter], names: list[str]) -> None:
    """Refuses parameters that appear twice or overlap in memory."""
    seen = set()
    for parameter, name in zip(parameters, names, strict=True):
        if parameter in seen:
            raise ValueError(f"parameter '{name}' appears more than once in the optimizer; list it once{checks.TIED}")
        seen.add(parameter)
    check_distinct((f"parameter '{name}'" for name in names), (parameter.data for parameter in parameters),
                   f"list it once{checks.TIED}")
