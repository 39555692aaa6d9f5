"""Accuracy: one float32 step of every kernel is as close to the exact one as its roundings allow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimlite as ol
from optimlite import reference
from optimlite.engine.method import Recipe
from optimlite.native import dispatch
from support.cases import CASES
from support.rounding import Terms
from support.strategies import HYPER, hyper_names, options, seeds, values

CHOOSING = ("momentum", "nesterov", "centered", "amsgrad", "optimize_1d", "eps_root", "block")        # choose a kernel
# Each kernel: an optimizer, and the choice.  Of those that measure, sums and quotients of them round as they like; the
# twin has their bits.
KERNELS: dict[str, tuple[type[ol.Optimizer], dict[str, Any]]] = {}
FIRST = set()                    # of first steps, which are taken before those of the others


def recipe(optimizer: ol.Optimizer) -> Recipe:
    [group], [p] = optimizer.param_groups, optimizer._parameters()
    return optimizer.rules(group)[optimizer.which_rule(p)]


for case in [case for case in CASES if not case.whole]:           # without whole matrices
    made = case.optimizer([np.zeros(1)], **case.options)
    if not dispatch.kernel(recipe(made)[0], np.dtype(np.float64)).measures:
        KERNELS.setdefault(recipe(made)[0], (
            case.optimizer, {key: made.defaults[key] for key in CHOOSING if key in made.defaults}))
        FIRST.add(made.first_rule(made.param_groups[0]))
SIZE = 48
OTHERS = {"muon", "muon_nesterov", "descend", "assign"}     # of no optimizer, beside the traffic of benchmarks
TINY, HUGE = 1e-30, 1e15          # what underflows may change, beyond the roundings; from where on squares overflow


def moderate(setting: Any) -> Any:
    """Far from underflow: 0, or at least 1e-6."""
    if isinstance(setting, tuple):
        return tuple(map(moderate, setting))
    return 0 if isinstance(setting, (int, float)) and not isinstance(setting, bool) and abs(setting) < 1e-6 else setting


def check(found: np.ndarray, exact: Terms, where: Any = True) -> None:
    """Within the bound, wherever it says something: where terms cancel completely, a quotient is anybody's."""
    sound = where & np.isfinite(exact.bound)
    error = abs(found.astype(np.float64) - exact.value)[sound]
    bound = exact.bound[sound]
    assert (error <= bound + TINY).all(), (error - bound).max()


@pytest.mark.parametrize("name", KERNELS)
@given(data=st.data(), seed=seeds, scales=st.lists(st.integers(-6, 6), min_size=1, max_size=4),
       handling=st.fixed_dictionaries({}, optional={"grad_scale": st.floats(1e-3, 10),
                                                    "max_grad_value": st.floats(1e-3, 10)}))
def test_a_step_is_within_its_roundings_of_the_exact_one(name: str, data: Any, seed: int, scales: list[int],
                                                         handling: dict[str, float]) -> None:
    """From the state that some steps, with gradients of very different magnitudes, led to."""
    kind, fixed = KERNELS[name]
    given = {key: moderate(value) for key, value in data.draw(options(kind)).items()}
    if fixed.get("nesterov"):
        given["dampening"] = 0
    if "etas" in given:
        given["etas"] = data.draw(st.tuples(st.floats(0.01, 0.99), st.floats(1.01, 4)))
    if "eps" in hyper_names(kind):
        given["eps"] = data.draw(st.floats(1e-8, 0.1))
    for modifier in ("cautious", "cautious_weight_decay", "max_update_rms"):
        given.pop(modifier, None)
    optimizer = kind([values(seed, (SIZE,), np.float32)], **{**given, **fixed})
    [group], [p] = optimizer.param_groups, optimizer._parameters()
    assert recipe(optimizer)[0] == name
    for k, scale in enumerate(scales):
        p.grad = values(seed + k, (SIZE,), np.float32, 10.0**scale)
        p.grad[::7] = 0
        if k < len(scales) - 1:
            optimizer.step()
    rule, slots = recipe(optimizer)
    state, before = optimizer.state[p], Terms(p.data)
    exact = {key: Terms(state.get(key, np.full(SIZE, initial, np.float32))) for key, initial in slots.items()}
    first = not any(key in state for key in (*slots, *optimizer.scalars))
    rule = optimizer.first_rule(group) or rule if first else rule
    scalars = {key: state[key].item() if key in state else value for key, value in optimizer.scalars.items()}
    coefficients = {"l2": 0.0, "keep": 1.0, **optimizer.coefficients(group, scalars, first),
                    "grad_scale": handling.get("grad_scale", 1.0) * (-1 if group["maximize"] else 1),
                    "max_abs": handling.get("max_grad_value", np.inf)}
    h = SimpleNamespace(**{key: Terms.coefficient(value) for key, value in coefficients.items()})
    with np.errstate(all="ignore"):
        finished = reference.finished(h, before, Terms(p.grad))
        ordinary = np.all([each.size < HUGE for each in (before, finished, *exact.values())], axis=0)
        update = reference.RULES[rule].update(h, before, finished, *exact.values())
        if not reference.RULES[rule].whole:
            before[...] = h.keep * before - update
        optimizer.step(**handling)
        check(p.data, before, ordinary)
        for key, terms in exact.items():
            check(state[key], terms, ordinary)


@given(seed=seeds, scales=st.lists(st.integers(-6, 6), min_size=1, max_size=5), decay=st.none() | HYPER["rho"].map(
    lambda rho: min(rho, 0.9999)), corrected=st.booleans())
def test_an_average_is_within_its_roundings_of_the_exact_one(seed: int, scales: list[int], decay: float | None,
                                                             corrected: bool) -> None:
    p = ol.Parameter(values(seed, (SIZE,), np.float32))
    average = ol.Average([p], decay, bias_correction=corrected and decay is not None)
    weights: list[float] = []
    for k, scale in enumerate(scales):
        p.data = values(seed + k, (SIZE,), np.float32, 10.0**scale)
        before = Terms(average.averages[0])
        average.update()
        t = k + 1
        weights = [1 / t if decay is None else (1 - decay) / (1 - decay**t) if corrected else 1 - decay if k else 1.0]
        reference.RULES["mean"].update(SimpleNamespace(weight=Terms.coefficient(weights[0])), before, Terms(p.data))
        check(average.averages[0], before)


def test_every_kernel_is_here() -> None:
    table = dispatch.kernels(np.dtype(np.float32), dispatch.level)
    simple = {name for name, kernel in table.items() if kernel.kind == "rule" and not kernel.measures
              and not name.startswith("traffic")}
    assert {*KERNELS, *FIRST - {None}, "mean"} == simple - OTHERS
