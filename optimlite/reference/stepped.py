"""A parameter in a step: its gradient, its state in any format, and its own numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from ..engine.formats import rounding_of, widened
from ..engine.halves import bits, master_of
from ..engine.method import Group
from ..engine.modifiers import coefficients_of, modifier_of
from ..engine.parameter import Parameter
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.sparse_grad import SparseGrad
from ..engine.storage import counts_to_round, kept, new_arrays, places, scales_of
from .rule import Array, sign
from .rules import MODIFIERS, RULES
from .sums import combined, in_memory_order, squares_by_line


def pairs(array: Array) -> Array:
    """Complex numbers as two real ones each, in an axis of their own; others as they are."""
    return np.stack([array.real, array.imag], -1) if array.dtype.kind == "c" else array


def put(target: Array, where: Any, values: Array) -> None:
    """target[where] = values, which may be pairs."""
    if target.dtype.kind == "c":
        target.real[where], target.imag[where] = values[..., 0], values[..., 1]
    else:
        target[where] = values


def put_half(p: Parameter, state: Any, master: Any, values: Array, rounding: Any) -> None:
    """Stores a parameter of 16 bits, and what is kept of its master."""
    stored, rest = master.parted(values, rounding)
    bits(p.data)[...] = bits(stored)
    if rest is not None:
        state[master.key][...] = rest


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
    if not isinstance(p.grad, SparseGrad):       # an array of a subclass may have another `*`
        return [pairs(np.asarray(widened(np.asarray(p.grad)), p.float_type))]
    if optimizer.leaves_zero_rows_unchanged(group):
        return list(pairs(touched(p.grad)[1]))
    return [pairs(p.grad.to_dense(len(p.data)))]


def begin(optimizer: RuleOptimizer, group: Group, p: Parameter) -> bool:
    """Creates what the parameter's state lacks; returns whether it has never stepped."""
    state, scalars = optimizer.state[p], optimizer.scalars_of(group)
    keys = *optimizer.state_shapes(group, p), *scalars
    first = bool(keys) and not any(key in state for key in keys)
    state.update(new_arrays(optimizer, group, p, [key for key in places(optimizer, group, p) if key not in state]))
    state.update({key: np.asarray(value) for key, value in scalars.items() if key not in state})
    return first


