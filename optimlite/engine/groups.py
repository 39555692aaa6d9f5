"""What an optimizer has of parameters: its groups, their state, and gradients in their nesting."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from itertools import repeat
from typing import Any, ClassVar

import numpy as np

from .. import checks
from ..checks import Check, shown
from ..native.parameters import AddressRanges, assign_gradients
from . import nesting
from .hooks import Hooked
from .method import Group, parameters_of
from .modifiers import settle
from .overlap import refusal, relation
from .parameter import Parameter, describe
from .state import State, StateMap, check_distinct
from .storage import EXACT, kept

_OF_THIS_OBJECT = {"follower", "_state", "_plans", "_memory", "_watch", "_round", "_whole", "_in_order", "_bound",
                   "_version", "_in_step", "_stepping", "_warned", "_before_step", "_after_step", "_before_save",
                   "_after_save", "_before_load", "_after_load"}
# not in copies and pickles


class Grouped(Hooked):
    """The part of an optimizer that keeps parameter groups and state, and says what either may be.

    The rest of the engine sees an optimizer as a Grouped; the other methods that users call are `Optimizer`'s.
    """

    checks: ClassVar[dict[str, checks.Check]] = {}       # hyper-parameter: what it may be
    scalars: ClassVar[dict[str, float | int]] = {}       # scalar state: its value before the first step
    later_scalars: ClassVar[dict[str, float | int]] = {}         # newer ones, which older states may lack
    state_names: ClassVar[tuple[str, ...] | None] = None     # every key of state there can be; None: anything
    line_states: ClassVar[tuple[str, ...]] = ()          # state with a value for each row, or column, of matrices
    begins_anew: ClassVar[bool] = False                  # where a parameter is replaced, since state is of all together
    half_states: ClassVar[Container[str]] = ()           # state that stays in 16 bits if it is loaded in 16 bits
    exact_states: ClassVar[tuple[str, ...]] = ()         # state that has no format: copies of parameters, say
    fine_states: ClassVar[tuple[str, ...]] = ()          # state of which differences are taken: int8 is too coarse
    unsigned_states: ClassVar[tuple[str, ...]] = ()      # state that is never negative
    mixes_rows: ClassVar[bool] = False                   # no row of its state belongs to a row of the parameter
    later_options: ClassVar[tuple[str, ...]] = ()        # not in older state dicts, or torch's, but on by default
    options: ClassVar[dict[str, Check]] = EXACT          # hyper-parameters that a group may lack
    by_element: ClassVar[bool] = True                    # False: it has state of rows or matrices, in real numbers
    writes_shadows: ClassVar[bool] = False
    takes_halves: ClassVar[bool] = False                 # parameters of 16 bits
    restored_by: ClassVar[str] = ""                      # what reads its state from a file, if not `ol.restore`

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self._state = StateMap()
        self._trees: nesting.Trees = []                  # gradients may come so nested
        self._grouped = False                            # the parameters were given in groups
        self.steps_taken = 0                             # by this object; a loaded state dict doesn't count
        self.skipped_steps: int = 0                      # by `skip_nonfinite`
        self.last_grad_norm: float | None = None         # before clipping; None where the last step didn't measure it
        self._prepare_to_step()
        for name, check in (*self.checks.items(), *self.options.items()):
            if name in self.checks or name in self.defaults:
                self.defaults[name] = check(name, self.defaults[name])

    def _prepare_to_step(self) -> None:
        self._memory: AddressRanges | None = None
        self._round: Any = None                          # what `step_parameter` knows of a backward pass
        self._watch: Any = None                          # what measures steps for `metrics`, where that was asked for
        self._whole: Any = None                          # the nesting of all groups together, and its leaves
        self._in_order: list[Parameter] = []
        self._version = -1                               # of the state, when `_memory` was made
        self._warned = False
        self._forget_hooks()

    @property
    def state(self) -> StateMap:
        """The state arrays by parameter, array or name, and then by their own name: `opt.state["W"]["exp_avg"]`.

        An empty dict that is assigned, as in torch's `opt.state = defaultdict(dict)`, forgets all state.
        """
        return self._state

    @state.setter
    def state(self, state: Mapping[Any, Any]) -> None:
        if state is self._state:
            return
        if not isinstance(state, Mapping):
            raise TypeError(f"`state` must be an empty dict, which forgets all state, got {shown(state)}; use "
                            f"opt.load_state_dict(...), or opt.state[p][name] = array")
        if state:
            raise ValueError(f"`state` must be an empty dict, which forgets all state, got {len(state)} entries; "
                             f"use opt.load_state_dict(...), or opt.state[p][name] = array")
        self._state.clear()

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Adds parameters with hyper-parameters of their own; what isn't given comes from the defaults.

        param_group: a dict with parameters, in any nesting, under "params".

        Raises ValueError for a parameter that the optimizer has already, for overlapping memory, and for keys that look
        like misspelt hyper-parameters; nothing is added then.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            got = f"the keys {list(param_group)}" if isinstance(param_group, Mapping) else type(param_group).__name__
            raise TypeError(f"a parameter group must be a dict with a 'params' key, got {got}")
        group = dict(param_group)
        known = {*self.defaults, *self.options, *self.totals({**self.defaults, **group})}
        checks.group_keys(group, known, type(self).__name__)
        tree = nesting.read(group["params"])
        parameters, names, chosen = nesting.as_parameters(tree)
        if "param_names" in group:
            given = group["param_names"]
            names = list(given) if isinstance(given, Iterable) else []
            if isinstance(given, str) or not (isinstance(given, Iterable) and all(isinstance(n, str) for n in names)):
                raise TypeError(f"`param_names` must be a list of str, got {shown(given)}")
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
            self.check_kind(parameter, name, group)
            self.check_parameter(parameter, name, group)
        _check_distinct(parameters, names)
        states = self._make_way(parameters, names, by_name="param_names" in group)
        self.param_groups.append(group)
        self._trees.append((nesting.skeleton(tree), parameters))
        for parameter, name in zip(parameters, names, strict=True):
            self.state.register(parameter, name, states.get(parameter))
            parameter.casts = parameter.reads_any or bool(group.get("cast_grads"))
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

    def _rearranged(self) -> None:
        """Forgets what was made for the parameters as they were."""
        self._memory, self._whole, self._in_order = None, None, []

    def check_group(self, group: Group) -> None:
        """Validates a group's hyper-parameters and puts plain Python numbers in their place; creates its totals."""
        checked = {name: check(name, group[name]) for name, check in self.checks.items()}
        checked |= {name: check(name, group[name]) for name, check in self.options.items() if name in group}
        settle(checked)
        self.check_together(checked)
        totals = {name: checks.total(name, group.get(name, initial))
                  for name, initial in self.totals({**group, **checked}).items()}
        group.update(checked | totals)

    def check_together(self, group: Mapping[str, Any]) -> None:
        """Raises ValueError for hyper-parameters that exclude each other."""

    def check_kind(self, parameter: Parameter, name: str, group: Group) -> None:
        """Raises for parameters of a kind that the method, or the group's options, can't step: complex, shadowed."""
        if not self.by_element and parameter.dtype.kind == "c":
            raise TypeError(f"{type(self).__name__} takes no complex parameters, since its state is of rows or "
                            f"matrices of real numbers, got {parameter.dtype} for '{name}'; use another optimizer, or "
                            f"a.real and a.imag, two parameters that share its memory")
        if parameter.shadow is not None and not (self.writes_shadows and self.by_element):
            raise TypeError(f"{type(self).__name__} writes no shadows, got one of '{name}'; use another optimizer, or "
                            f"give the parameter without it")
        if parameter.half and not (self.takes_halves and self.by_element):
            raise TypeError(f"{type(self).__name__} takes no parameters of 16 bits, got {parameter.half} for '{name}'; "
                            f"use a.astype(np.float32), and let the model use that array, or round it")
        kept(self, group, parameter)

    def check_parameter(self, parameter: Parameter, name: str, group: Group) -> None:
        """Raises ValueError for a parameter that the method can't use in this group."""

    def check_parameters(self) -> None:
        """Raises for parameters that came into a group, or into two, by assignment to group["params"]."""
        for parameter in self._parameters():
            if not isinstance(parameter, Parameter) or parameter not in self.state._states:
                what = describe(getattr(parameter, "name", None), np.shape(parameter))
                raise ValueError(f"group['params'] holds {what}, which the optimizer doesn't know; "
                                 f"add it with add_param_group")
        _check_distinct(self._parameters(), self._names())

    def _parameters(self) -> list[Parameter]:
        return parameters_of(self.param_groups)

    def _names(self) -> list[str]:
        return [self.state.name_of(parameter) for parameter in self._parameters()]

    # Gradients -------------------------------------------------------------------------------------------------------

    def _assign(self, grads: Any) -> None:
        """Replaces every `.grad`: by the nesting of the parameters, or by name, flat or nested."""
        parameters = self._parameters()
        if self._whole is None:                  # set last: after an interrupt it isn't there without `_in_order`
            several = self._grouped or len(self._trees) > 1
            self._in_order = [parameter for _, given in self._trees for parameter in given]
            self._whole = nesting.Tree(nesting.Branch(str(index), False, tree)
                                       for index, (tree, _) in enumerate(self._trees)) if several else self._trees[0][0]
        tree = self._whole
        named = isinstance(grads, Mapping) and not nesting.has_keys(tree, grads)
        if named and any(not isinstance(value, np.ndarray) and not self.state.names_any([key])
                         for key, value in grads.items()):
            names = nesting.by_name(grads, self._names())        # of a model that `group_by_name` has rearranged
            grads = names if self.state.names_any(names) else grads
        if named and self.state.names_any(grads):
            if not self.state.unique_names():
                raise ValueError("`grads` can't be given by name: several parameters have the same; use their nesting")
            tree = nesting.Tree(map(nesting.Branch, self._names(), repeat(True), parameters))
        elif parameters != self._in_order:
            raise ValueError("`grads` can't follow the nesting of the parameters, since the groups were rearranged; "
                             "give them as a dict by name, or assign each p.grad")
        assign_gradients(parameters, nesting.gradients(grads, tree))

    # How state is laid out, where the optimizer says so --------------------------------------------------------------

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        """The state arrays that a parameter has from its first step on: name and shape."""
        return {}

    def initial_state(self, group: Group, parameter: Parameter) -> dict[str, float]:
        """What these arrays begin with, where that isn't 0."""
        return {}

    def scalars_of(self, group: Group) -> Mapping[str, float | int]:
        """The scalar state of a group's parameters, where that isn't all of `scalars`."""
        return self.scalars

    def totals(self, group: Group) -> dict[str, float]:
        """Scalars of a whole group that the rule moves, and their initial values; all groups have the same names.

        They are entries of the group, float64 arrays without axes, and are saved and loaded as hyper-parameters are.
        """
        return {}

    def _check_states(self, states: list[dict[str, Any]]) -> list[str]:
        """What is wrong with the states of several parameters together, before they are loaded."""
        return []



def _check_distinct(parameters: list[Parameter], names: list[str]) -> None:
    """Refuses parameters that appear twice or overlap in memory."""
    seen = set()
    for parameter, name in zip(parameters, names, strict=True):
        if parameter in seen:
            raise ValueError(f"parameter '{name}' appears more than once in the optimizer; list it once{checks.TIED}")
        seen.add(parameter)
    check_distinct((f"parameter '{name}'" for name in names), (parameter.data for parameter in parameters),
                   f"list it once{checks.TIED}")
    shadows = [(name, p.shadow) for name, p in zip(names, parameters, strict=True) if p.shadow is not None]
    if shadows:
        check_distinct([f"parameter '{name}'" for name in names] + [f"the shadow of '{name}'" for name, _ in shadows],
                       [*(p.data for p in parameters), *(shadow for _, shadow in shadows)])
