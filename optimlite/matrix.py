"""Whole-matrix methods: the update is computed beside the old values, and one native call puts everything in place."""

from __future__ import annotations

from abc import abstractmethod
from math import inf
from typing import Any, NamedTuple

import numpy as np

from . import _cpu
from ._core import Leaf, Memory, Plan, Rule, reduce
from ._driver import Driver, Made, Run
from .optimizer import Group, Optimizer
from .parameter import Parameter, describe


class Update(NamedTuple):
    """p becomes keep * p - step_size * direction, and the entries of `state` what stands there."""

    keep: float
    step_size: float
    direction: np.ndarray
    state: dict[str, np.ndarray]


class MatrixOptimizer(Optimizer):
    """An optimizer that overrides `update` and `state_shapes` instead of a rule for single elements.

    Groups, closures, checks, clipping and state are the base's.  The updates of all parameters are computed before the
    first is put in place, so a step that fails leaves everything as it was; while it runs, it needs memory for them.
    """

    sweeps = False

    @abstractmethod
    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        """The state arrays of a parameter, which start at zero: name and shape."""

    @abstractmethod
    def update(self, group: Group, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray],
               scalars: dict[str, Any]) -> Update:
        """The update of one parameter, in new arrays; it alters nothing but `scalars`, which it advances."""

    def rule(self, group: Group) -> tuple[str, dict[str, float]]:
        return "descend", {}

    def _driver(self, group: Group) -> Driver:
        return MatrixDriver(self, group)


class MatrixDriver(Driver):
    """What a Driver is for element rules, for whole-matrix methods."""

    optimizer: MatrixOptimizer

    def plan(self, recipe: tuple[str, dict[str, float]], dtype: np.dtype) -> tuple[Plan, Rule]:
        for parameter in self.group["params"]:
            self.check(parameter, {})
            self.check_shapes(parameter)
        leaves = [parameter for parameter in self.group["params"] if parameter.dtype == dtype]
        return Plan(leaves, 0, 0, self.sparse), _cpu.rule(recipe[0], dtype)      # to bind and measure the gradients

    def check_shapes(self, parameter: Parameter) -> None:
        state = self.optimizer.state[parameter]
        for key, shape in self.optimizer.state_shapes(self.group, parameter).items():
            array = state.get(key)
            if array is None:
                continue
            where = f"of {describe(self.optimizer.state.name_of(parameter), parameter.shape)}"
            if array.shape != shape or array.dtype != parameter.dtype:
                raise ValueError(f"state `{key}` {where} must be {parameter.dtype} of shape {shape}, "
                                 f"got {array.dtype} of shape {array.shape}")
            if not (array.flags.writeable and array.flags.aligned and array.flags.forc):
                raise ValueError(f"state `{key}` {where} must be writeable and contiguous; "
                                 f"assign into it: state['{key}'][...] = value")

    def begin(self, parameter: Parameter, made: list[Made]) -> dict[str, np.ndarray]:
        """The parameter's state, with what it lacks made now and noted in `made`."""
        state, shapes = self.optimizer.state[parameter], self.optimizer.state_shapes(self.group, parameter)
        new = {key: np.zeros(shape, parameter.dtype) for key, shape in shapes.items() if key not in state}
        new |= {key: np.array(initial) for key, initial in self.optimizer.scalars.items() if key not in state}
        if new:
            made += [(state, key) for key in new]
            dict.update(state, new)
            self.optimizer._memory = None
        return state

    def enter(self, runs: list[Run], made: list[Made], factor: float, limit: float) -> None:
        """Computes the updates and adds what puts them in place."""
        factor = -factor if self.group.get("maximize") else factor
        for parameter in self.group["params"]:
            if parameter.grad is None:
                continue
            state = self.begin(parameter, made)
            scalars = {key: state[key].item() for key in self.scalars}
            with np.errstate(all="ignore"):
                g = parameter.grad
                g = g if factor == 1.0 else g * g.dtype.type(factor)
                g = g if limit == inf else np.clip(g, g.dtype.type(-limit), g.dtype.type(limit))
                update = self.optimizer.update(self.group, parameter.data, g, state, scalars)
            plan = self.bound([(parameter.data, update.direction)], [state[key] for key in self.scalars])
            runs.append((plan, 0, _cpu.rule("descend", parameter.dtype),
                         {"keep": update.keep, "step_size": update.step_size}, scalars))
            if update.state:
                plan = self.bound([(state[key], array) for key, array in update.state.items()], [])
                runs.append((plan, 0, _cpu.rule("assign", parameter.dtype), {}, {}))

    @staticmethod
    def bound(pairs: list[tuple[np.ndarray, np.ndarray]], scalars: list[np.ndarray]) -> Plan:
        """A plan of arrays, each with what takes a gradient's place."""
        leaves = [Leaf(array) for array, _ in pairs]
        plan = Plan(leaves, 0, len(scalars))
        for row, (leaf, (_, value)) in enumerate(zip(leaves, pairs, strict=True)):
            leaf.grad = value
            plan.attach(row, [], scalars, True)
        plan.bind(Memory([]))                    # what was computed overlaps nothing
        plan.prepare()
        return plan


def mean_square(array: np.ndarray) -> float:
    """The mean of the squares of a contiguous array, summed in float64; 0 of an empty one."""
    return reduce([(_cpu.reduction("dot", array.dtype), array, array)]) / max(array.size, 1)
