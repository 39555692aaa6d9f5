"""One step in plain NumPy: what rules share, and the passes of those that measure first."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..engine.formats import rounding_of
from ..engine.group_plan import alike
from ..engine.halves import exact, master_in
from ..engine.method import Group
from ..engine.parameter import Parameter
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.sparse_grad import SparseGrad
from ..engine.whole_matrix import MatrixOptimizer
from .matrices import METHODS
from .rule import towards
from .stepped import Stepped, begin, finished, pairs, pieces, put, put_half
from .sums import grad_norm, larger


def step(optimizer: RuleOptimizer, *, grad_scale: float = 1.0, max_grad_norm: float | None = None,
         max_grad_value: float | None = None, skip_nonfinite: bool = False, zero_grad: bool = False) -> None:
    """One step of `optimizer` in plain NumPy: the same parameters and state as `optimizer.step()`, bit for bit.

    A gradient that overlaps another parameter or state in memory is read as it is when its turn comes.  Complex numbers
    are stepped as pairs of real ones, those of 16 bits as float32.
    """
    factor = grad_scale
    gradients = [(p.data, g) for group in optimizer.param_groups for plan in planned(optimizer, group)
                 for p in plan if p.grad is not None for g in pieces(optimizer, group, p)]
    optimizer.last_grad_norm = None
    skip = False
    if max_grad_norm is not None or skip_nonfinite:
        norm = optimizer.last_grad_norm = grad_scale * grad_norm(gradients)
        skip = skip_nonfinite and not math.isfinite(norm)
        if max_grad_norm is not None:
            factor = grad_scale * clip_coefficient(max_grad_norm, norm)
    if skip:
        optimizer.skipped_steps += 1
    else:
        update(optimizer, factor, np.inf if max_grad_value is None else max_grad_value)
    if zero_grad:
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if isinstance(p.grad, SparseGrad):
                p.grad = p.grad.empty()
            elif p.grad is not None:
                p.grad[...] = 0


def planned(optimizer: RuleOptimizer, group: Group) -> list[list[Parameter]]:
    """The parameters of a group, plan by plan: the order in which sums over them are taken."""
    plans: dict[Any, list[Parameter]] = {}
    for p in group["params"]:
        plans.setdefault(alike(optimizer, group, p), []).append(p)
    return [members for _, members in sorted(plans.items(), key=lambda item: item[0][0])]


def clip_coefficient(max_norm: float, norm: float) -> float:
    return float(np.minimum(1.0, max_norm / (norm + 1e-6)))


def update(optimizer: RuleOptimizer, factor: float, max_abs: float) -> None:
    for group in optimizer.param_groups:
        optimizer.check_group(group)            # NumPy scalars become numbers of full precision
    with np.errstate(all="ignore"), following(optimizer):
        steps = list(in_order(optimizer, factor, max_abs))
        for number in range(max((len(one.passes) for one in steps), default=0)):
            measure(number, [one for one in steps if number < len(one.passes)])
        for one in steps:
            one.finish()
        if isinstance(optimizer, MatrixOptimizer):
            update_matrices(optimizer, factor, max_abs)


@contextlib.contextmanager
def following(optimizer: RuleOptimizer) -> Iterator[None]:
    """Lookahead's part of a step: every few steps, parameters go back towards the slow weights."""
    stepping = [[p for p in group["params"] if p.grad is not None] for group in optimizer.param_groups]
    for p in (p for group in stepping for p in group if optimizer.follower):
        optimizer.state[p].setdefault("slow", exact(p, optimizer.state[p]).copy())
    yield
    for group, params in zip(optimizer.param_groups, stepping, strict=True):
        if optimizer.follower and params:
            group["lookahead_step"][...] = (group["lookahead_step"] + 1) % optimizer.follower.k
            for p in params if group["lookahead_step"] == 0 else ():
                state, alpha = optimizer.state[p], optimizer.follower.alpha
                slow, fast = state["slow"], exact(p, state)
                between = towards(pairs(fast), pairs(slow), slow.real.dtype.type(1.0 - alpha))
                if p.half:
                    master = master_in(p, state)
                    between = np.array(between, order="F" if p.data.flags.fnc else "C")
                    put_half(p, state, master, between, rounding_of(group, -int(state.get("step", 0)) % 2**64))
                    between = exact(p, state)
                else:
                    put(p.data, ..., between)
                put(slow, ..., between)


