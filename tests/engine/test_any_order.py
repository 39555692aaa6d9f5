"""Calls in any order: after each step, whatever came before, parameters, state and norm have the bits of the twin."""

from __future__ import annotations

import copy
import math
import pickle
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import optimlite as ol
from optimlite import reference
from optimlite.engine.storage import EXACT
from optimlite.engine.whole_matrix import MatrixOptimizer
from optimlite.native import dispatch
from support.bits import Guarded, assert_same, same_bits
from support.cases import ONE_RATE, OPTIMIZERS
from support.helpers import snapshot
from support.strategies import (
    LARGE,
    UNWRITABLE,
    WRITABLE,
    dtypes,
    hyper,
    hyper_names,
    options,
    orders,
    placed,
    seeds,
    shapes,
    values,
)

Array = np.ndarray
# For parameters of any shape, and of any size.
KINDS = [optimizer for optimizer in OPTIMIZERS if not issubclass(optimizer, MatrixOptimizer)]
OVERLAPPING = ["itself", "itself reversed", "another parameter", "state"]
FORMS = st.lists(st.sampled_from([*WRITABLE, *WRITABLE, *UNWRITABLE, *OVERLAPPING, "shared", "none", "none"]),
                 min_size=1, max_size=5)
SCALES = st.sampled_from([1.0, 1.0, 1e-3, 1e3, 1e-30, 1e18])
LEAVES = st.lists(st.tuples(shapes, dtypes, orders, seeds), max_size=4)
HANDLING = st.fixed_dictionaries({}, optional={
    "grad_scale": st.sampled_from([1 / 3, 2.0**-16, 8.0]), "max_grad_norm": st.sampled_from([0.0, 0.5, 1e9, math.inf]),
    "max_grad_value": st.sampled_from([0.0, 0.3, math.inf]), "skip_nonfinite": st.booleans(),
    "zero_grad": st.booleans()})


def change(**arguments: Any) -> Callable[[Any], Any]:
    """A rule that a step may follow at once: what changes shows in steps alone."""
    def decorate(function: Any) -> Any:
        def run(self: Any, then_step: bool, **drawn: Any) -> None:
            function(self, **drawn)
            if then_step:
                self.compared({})

        run.__name__ = function.__name__
        return rule(then_step=st.booleans(), **arguments)(run)

    return decorate


def takes(kind: Any, dtype: Any) -> bool:
    return kind.by_element and (dtype != np.float16 or kind.takes_halves)


def of_all(kind: Any) -> tuple[str, ...]:
    """The hyper-parameters that groups must have in common."""
    return ("lr", *kind.of_all) if issubclass(kind, ONE_RATE) else ()


