"""Properties of what stands beside steps: norms, clipping in place, and schedules that are saved at any moment."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimlite as ol
from optimlite import lr_scheduler as ls
from optimlite import reference
from optimlite.native import dispatch
from support.bits import same_bits
from support.helpers import content
from support.strategies import LARGE, UNWRITABLE, WRITABLE, floats, numbers, orders, placed, seeds, shapes, values

Array = np.ndarray
FORMS = st.sampled_from(WRITABLE)
LEAVES = st.lists(st.tuples(shapes | st.sampled_from(LARGE[:1]), floats, orders, FORMS, seeds,
                            st.sampled_from([1.0, 1e-30, 1e18]), st.booleans()), max_size=5)
NORMS = st.sampled_from([1.0, 2.0, math.inf])


def made(leaves: list[Any]) -> list[ol.Parameter]:
    """Parameters with a gradient in any memory each."""
    parameters = []
    for shape, dtype, order, form, seed, scale, special in leaves:
        parameters.append(ol.Parameter(np.zeros(shape, dtype, order=order)))
        parameters[-1].grad = placed(values(seed, shape, dtype, scale, special), form)
    return parameters


levels = st.sampled_from(dispatch.available())
counts = st.sampled_from([1, 2, 3, 8])


@given(leaves=LEAVES, norm_type=NORMS, level=levels, count=counts)
def test_norms_have_the_twins_bits(leaves: list[Any], norm_type: float, level: str, count: int) -> None:
    before = dispatch.level, ol.get_num_threads()
    try:
        dispatch.level = level
        ol.set_num_threads(count)
        gradients = [p.grad for p in made(leaves)]
        found = ol.get_total_norm(gradients, norm_type)
    finally:
        dispatch.level = before[0]
        ol.set_num_threads(before[1])
    laid_out = [(g if g.flags.forc else np.ascontiguousarray(g), g) for g in gradients]
    assert same_bits(np.array(found), np.array(reference.grad_norm(laid_out, norm_type)))


@given(leaves=LEAVES, norm_type=st.floats(0.5, 8))
def test_norms_of_other_orders_are_right(leaves: list[Any], norm_type: float) -> None:
    gradients = [placed(values(leaf[4], leaf[0], leaf[1]), leaf[3]) for leaf in leaves]
    everything = np.concatenate([np.ravel(g).astype(np.float64) for g in gradients] or [np.zeros(0)])
    expected = float((abs(everything)**norm_type).sum() ** (1 / norm_type))
    assert math.isclose(ol.get_total_norm(gradients, norm_type), expected, rel_tol=1e-12)


@given(leaves=LEAVES, most=numbers(0, 100), norm_type=NORMS, twice=st.booleans())
def test_clipping_by_norm_scales_each_gradient_once(leaves: list[Any], most: float, norm_type: float,
                                                    twice: bool) -> None:
    parameters = made(leaves)
    before = [p.grad.copy() for p in parameters]
    norm = reference.grad_norm([(p.data, p.grad) for p in parameters], norm_type)
    if twice:                                        # the first gradient belongs to another parameter too
        parameters += [ol.Parameter(np.zeros_like(p.data)) for p in parameters[:1]]
        for p, q in zip(parameters[:1], parameters[-1:], strict=True):
            q.grad = p.grad
        norm = reference.grad_norm([(p.data, p.grad) for p in parameters], norm_type)
    found = ol.clip_grad_norm_(parameters, most, norm_type)
    assert same_bits(np.array(found), np.array(norm))
    coefficient = reference.clip_coefficient(most, norm)
    for p, g in zip(parameters, before, strict=False):
        with np.errstate(all="ignore"):
            expected = g if coefficient == 1 else g * g.dtype.type(coefficient)
        assert same_bits(p.grad, np.asarray(expected))


@given(leaves=LEAVES, most=numbers(0, 100))
def test_clipping_by_value_bounds_every_element_and_leaves_nan(leaves: list[Any], most: float) -> None:
    parameters = made(leaves)
    before = [p.grad.copy() for p in parameters]
    ol.clip_grad_value_(parameters, most)
    for p, g in zip(parameters, before, strict=True):
        limit = g.dtype.type(most)
        expected = np.where(g > limit, limit, np.where(g < -limit, -limit, g))
        assert same_bits(p.grad, expected)


@given(leaves=LEAVES, which=st.integers(0, 4), form=st.sampled_from([*UNWRITABLE, "the parameter"]))
def test_clipping_refuses_before_it_changes_anything(leaves: list[Any], which: int, form: str) -> None:
    parameters = made(leaves)
    for p in parameters[which:which + 1]:
        p.grad = p.data if form == "the parameter" else placed(p.grad, form)
    bad = any(p.size for p in parameters[which:which + 1])
    before = [content(p.grad) for p in parameters]
    for clip in (lambda: ol.clip_grad_norm_(parameters, 0.0), lambda: ol.clip_grad_value_(parameters, 0.0),
                 lambda: ol.clip_grads_with_norm_(parameters, 0.0, 1.0)):
        if bad:
            with pytest.raises(ValueError, match="can't be clipped"):
                clip()
            assert [content(p.grad) for p in parameters] == before


# Schedules -----------------------------------------------------------------------------------------------------------

Make = Callable[[ol.Optimizer], Any]
counts_of_steps = st.integers(1, 9)
factors = st.floats(0.1, 1)


def leaf(build: Callable[..., Any], **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Make]:
    return st.fixed_dictionaries(arguments).map(lambda given: lambda optimizer: build(optimizer, **given))


LEAF = st.one_of(
    leaf(ls.StepLR, step_size=counts_of_steps, gamma=factors),
    leaf(ls.MultiStepLR, milestones=st.lists(st.integers(0, 20), max_size=4), gamma=factors),
    leaf(ls.ConstantLR, factor=factors, total_iters=counts_of_steps),
    leaf(ls.LinearLR, start_factor=factors, end_factor=st.floats(0, 1), total_iters=counts_of_steps),
    leaf(ls.ExponentialLR, gamma=factors),
    leaf(ls.PolynomialLR, total_iters=counts_of_steps, power=st.floats(0.5, 3)),
    leaf(ls.CosineAnnealingLR, T_max=counts_of_steps, eta_min=st.floats(0, 0.01)),
    leaf(ls.CosineAnnealingWarmRestarts, T_0=counts_of_steps, T_mult=st.integers(1, 3)),
    leaf(ls.WarmupCosineLR, warmup_steps=st.integers(0, 4), total_steps=st.integers(5, 20)),
    leaf(ls.MultiplicativeLR, lr_lambda=st.just(lambda t: 1 - 0.1 / (1 + t))),
    leaf(ls.LambdaLR, lr_lambda=st.just(lambda t: 1 / (1 + t))),
)


def composed(each: st.SearchStrategy[Make]) -> st.SearchStrategy[Make]:
    def chain(makes: list[Make]) -> Make:
        return lambda optimizer: ls.ChainedScheduler([make(optimizer) for make in makes])

    def sequence(drawn: tuple[list[Make], list[int]]) -> Make:
        makes, milestones = drawn
        return lambda optimizer: ls.SequentialLR(optimizer, [make(optimizer) for make in makes],
                                                 sorted(milestones)[:len(makes) - 1])

    several = st.lists(each, min_size=2, max_size=3)
    return several.map(chain) | st.tuples(several, st.lists(st.integers(1, 15), min_size=2, max_size=2,
                                                            unique=True)).map(sequence)


@given(make=st.recursive(LEAF, composed, max_leaves=4), saved=st.integers(0, 20), more=st.integers(1, 20),
       by_hand=st.dictionaries(st.integers(0, 40), st.floats(0.01, 1), max_size=2), late=st.none() | st.integers(0, 20),
       first=st.booleans())
@pytest.mark.filterwarnings("ignore:.*came before optimizer.step")
def test_a_schedule_resumes_exactly_wherever_it_was_saved(make: Make, saved: int, more: int, by_hand: dict[int, float],
                                                          late: int | None, first: bool) -> None:
    """Composed in any way, with rates changed by hand and a group that comes later; through JSON, in either order."""
    def build(groups: int = 2) -> tuple[ol.Optimizer, Any]:
        optimizer = ol.SGD([{"params": [np.ones(1)], "lr": 0.3 / (k + 1)} for k in range(groups)])
        return optimizer, make(optimizer)

    def advance(optimizer: ol.Optimizer, scheduler: Any, start: int, stop: int) -> list[Any]:
        rows = []
        for t in range(start, stop):
            if t == late:
                optimizer.add_param_group({"params": [np.ones(1)], "lr": 0.7})
            if t in by_hand:
                optimizer.param_groups[0]["lr"] = by_hand[t]
            scheduler.step()
            rows.append(([group["lr"] for group in optimizer.param_groups], scheduler.get_last_lr()))
        return rows

    optimizer, scheduler = build()
    advance(optimizer, scheduler, 0, saved)
    states = optimizer.state_dict(), json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
    copied = copy.deepcopy(scheduler)
    expected = advance(optimizer, scheduler, saved, saved + more)
    fresh, again = build()
    if late is not None and late < saved:
        fresh.add_param_group({"params": [np.ones(1)], "lr": 0.7})
    for part, state in zip((fresh, again) if first else (again, fresh), states if first else states[::-1], strict=True):
        part.load_state_dict(state)
    assert advance(fresh, again, saved, saved + more) == expected
    assert advance(copied.optimizer, copied, saved, saved + more) == expected


@given(make=st.recursive(LEAF, composed, max_leaves=4), steps=st.integers(1, 40))
@pytest.mark.filterwarnings("ignore:.*came before optimizer.step")
def test_steps_follow_the_closed_form(make: Make, steps: int) -> None:
    scheduler = make(ol.SGD([{"params": [np.ones(1)], "lr": lr} for lr in (0.3, 0.7)]))
    expected = [scheduler.at(t) for t in range(steps + 1)]
    found = [scheduler.get_last_lr()]
    for _ in range(steps):
        scheduler.step()
        found.append(scheduler.get_last_lr())
    assert found == expected