def in_order(optimizer: RuleOptimizer, factor: float, max_abs: float) -> Iterator[Stepped]:
    """Group by group, then by float type and rule, then by equal scalar state: the order in which sums are taken."""
    for group in optimizer.param_groups:
        if optimizer.whole(group):
            continue
        signed = -factor if group.get("maximize") else factor
        for plan in planned(optimizer, group):
            cohorts: dict[Any, list[Stepped]] = {}
            for p in plan:
                if p.grad is not None:
                    one = Stepped(optimizer, group, p, signed, max_abs)
                    scalars = one.first, *(optimizer.state[p][key].tobytes() for key in one.scalars)
                    cohorts.setdefault(scalars, []).append(one)
            yield from (one for members in cohorts.values() for one in members)


def measure(number: int, steps: list[Stepped]) -> None:
    """A pass of all parameters, then what it makes of the numbers."""
    scopes: dict[Any, list[tuple[Stepped, list[float], int]]] = {}
    for one in steps:
        scope = one.passes[number].scope
        if scope == "lines":
            if one.p.size:
                one.measure_lines()
            continue
        if scope == "rows":
            one.measure_rows(number)
            continue
        key = {"tensor": id(one), "group": ("group", id(one.group)), "everything": "everything"}[scope]
        scopes.setdefault(key, []).append((one, *one.measure(number)))
    for members in scopes.values():
        between(members, number)


def between(members: list[tuple[Stepped, list[float], int]], number: int) -> None:
    """What the numbers of one scope become: a tensor's own, or those of all tensors of a group."""
    head = members[0][0].passes[number]
    total, count = [0.0] * len(head.how), 0
    for _, numbers, size in members:
        count += size
        total = [larger(a, b) if how == "largest" else a + b
                 for how, a, b in zip(head.how, total, numbers, strict=True)]
    results: dict[int, Outcome] = {}
    for one, _, _ in members if count else ():
        if head.scope == "tensor":
            moved = [float(scalar) for scalar in one.own_scalars]
            if head.between(one.c, total, count, moved, one.own):
                for scalar, value in zip(one.own_scalars, moved, strict=True):
                    scalar[...] = value
            else:
                one.cancelled = True
        else:
            if id(one.group) not in results:
                results[id(one.group)] = of_group(one, number, total, count)
            goes_on, own, _ = results[id(one.group)]
            one.cancelled = one.cancelled or not goes_on
            one.own.update(own)
            if not goes_on:
                one.scalars = {}                 # stand still
    for _, _, totals in results.values():        # last: groups may share them
        for total_of, value in totals:
            total_of[...] = value


Outcome = tuple[bool, dict[str, float], list[tuple[Any, float]]]     # goes on; own numbers; totals and their new values


def of_group(one: Stepped, number: int, total: list[float], count: int) -> Outcome:
    """Whether a group's last pass takes place, the own numbers of its tensors, and where its totals move."""
    totals = [one.group[key] for key in one.optimizer.totals(one.group)]
    moved, own = [float(value) for value in totals], dict(one.own)
    goes_on = one.passes[number].between(one.c, total, count, moved, own)
    return (goes_on, {key: value for key, value in own.items() if value != one.own[key]},
            list(zip(totals, moved, strict=True)) if goes_on else [])


def update_matrices(optimizer: MatrixOptimizer, factor: float, max_abs: float) -> None:
    for group in optimizer.param_groups:
        signed = -factor if group.get("maximize") else factor
        for p in group["params"]:
            if p.grad is None or not optimizer.whole(group):
                continue
            begin(optimizer, group, p)
            state = optimizer.state[p]
            scalars = {key: state[key].item() for key in optimizer.scalars_of(group)}
            h = SimpleNamespace(grad_scale=p.dtype.type(signed), max_abs=p.dtype.type(max_abs), l2=0)
            METHODS[optimizer.twin](group, p.data, finished(h, p.data, np.asarray(p.grad)), state, scalars)
            for key, value in scalars.items():
                state[key][...] = value
