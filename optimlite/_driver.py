"""Between a parameter group and its kernels: plans made once, and rechecked cheaply before every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _check, _cpu
from ._core import DriverBase, Memory, Plan, Rule
from .parameter import Parameter, describe

if TYPE_CHECKING:
    from .optimizer import Optimizer

Run = tuple[Plan, int, Rule, dict[str, float], dict[str, float | int]]
Made = tuple[dict[str, np.ndarray], str]         # an entry of the state that begins with this step


class Driver(DriverBase):
    """The plans of one group (one for each float type in it)."""

    def __init__(self, optimizer: Optimizer, group: dict[str, Any]) -> None:
        super().__init__(optimizer, group, tuple(optimizer.scalars), ("params", *optimizer.defaults))
        self.params: tuple[Parameter, ...] | None = None     # those that were checked last
        self.recipe: Any = None                  # the rule, and the names and initial values of its slots

    def refresh(self) -> None:
        """Validates the group, and makes the plans anew where parameters, rule or state changed."""
        optimizer, group = self.optimizer, self.group
        for name in ("params", *optimizer.defaults):
            if name not in group:
                raise KeyError(f"a parameter group lacks the hyper-parameter `{name}`")
        group["params"] = tuple(group["params"])         # a list could grow unnoticed
        _check.group_keys(group, optimizer.defaults, type(optimizer).__name__)
        optimizer._check_group(group)
        if group["params"] != self.params:
            optimizer._check_parameters()
        recipe, version = optimizer.rule(group), optimizer.state.version
        if recipe != self.recipe or group["params"] is not self.params or self.version != version:
            plans = [self.plan(recipe, dtype) for dtype in
                     dict.fromkeys(parameter.dtype for parameter in group["params"])]
            self.recipe, self.plans = recipe, plans      # at once: an interrupt may not leave one without the other
        self.params = group["params"]
        self.remember(version)

    def plan(self, recipe: tuple[str, dict[str, float]], dtype: np.dtype) -> tuple[Plan, Rule]:
        name, slots = recipe
        leaves = [parameter for parameter in self.group["params"] if parameter.dtype == dtype]
        plan = Plan(leaves, len(slots), len(self.scalars), self.sparse)
        wanted = (*slots, *self.scalars)
        for row, parameter in enumerate(leaves):
            state = self.optimizer.state[parameter]
            self.check(parameter, slots)
            if all(key in state for key in wanted):
                plan.attach(row, [state[key] for key in slots], [state[key] for key in self.scalars], True)
        return plan, _cpu.rule(name, dtype)

    def check(self, parameter: Parameter, slots: dict[str, float]) -> None:
        """Raises if somebody replaced an entry of the state by something that a kernel can't update in place."""
        state, data = self.optimizer.state[parameter], parameter.data
        where = f"of {describe(self.optimizer.state.name_of(parameter), data.shape)}"
        for key in slots:
            array = state.get(key, data)
            if array.shape != data.shape or array.dtype != data.dtype:
                raise ValueError(f"state `{key}` {where} must be {data.dtype} of shape {data.shape}, "
                                 f"got {array.dtype} of shape {array.shape}")
            flags, like = array.flags, data.flags
            if not (flags.writeable and flags.aligned and flags.c_contiguous == like.c_contiguous
                    and flags.f_contiguous == like.f_contiguous):
                raise ValueError(f"state `{key}` {where} must be writeable and laid out as the parameter; "
                                 f"assign into it: state['{key}'][...] = value")
        for key, initial in self.optimizer.scalars.items():
            scalar, dtype = state.get(key), np.asarray(initial).dtype
            if scalar is not None and (scalar.shape != () or scalar.dtype != dtype or not scalar.flags.writeable):
                raise ValueError(f"state `{key}` {where} must be a writeable 0-d array of {dtype}, "
                                 f"got {scalar.dtype} of shape {scalar.shape}")

    def start(self, plan: Plan, made: list[Made]) -> None:
        """Creates the state of the parameters that have their first gradient now, and notes it in `made`."""
        _, slots = self.recipe
        rows = plan.pending()
        # Scalars that step together stand side by side in memory: five hundred counters are 63 cache lines, not 500.
        blocks = [np.full(len(rows), initial) for initial in self.optimizer.scalars.values()]
        for at, row in enumerate(rows):
            parameter = plan.leaves[row]
            state = self.optimizer.state[parameter]
            started = not (slots or self.scalars) or any(key in state for key in (*slots, *self.scalars))
            new = {key: np.full_like(parameter.data, initial, subok=False)
                   for key, initial in slots.items() if key not in state}
            new |= {key: block[at:at + 1].reshape(())
                    for key, block in zip(self.scalars, blocks, strict=True) if key not in state}
            made += [(state, key) for key in new]
            dict.update(state, new)              # unnoticed: this plan learns of it right here
            plan.attach(row, [state[key] for key in slots], [state[key] for key in self.scalars], started)
        self.optimizer._memory = None

    def sparse(self, parameter: Parameter) -> Any:
        """What a plan runs for a sparse gradient: its indices and values, or a dense gradient where all rows move."""
        gradient = parameter.grad
        if self.optimizer.still_rows_stay(self.group):
            return gradient.arrays()
        return gradient.to_dense(len(parameter.data))


class SparseDriver(Driver):
    """A Driver that takes sparse gradients alone."""

    def bind(self, memory: Memory) -> None:
        for parameter in self.group["params"]:
            if isinstance(parameter.grad, np.ndarray):
                raise TypeError(f"gradient of '{self.optimizer.state.name_of(parameter)}' must be a SparseGrad for "
                                f"{type(self.optimizer).__name__}, got an array; use Adam for dense gradients")
        super().bind(memory)
