"""A parameter in a step: its gradient, its state however it is stored, and the numbers that are its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from ..engine.formats import rounding_of
from ..engine.group_plan import modifier_of
from ..engine.method import Group
from ..engine.parameter import Parameter
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.sparse_grad import SparseGrad
from ..engine.storage import counts_to_round, kept, new_arrays, places, scales_of
from .rules import MODIFIERS, RULES, Array, sign
from .sums import combined, in_memory_order, larger, squares_by_line


def finished(h: Any, p: Array, g: Array) -> Array:
    """The gradient as a rule sees it: scaled, clipped by value, with coupled weight decay."""
    g = h.grad_scale * g
    if h.max_abs < np.inf:
        g = np.where(g > h.max_abs, h.max_abs, g)
        g = np.where(g < -h.max_abs, -h.max_abs, g)
    return g + h.l2 * p if h.l2 != 0 else g


def touched(sparse: SparseGrad) -> tuple[Array, Array]:
    """The rows that a sparse gradient touches, and the values of each, added up in the order in which they came."""
    rows, first, which = np.unique(sparse.indices, return_index=True, return_inverse=True)
    later = np.ones(len(which), bool)
    later[first] = False
    values = sparse.values[first]
    np.add.at(values, which[later], sparse.values[later])
    return rows, values


def pieces(optimizer: RuleOptimizer, group: Group, p: Parameter) -> list[Array]:
    """The gradient as steps read it: one array, or one for each row that is touched."""
    if not isinstance(p.grad, SparseGrad):
        return [np.asarray(p.grad)]      # of a subclass, `*` may be something else
    if optimizer.leaves_zero_rows_unchanged(group):
        return list(touched(p.grad)[1])
    return [p.grad.to_dense(len(p.data))]


def begin(optimizer: RuleOptimizer, group: Group, p: Parameter) -> bool:
    """Creates what the parameter's state lacks; returns whether it has never stepped."""
    state, scalars = optimizer.state[p], optimizer.scalars_of(group)
    keys = *optimizer.state_shapes(group, p), *scalars
    first = bool(keys) and not any(key in state for key in keys)
    state.update(new_arrays(optimizer, group, p, [key for key in places(optimizer, group, p) if key not in state]))
    state.update({key: np.asarray(value) for key, value in scalars.items() if key not in state})
    return first


