"""Whole-matrix methods: what needs the whole matrix is computed first, and one native call puts everything in place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from . import _cpu
from ._core import Leaf, Memory, Plan, Rule, execute, reduce
from ._driver import Driver, Made, Run
from ._state import filled
from .optimizer import Group, Optimizer
from .parameter import Parameter, describe


class Put(NamedTuple):
    """What a compiled rule does to `target`, `operand` standing where it has its gradient."""

    rule: str
    target: np.ndarray
    operand: np.ndarray
    coefficients: dict[str, float]
    slots: tuple[np.ndarray, ...] = ()


class MatrixOptimizer(Optimizer):
    """An optimizer that overrides `update` and `state_shapes` instead of a rule for single elements.

    Groups, closures, checks, clipping and state are the base's.  What can't be computed in place is computed beside
    it, for all parameters before the first changes, so a step that fails leaves everything as it was.
    """

    sweeps = False
    twin: ClassVar[str]          # the whole method in `optimlite.reference`

    @abstractmethod
    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        """The state arrays of a parameter, which start at zero: name and shape."""

    @abstractmethod
    def update(self, group: Group, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray],
               scalars: dict[str, Any], handling: dict[str, float]) -> list[Put]:
        """What is to be put in place for one parameter; alters nothing but `scalars`, which it advances.

        `g` is laid out as `p`; `handling` are the coefficients `grad_scale` and `limit` of whatever reads it.
        """

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
            flags, like = array.flags, parameter.flags
            layout, fits = "C-contiguous", flags.c_contiguous
            if shape == parameter.shape:
                layout = "laid out as the parameter"
                fits = flags.c_contiguous == like.c_contiguous and flags.f_contiguous == like.f_contiguous
            if not (flags.writeable and flags.aligned and fits):
                raise ValueError(f"state `{key}` {where} must be writeable and {layout}; "
                                 f"assign into it: state['{key}'][...] = value")

    def begin(self, parameter: Parameter, made: list[Made]) -> dict[str, np.ndarray]:
        """The parameter's state, with what it lacks made now and noted in `made`."""
        state, shapes = self.optimizer.state[parameter], self.optimizer.state_shapes(self.group, parameter)
        new = {key: filled(parameter, shape, 0.0) for key, shape in shapes.items() if key not in state}
        new |= {key: np.array(initial) for key, initial in self.optimizer.scalars.items() if key not in state}
        if new:
            made += [(state, key) for key in new]
            dict.update(state, new)
            self.optimizer._memory = None
        return state

    def enter(self, runs: list[Run], made: list[Made], factor: float, limit: float) -> None:
        """Computes the updates and adds what puts them in place."""
        handling = {"grad_scale": -factor if self.group.get("maximize") else factor, "limit": limit}
        for plan, _ in self.plans:
            for row, parameter in enumerate(plan.leaves):
                g = plan.gradient(row)
                if g is None:
                    continue
                state = self.begin(parameter, made)
                scalars = {key: state[key].item() for key in self.scalars}
                with np.errstate(all="ignore"):
                    first, *others = self.optimizer.update(self.group, parameter.data, g, state, scalars, handling)
                runs.append(run(first, [state[key] for key in self.scalars], scalars))
                runs += map(run, others)


def run(put: Put, scalars: Sequence[np.ndarray] = (), values: dict[str, Any] | None = None) -> Run:
    """What executes it, and changes the `scalars` to these values."""
    leaf = Leaf(put.target)
    leaf.grad = put.operand
    plan = Plan([leaf], len(put.slots), len(scalars))
    plan.attach(0, list(put.slots), list(scalars), True)
    plan.bind(Memory([]))                        # what stands where a gradient does overlaps nothing that is written
    plan.prepare()
    return plan, 0, _cpu.rule(put.rule, put.target.dtype), put.coefficients, values or {}


def put_now(put: Put) -> None:
    """For arrays that are the step's own."""
    execute([run(put)])


def sum_squares(array: np.ndarray) -> float:
    """The sum of the squares of a contiguous array, in float64."""
    return reduce([(_cpu.reduction("sum_squares", array.dtype), array, array)])