def sums_of(how: tuple[str, ...], y: tuple[Array, ...], begin: list[float]) -> list[float]:
    """The numbers of elements side by side, combined; `begin` are those of the elements before."""
    return [combined(each, y[k], y[k + 1] if each == "products" else None, begin[k]) for k, each in enumerate(how)]


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
        self.c = SimpleNamespace(**coefficients, **coefficients_of(group))
        self.own: dict[str, Any] = {"l2": 0.0, "keep": 1.0, **coefficients, "grad_scale": factor,
                                      "max_abs": max_abs, "scale": 1.0, "against": 1.0}
        self.cancelled = False
        self.by_rows = any(each.scope == "rows" for each in self.rule.passes)
        self.n_rows = optimizer.rows_of(group, p) if self.by_rows else 0
        self.formats, self.rounding = kept(optimizer, group, p), rounding_of(group, self.scalars.get("step", 0))
        self.rows: Array | None = None           # that a sparse gradient touches
        if isinstance(p.grad, SparseGrad) and optimizer.leaves_zero_rows_unchanged(group):
            self.rows, values = touched(p.grad)
            self.g = pairs(values)
        else:
            [self.g] = pieces(optimizer, group, p)
        self.master = master_of(group, p)

    @property
    def h(self) -> Any:
        dtype = self.p.float_type.type(0).real.dtype
        return SimpleNamespace(**{key: dtype.type(value) for key, value in self.own.items()})

    def arrays(self) -> list[Array]:
        """Copies of the parameter and its state, decoded; of the touched rows alone."""
        p, data = self.p, self.p.data
        held = [self.formats[key].decode(self.state[key], self.state.get(scales_of(key)), p.float_type)
                if key in self.formats else self.state[key] for key in self.slots]
        if self.master:
            order: Any = "F" if data.flags.fnc else "C"
            data = np.array(self.master.joined(data, self.state.get(self.master.key)), order=order)
        return [pairs(array[self.rows] if self.rows is not None else array.copy(order="K"))
                for array in map(np.asarray, (data, *held))]

    def put(self, arrays: list[Array]) -> None:
        """Puts back what `arrays` gave, encoded."""
        first, *others = arrays
        if self.master:
            put_half(self.p, self.state, self.master, first, self.rounding)
        else:
            put(self.p.data, ... if self.rows is None else self.rows, first)
        for key, values in zip(self.slots, others, strict=True):
            if key in self.formats:
                values, scales = self.encoded(key, values)
                if scales is not None:
                    self.state[scales_of(key)][...] = scales
            put(self.state[key], ... if self.rows is None else self.rows, values)

    def encoded(self, key: str, values: Array) -> tuple[Array, Array | None]:
        if self.rows is None:
            return self.formats[key].encode(values, self.rounding)
        rows = [self.formats[key].encode(row, self.rounding)[0] for row in values]       # each begins anew
        return np.array(rows).reshape(values.shape), None

    def seen(self, s: list[Array]) -> list[Array]:
        """The state as the rule sees it: of matrices that have it by row and column, the product of the factors."""
        return s if self.rule.lines is None else [self.rule.lines(self.c, None, None, *s)]

    def numbers(self, number: int) -> tuple[Array, ...]:
        """What a pass yields for each element."""
        measuring, h, arrays = self.passes[number], self.h, self.arrays()
        p, *s = arrays
        g, s = finished(h, p, self.g), self.seen(s)
        y: tuple[Array, ...] = (measuring.measure(h, self.rule.update(h, p, g, *s), g) if measuring.of_update
                                else measuring.measure(h, p, g, *s))
        if measuring.moves:
            self.put(arrays)
        return y

    def measure(self, number: int) -> tuple[list[float], int]:
        """What a pass measures of this parameter, and of how many elements."""
        y, p, how = self.numbers(number), self.p.data, self.passes[number].how
        total, size = [0.0] * len(how), y[0].size
        if self.by_rows:
            parts = list(zip(*(x.reshape(self.n_rows, -1) for x in map(np.asarray, y)), strict=True)) if size else []
        elif self.rows is not None:              # rows are summed one by one
            parts = [tuple(in_memory_order(x[k], p[self.rows][k]) for x in y) for k in range(len(self.rows))]
        else:                                    # with lines, more axes than two are stepped in a copy in C order
            like = np.empty(0) if self.rule.lines is not None and p.ndim > 2 else p
            parts = [tuple(in_memory_order(np.asarray(x), like) for x in y)]
        for part in parts:
            total = sums_of(how, part, total)
        return total, size

    def measure_rows(self, number: int) -> None:
        """A pass of each row by itself, and what it makes of their numbers."""
        measuring, y = self.passes[number], self.numbers(number)
        if not self.p.size:
            return
        rows = [sums_of(measuring.how, part, [0.0] * len(measuring.how))
                for part in zip(*(x.reshape(self.n_rows, -1) for x in map(np.asarray, y)), strict=True)]
        by_row = [self.state[key].reshape(-1) for key in [*self.slots][len(self.slots) - self.rule.row_states:]]
        found = measuring.between(self.h, self.c, rows, self.p.size // self.n_rows, by_row)
        self.own |= {key: np.repeat(values, self.p.size // self.n_rows).reshape(self.p.shape)
                     for key, values in found.items()}

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
                keep = h.keep
                if self.group.get("cautious_weight_decay"):
                    keep = np.where(sign(u) * sign(p) > 0, h.keep, p.dtype.type(1))
                p[...] = keep * p - factor * u
            self.put(arrays)
        for key, value in self.scalars.items():
            self.state[key][...] = value