class Stepped:
    def __init__(self, optimizer: RuleOptimizer, group: Group, p: Parameter, factor: float, max_abs: float) -> None:
        self.optimizer, self.group, self.p = optimizer, group, p
        name, self.slots = optimizer.rules(group)[optimizer.which_rule(p)]
        self.first = begin(optimizer, group, p)
        self.state = optimizer.state[p]
        self.rule, modifier = RULES[optimizer.first_rule(group) or name if self.first else name], modifier_of(group)
        self.passes = self.rule.passes + ((MODIFIERS[modifier],) if modifier else ())
        names = [*optimizer.scalars_of(group)]
        shared = len(names) - self.rule.own_scalars
        self.own_scalars = [self.state[key] for key in names[shared:]]
        self.scalars = {key: self.state[key].item() for key in names[:shared]}
        coefficients = optimizer.coefficients(group, self.scalars, self.first)
        if counts_to_round(optimizer, group):
            self.scalars["step"] += 1
        self.c = SimpleNamespace(**coefficients)
        self.own: dict[str, float] = {"l2": 0.0, "keep": 1.0, **coefficients, "grad_scale": factor,
                                      "max_abs": max_abs, "scale": 1.0, "against": 1.0}
        self.cancelled = False
        self.formats, self.rounding = kept(optimizer, group, p), rounding_of(group, self.scalars.get("step", 0))
        self.rows: Array | None = None           # that a sparse gradient touches
        if isinstance(p.grad, SparseGrad) and optimizer.leaves_zero_rows_unchanged(group):
            self.rows, self.g = touched(p.grad)
        else:
            [self.g] = pieces(optimizer, group, p)

    @property
    def h(self) -> Any:
        return SimpleNamespace(**{key: self.p.dtype.type(value) for key, value in self.own.items()})

    def arrays(self) -> list[Array]:
        """Copies of the parameter and its state, decoded; of the touched rows alone."""
        held = [self.formats[key].decode(self.state[key], self.state.get(scales_of(key)), self.p.dtype)
                if key in self.formats else self.state[key] for key in self.slots]
        return [array[self.rows] if self.rows is not None else array.copy(order="K")
                for array in map(np.asarray, (self.p.data, *held))]

    def put(self, arrays: list[Array]) -> None:
        """The opposite of `arrays`."""
        for key, values in zip((None, *self.slots), arrays, strict=True):
            target = self.p.data if key is None else self.state[key]
            if key in self.formats:
                values, scales = self.encoded(key, values)
                if scales is not None:
                    self.state[scales_of(key)][...] = scales
            target[... if self.rows is None else self.rows] = values

    def encoded(self, key: str, values: Array) -> tuple[Array, Array | None]:
        if self.rows is None:
            return self.formats[key].encode(values, self.rounding)
        rows = [self.formats[key].encode(row, self.rounding)[0] for row in values]       # each begins anew
        return np.array(rows).reshape(values.shape), None

    def seen(self, s: list[Array]) -> list[Array]:
        """The state as the rule sees it: of matrices that have it by row and column, the product of the factors."""
        return s if self.rule.lines is None else [self.rule.lines(self.c, None, None, *s)]

    def measure(self, number: int) -> tuple[list[float], int]:
        """What a pass measures of this parameter, and of how many elements."""
        measuring, h, arrays = self.passes[number], self.h, self.arrays()
        p, *s = arrays
        g, s = finished(h, p, self.g), self.seen(s)
        y = (measuring.measure(h, self.rule.update(h, p, g, *s), g) if measuring.of_update
             else measuring.measure(h, p, g, *s))
        if measuring.moves:
            self.put(arrays)
        total = [0.0] * len(measuring.how)
        for part in [...] if self.rows is None else range(len(self.rows)):       # rows are summed one by one
            like = self.p.data if self.rows is None else p[part]
            if self.rule.lines is not None and p.ndim > 2:
                like = np.empty(0)               # stepped in a copy in C order
            flat = [in_memory_order(np.asarray(x)[part], like) for x in y]
            for k, how in enumerate(measuring.how):
                found = combined(how, flat[k], flat[k + 1] if how == "products" else None)
                total[k] = larger(total[k], found) if how == "largest" else total[k] + found
        return total, p.size

    def measure_lines(self) -> None:
        p = self.p.data
        [x] = self.passes[0].measure(self.h, p, finished(self.h, p, self.g))
        *_, n, m = p.shape
        flip = p.ndim == 2 and p.flags.fnc                       # columns stand in memory as others' rows do
        by_row, by_column = squares_by_line(x.reshape(-1, n, m).swapaxes(1, 2) if flip else x.reshape(-1, n, m))
        by_row, by_column = (by_column, by_row) if flip else (by_row, by_column)
        assert self.rule.lines is not None
        self.rule.lines(self.c, by_row, by_column, *(self.state[key] for key in self.slots))

    def finish(self) -> None:
        """The last pass."""
        if not self.cancelled:
            h, arrays = self.h, self.arrays()
            p, *s = arrays
            g = finished(h, p, self.g)
            if self.rule.whole:
                self.rule.update(h, p, g, *s)
            else:
                u, factor = self.rule.update(h, p, g, *self.seen(s)), h.scale
                if h.scale != h.against:
                    factor = np.where(sign(u) * sign(g) > 0, h.scale, h.against)
                p[...] = h.keep * p - factor * u
            self.put(arrays)
        for key, value in self.scalars.items():
            self.state[key][...] = value