class AnyOrder(RuleBasedStateMachine):
    """One optimizer by its kernels, `live`, and one by the plain-NumPy twin, which no save or copy ever touches."""

    def __init__(self) -> None:
        super().__init__()
        self.before = ol.get_num_threads(), dispatch.level
        self.guards: list[Guarded] = []
        self.unwritable: set[ol.Parameter] = set()   # their gradients can't be zeroed in place
        self.count = 0

    def teardown(self) -> None:
        ol.set_num_threads(self.before[0])
        dispatch.level = self.before[1]
        assert all(guard.intact() for guard in self.guards)

    # Building --------------------------------------------------------------------------------------------------------

    @initialize(data=st.data(), kind=st.sampled_from(KINDS), level=st.sampled_from(dispatch.available()),
                groups=st.lists(LEAVES, min_size=1, max_size=3), large=st.booleans(), named=st.booleans())
    def begin(self, data: Any, kind: type[ol.Optimizer], level: str, groups: list[Any], large: bool,
              named: bool) -> None:
        dispatch.level = level
        self.kind, self.named = kind, named
        if large:                                # enough for several threads; not too often, since it takes time
            groups[0] = [*groups[0], (data.draw(st.sampled_from(LARGE)), np.float32, "C", 1)]
        self.defaults = data.draw(options(kind))
        if kind.options is not EXACT:
            self.defaults |= {"master": data.draw(st.sampled_from(["float32", "kahan", "none"]))}
        built = [self.group(leaves, data) for leaves in groups]
        self.live, self.twin = (kind([pair[k] for pair in built], **self.defaults) for k in range(2))
        self.rearranged = False

    def group(self, leaves: list[Any], data: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The same group twice, in different memory: guarded, at an odd offset, for the kernels."""
        arrays: list[list[Array]] = [[], []]
        for shape, dtype, order, seed in leaves:
            source = values(seed, shape, dtype if takes(self.kind, dtype) else np.float32)
            self.guards.append(Guarded(np.ravel(source, order)))
            arrays[0].append(self.guards[-1].array.reshape(shape, order=order))
            arrays[1].append(source.copy(order=order))
        names = [f"p{self.count + k}" for k in range(len(leaves))]
        self.count += len(leaves)
        own = data.draw(options(self.kind, self.defaults)) if data.draw(st.booleans()) else {}
        own = {name: value for name, value in own.items() if name not in of_all(self.kind)}
        first, second = ({"params": dict(zip(names, each, strict=True)) if self.named else each, **own}
                         for each in arrays)
        return first, second

    @precondition(lambda self: len(self.live.param_groups) < 5)
    @change(data=st.data(), leaves=LEAVES)
    def add_group(self, data: Any, leaves: list[Any]) -> None:
        for optimizer, group in zip(self.both(), self.group(leaves, data), strict=True):
            optimizer.add_param_group(group | {name: optimizer.param_groups[0][name] for name in of_all(self.kind)})

    def both(self) -> tuple[ol.Optimizer, ol.Optimizer]:
        return self.live, self.twin

    # Gradients -------------------------------------------------------------------------------------------------------

    def gradients(self, forms: list[str], seed: int, scale: float, special: bool) -> list[Any]:
        """A gradient for each parameter of `live`; the forms repeat."""
        made: list[Any] = []
        self.unwritable = set()
        parameters = self.live._parameters()
        for k, p in enumerate(parameters):
            form = forms[k % len(forms)]
            like = [q for q in parameters if q.shape == p.shape and q.dtype == p.dtype]
            kept = [a for a in self.live.state[p].values() if a.shape == p.shape and a.dtype == p.dtype]
            g: Any = None
            match form:
                case "none":
                    pass
                case "itself":
                    g = p.data
                case "itself reversed":
                    g = p.data[(..., *[slice(None, None, -1)] * p.ndim)]      # a view, without axes too
                case "another parameter":
                    g = like[seed % len(like)].data
                case "state" if kept:
                    g = kept[seed % len(kept)]
                case "shared" if any(p is q for q in like[1:]) and made[parameters.index(like[0])] is not None:
                    g = made[parameters.index(like[0])]
                    self.unwritable |= {p} if like[0] in self.unwritable else set()
                case _:
                    form = form if form in (*WRITABLE, *UNWRITABLE) else "C"
                    g = placed(values(seed + k, p.shape, p.dtype, scale, special), form)
            if form in (*UNWRITABLE, *OVERLAPPING) and form != "shared" and g is not None:
                if not g.size:                   # shares nothing with anything
                    g = np.zeros(p.shape, p.dtype)
                else:
                    self.unwritable.add(p)
            made.append(g)
        return made

    @change(forms=FORMS, seed=seeds, scale=SCALES, special=st.booleans())
    def assign(self, forms: list[str], seed: int, scale: float, special: bool) -> None:
        for p, g in zip(self.live._parameters(), self.gradients(forms, seed, scale, special), strict=True):
            p.grad = g

    @change(seed=seeds, which=st.integers(0, 7))
    def change_in_place(self, seed: int, which: int) -> None:
        for p in self.live._parameters()[which:which + 2]:
            if p.grad is not None and p not in self.unwritable:
                p.grad[...] = values(seed, p.shape, p.dtype)

    @change(seed=seeds, which=st.integers(0, 7))
    def accumulate(self, seed: int, which: int) -> None:
        for p in self.live._parameters()[which:which + 2]:
            more = values(seed, p.shape, p.dtype)
            given = [np.asarray(g, p.float_type) for g in (p.grad, more) if g is not None]
            expected = np.asarray(sum(given[1:], start=given[0]))
            p.accumulate_grad(more)
            self.unwritable.discard(p)
            assert same_bits(p.grad, expected)

    @change(which=st.integers(0, 7))
    def freeze(self, which: int) -> None:
        for p in self.live._parameters()[which:which + 1]:
            p.grad = None
            self.unwritable.discard(p)

    @change(drop=st.booleans())
    def zero_grad(self, drop: bool) -> None:
        if not drop and self.unwritable:
            self.refused(lambda: self.live.zero_grad(False), ValueError, "can't be zeroed")
            return
        self.live.zero_grad(drop)
        assert all(p.grad is None if drop else p.grad is None or not p.grad.any() for p in self.live._parameters())
        self.unwritable = set() if drop else self.unwritable

    def refused(self, act: Any, error: Any, message: str) -> None:
        """An error, and nothing has changed."""
        kept = snapshot(self.live)
        with pytest.raises(error, match=message):
            act()
        assert snapshot(self.live) == kept

    # Steps -----------------------------------------------------------------------------------------------------------

    @rule(handling=HANDLING | st.just({}))
    def step(self, handling: dict[str, Any]) -> None:
        self.compared(handling)

    @rule(handling=st.just({}), forms=FORMS, seed=seeds, by_name=st.booleans(), closure=st.booleans())
    def step_with_gradients(self, handling: dict[str, Any], forms: list[str], seed: int, by_name: bool,
                            closure: bool) -> None:
        """By name where all have one; else in the nesting of the groups, as long as they are as they were made."""
        if not self.live._parameters() or (self.rearranged and not self.named):
            return
        given = dict(zip(self.live._parameters(), self.gradients(forms, seed, 1.0, False), strict=True))
        groups = [[(self.live.state.name_of(p), given[p]) for p in group["params"]] for group in self.live.param_groups]
        if (by_name and self.named) or self.rearranged:
            grads: Any = {name: g for group in groups for name, g in group}
        else:
            grads = [dict(group) if self.named else [g for _, g in group] for group in groups]
        for p, g in given.items():               # for the twin; the step assigns them itself
            p.grad = g
        self.compared(handling, (lambda: (0.5, grads)) if closure else None, None if closure else grads)

    def compared(self, handling: dict[str, Any], closure: Any = None, grads: Any = None) -> None:
        live, twin = self.both()
        if any(p.dtype.kind == "c" for p in live._parameters()):         # whose gradients have no order
            handling = {key: value for key, value in handling.items() if key != "max_grad_value"}
        for p, q in zip(live._parameters(), twin._parameters(), strict=True):
            q.grad = None if p.grad is None else np.array(p.grad)      # read before anything is changed
        as_given = [None if q.grad is None else q.grad.copy() for q in twin._parameters()]
        if handling.get("zero_grad") and self.unwritable:
            self.refused(lambda: live.step(**handling), ValueError, "can't be zeroed")
            return
        skipped = live.skipped_steps, twin.skipped_steps
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "step.. changed nothing")
            loss = live.step(closure, grads=grads, **handling)
        assert loss == (0.5 if closure else None)
        reference.step(twin, **handling)
        assert_same(live, twin)
        assert (live.last_grad_norm is None) == (twin.last_grad_norm is None)
        assert same_bits(np.array(live.last_grad_norm, float), np.array(twin.last_grad_norm, float))
        assert live.skipped_steps - skipped[0] == twin.skipped_steps - skipped[1]
        for p, g in zip(live._parameters(), as_given, strict=True):
            if g is not None and p not in self.unwritable:
                assert same_bits(np.asarray(p.grad), np.zeros_like(g) if handling.get("zero_grad") else g)

    # What a program changes between steps ----------------------------------------------------------------------------

    @change(data=st.data(), which=st.integers(0, 4), bad=st.booleans())
    def set_hyper_parameter(self, data: Any, which: int, bad: bool) -> None:
        which %= len(self.live.param_groups)
        group = self.live.param_groups[which]
        name = data.draw(st.sampled_from(hyper_names(self.kind)))
        kept = group[name]
        group[name] = math.nan if bad else data.draw(hyper(self.kind, name))
        try:
            self.live.check_group(dict(group))
        except (TypeError, ValueError):          # such a number, or beside the others
            self.refused(self.live.step, (TypeError, ValueError), f"`{name}|`nesterov`|needs {name}=True")
            group[name] = kept
        else:
            assert not bad
            for optimizer in self.both():
                for each in optimizer.param_groups if name in of_all(self.kind) else [optimizer.param_groups[which]]:
                    each[name] = group[name]

    @change(which=st.integers(0, 7), seed=seeds)
    def set_values(self, which: int, seed: int) -> None:
        for optimizer in self.both():
            for p in optimizer._parameters()[which:which + 1]:
                p.data = values(seed, p.shape, p.dtype)

    @change(which=st.integers(0, 7), replace=st.booleans())
    def alter_state(self, which: int, replace: bool) -> None:
        for optimizer in self.both():
            for p in optimizer._parameters()[which:which + 1]:
                for key, array in optimizer.state[p].items():
                    if replace:
                        optimizer.state[p][key] = array.copy(order="K")
                    elif array.ndim:
                        with np.errstate(invalid="ignore"):      # infinite complex numbers
                            array *= array.dtype.type(0.5)

    @change(which=st.integers(0, 7))
    def forget_state(self, which: int) -> None:
        for optimizer in self.both():
            for p in optimizer._parameters()[which:which + 1]:
                optimizer.state[p].clear()

    @change(source=st.integers(0, 4), goal=st.integers(0, 4))
    def move(self, source: int, goal: int) -> None:
        """The first parameter of a group becomes the last one of another, or of the same."""
        for optimizer in self.both():
            groups = optimizer.param_groups
            one, other = groups[source % len(groups)], groups[goal % len(groups)]
            moved, one["params"] = one["params"][:1], one["params"][1:]
            other["params"] += moved
        self.rearranged = True

    @change(count=st.sampled_from([1, 2, 3, 4, 8]))
    def set_num_threads(self, count: int) -> None:
        ol.set_num_threads(count)

    # Saving and copying ----------------------------------------------------------------------------------------------

    def without_special_memory(self) -> None:
        for p in self.unwritable:                # a copy of a view is no view
            p.grad = None
        self.unwritable = set()

    @change(way=st.sampled_from([copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]))
    def copy(self, way: Any) -> None:
        self.without_special_memory()
        self.live = way(self.live)

    @change(file=st.booleans(), live=st.booleans())
    def save_and_load(self, file: bool, live: bool) -> None:
        """Into fresh objects with other values, of the same groups."""
        self.without_special_memory()
        old = self.live
        groups: list[dict[str, Any]] = []
        for group in old.param_groups:
            arrays = [np.full_like(p.data, 7) for p in group["params"]]
            names = [old.state.name_of(p) for p in group["params"]]
            groups.append({"params": dict(zip(names, arrays, strict=True)) if self.named else arrays})
        fresh = self.kind(groups, **self.defaults)
        data, new = ([p.data for p in optimizer._parameters()] for optimizer in (old, fresh))
        if file:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "checkpoint"
                ol.save(path, model=data, optimizer=old, fsync=False)
                ol.restore(path, model=new, optimizer=fresh)
        else:
            saved = old.state_dict(copy=not live)
            for array, source in zip(new, data, strict=True):
                array[...] = source
            fresh.load_state_dict(saved)
        self.live, self.rearranged = fresh, self.rearranged and self.named
        for p, q in zip(fresh._parameters(), self.twin._parameters(), strict=True):
            for key in fresh.state[p].keys() - self.twin.state[q].keys():    # a save has what the next step would add
                self.twin.state[q][key] = np.array(fresh.state[p][key], order="K")
                assert key in self.twin.state_names


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(stateful_step_count=30)
