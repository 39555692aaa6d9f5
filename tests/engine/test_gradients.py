"""Gradients within the step: scaled, clipped, skipped and zeroed, with the bits of separate passes, or refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.bits import TYPES, assert_same, same_bits
from support.cases import SIZES, Case, per_case
from support.helpers import THREADS, PlainMomentum, random

HANDLINGS: list[dict[str, Any]] = [
    {"grad_scale": 1 / 3},
    {"max_grad_norm": 0.5},
    {"max_grad_norm": 1e9, "grad_scale": 1 / 1024, "skip_nonfinite": True},
    {"max_grad_value": 0.7, "zero_grad": True},
    {},
    {"max_grad_norm": 40.0, "max_grad_value": 0.2, "grad_scale": 0.3, "skip_nonfinite": True, "zero_grad": True},
]


def copies(optimizer: ol.Optimizer) -> list[np.ndarray]:
    """Everything that a step may change."""
    return [array.copy() for p in optimizer._parameters() for array in (p.data, *optimizer.state[p].values())]


def assert_unchanged(optimizer: ol.Optimizer, before: list[np.ndarray]) -> None:
    after = copies(optimizer)
    assert len(after) == len(before)
    assert all(same_bits(a, b) for a, b in zip(after, before, strict=True))


def pair_of(case: Case, values: list[np.ndarray]) -> list[ol.Optimizer]:
    half = len(values) // 2
    return [case.optimizer([{"params": [v.copy() for v in part]} for part in (values[:half], values[half:])],
                           **case.options) for _ in range(2)]


@per_case
def test_fused_forms_equal_the_separate_passes_of_the_twin(case: Case, level: str, threads: None) -> None:
    """Two groups, both float types in each, a parameter without gradient: one norm over all, the same bits."""
    rng = np.random.default_rng(0)
    values = [random(rng, case.fit(size), dtype) for size in SIZES for dtype in TYPES]
    optimizers = {count: pair_of(case, values)[0] for count in (0, 1, 3)}        # 0: the twin
    for handling in HANDLINGS:
        grads = [None if k == 5 else random(rng, v.shape, v.dtype) for k, v in enumerate(values)]
        expected = [np.zeros_like(g) if g is not None and handling.get("zero_grad") else g for g in grads]
        for count, optimizer in optimizers.items():
            for p, g in zip(optimizer._parameters(), grads, strict=True):
                p.grad = None if g is None else g.copy()
            if count:
                ol.set_num_threads(count)
                optimizer.step(**handling)
                assert_same(optimizer, optimizers[0])
                assert optimizer.last_grad_norm == optimizers[0].last_grad_norm
            else:
                reference.step(optimizer, **handling)
            for p, g in zip(optimizer._parameters(), expected, strict=True):
                assert p.grad is g is None or same_bits(p.grad, g)


@per_case
def test_clipping_before_the_step_gives_the_same_bits(case: Case) -> None:
    rng = np.random.default_rng(1)
    values = [random(rng, case.fit(size), dtype) for size in (3, 40_000, 17) for dtype in TYPES]
    fused, separate = pair_of(case, values)
    for _ in range(3):
        for p, q in zip(fused._parameters(), separate._parameters(), strict=True):
            p.grad, q.grad = (random(np.random.default_rng(p.size), p.shape, p.dtype) for _ in range(2))
        fused.step(max_grad_norm=0.5, max_grad_value=1e-3, zero_grad=True)
        assert ol.clip_grad_norm_(separate._parameters(), 0.5) == fused.last_grad_norm
        ol.clip_grad_value_(separate._parameters(), 1e-3)
        separate.step()
        separate.zero_grad(set_to_none=False)
        assert_same(fused, separate)
        assert all(not p.grad.any() for o in (fused, separate) for p in o._parameters())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@per_case
def test_a_skipped_step_changes_nothing(case: Case, bad: float, level: str) -> None:
    """A bad value in the last element of the last tensor: parameters, state and counters keep every bit."""
    rng = np.random.default_rng(2)
    values = [random(rng, case.fit(size), np.float32) for size in SIZES]
    optimizer, clean = pair_of(case, values)
    grads = [random(rng, value.shape, np.float32) for value in values]
    poisoned = [g.copy() for g in grads]
    poisoned[-1][-1] = bad
    before = copies(optimizer)
    structure = [dict(group) for group in optimizer.param_groups]
    optimizer.step(grads=[poisoned[:len(values) // 2], poisoned[len(values) // 2:]], skip_nonfinite=True)
    assert_unchanged(optimizer, before)
    assert not optimizer.state
    assert optimizer.param_groups == structure
    assert optimizer.skipped_steps == 1
    assert not math.isfinite(optimizer.last_grad_norm)
    for o in (optimizer, clean):
        o.step(grads=[grads[:len(values) // 2], grads[len(values) // 2:]], skip_nonfinite=True)
    before = copies(optimizer)
    optimizer.step(grads=[poisoned[:len(values) // 2], poisoned[len(values) // 2:]], skip_nonfinite=True,
                   max_grad_norm=1.0, grad_scale=0.5)
    assert_unchanged(optimizer, before)
    assert_same(optimizer, clean)
    assert optimizer.skipped_steps == 2
    assert clean.skipped_steps == 0
    assert all(same_bits(p.grad, g) for p, g in zip(optimizer._parameters(), poisoned, strict=True))


def test_zeroing_happens_after_a_skipped_step_too() -> None:
    """Else an accumulated NaN would skip every step that follows."""
    optimizer = ol.SGD({"a": np.ones(3), "b": np.ones(2)})
    grads = {"a": np.array([1.0, np.nan, 1.0]), "b": np.ones(2)}
    optimizer.step(grads=grads, skip_nonfinite=True, zero_grad=True)
    assert optimizer.skipped_steps == 1
    assert not grads["a"].any()
    assert not grads["b"].any()


def test_a_bad_norm_spoils_the_parameters_without_skip_nonfinite() -> None:
    a, b = np.ones(3), np.ones(2)
    optimizer = ol.SGD({"a": a, "b": b}, lr=0.5)
    optimizer.step(grads={"a": np.array([1.0, np.nan, 1.0]), "b": np.ones(2)}, max_grad_norm=1.0)
    assert np.isnan(a).all()
    assert np.isnan(b).all()
    assert math.isnan(optimizer.last_grad_norm)


def test_the_norm_is_reported_before_clipping_of_unscaled_gradients() -> None:
    optimizer = ol.SGD([np.zeros(2), np.zeros(2)], lr=1.0)
    grads = [np.array([6.0, 0.0]), np.array([0.0, 8.0])]
    optimizer.step(grads=grads, grad_scale=0.5, max_grad_norm=1.0)
    assert optimizer.last_grad_norm == 5.0
    assert np.allclose(optimizer._parameters()[0].data, [-0.6, 0], rtol=1e-6)
    optimizer.step(grads=grads)
    assert optimizer.last_grad_norm is None
    optimizer.step(grads=grads, max_grad_norm=math.inf)
    assert optimizer.last_grad_norm == 10.0


def test_arguments_may_be_numpy_numbers() -> None:
    results = []
    for kind in (float, np.float64, np.float32, np.array):
        p = ol.Parameter(np.ones(3))
        p.grad = np.full(3, 8.0)
        ol.SGD([p], lr=0.5).step(grad_scale=kind(0.25), max_grad_norm=kind(1.5), max_grad_value=kind(0.75))
        results.append(p.data.tobytes())
    assert len(set(results)) == 1


def test_averaging_accumulated_micro_batches() -> None:
    rng = np.random.default_rng(3)
    parts = [random(rng, 50, np.float64) for _ in range(4)]
    p, q = ol.Parameter(np.ones(50)), ol.Parameter(np.ones(50))
    for part in parts:
        p.accumulate_grad(part)
    ol.SGD([p], lr=0.1).step(grad_scale=1 / 4, zero_grad=True)
    ol.SGD([q], lr=0.1).step(grads=[np.mean(parts, axis=0)])
    assert np.allclose(p.data, q.data, rtol=1e-15, atol=0)
    assert not p.grad.any()


@pytest.mark.parametrize("arguments", [
    {"grad_scale": 0}, {"grad_scale": -1.0}, {"grad_scale": math.nan}, {"grad_scale": math.inf}, {"grad_scale": "1"},
    {"max_grad_norm": -1.0}, {"max_grad_norm": math.nan}, {"max_grad_norm": "1"}, {"max_grad_value": -1e-9},
    {"max_grad_value": math.nan}, {"skip_nonfinite": "yes"}, {"zero_grad": None},
], ids=str)
def test_bad_arguments_are_refused_before_the_closure_runs(arguments: dict[str, Any]) -> None:
    p = ol.Parameter(np.ones(3))
    optimizer = ol.Adam([p])

    def closure() -> float:
        raise AssertionError("ran")

    [name] = arguments
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be"):
        optimizer.step(closure, **arguments)
    assert (p.data == 1).all()
    assert not optimizer.state


def test_a_closure_and_the_handling_work_together() -> None:
    p = ol.Parameter(np.zeros(2))
    optimizer = ol.SGD([p], lr=1.0)
    assert optimizer.step(lambda: (3.5, [np.array([3.0, 4.0])]), max_grad_norm=1.0) == 3.5
    assert np.allclose(p.data, [-0.6, -0.8], rtol=1e-6)


def test_an_optimizer_with_a_step_of_its_own_measures_nothing() -> None:
    optimizer = PlainMomentum([np.ones(2)])
    optimizer.step(grads=[np.ones(2)])
    assert optimizer.skipped_steps == 0
    assert optimizer.last_grad_norm is None


def test_without_any_gradient_the_norm_is_zero() -> None:
    optimizer = ol.Adam([np.ones(3)])
    with pytest.warns(UserWarning, match="no parameter has a gradient"):
        optimizer.step(max_grad_norm=1.0, zero_grad=True)
    assert optimizer.last_grad_norm == 0.0
    assert not optimizer.state


# Zeroing -------------------------------------------------------------------------------------------------------------

def broadcast() -> np.ndarray:
    return np.lib.stride_tricks.as_strided(np.ones(3, np.float32), (4, 3), (0, 4))


def windows() -> np.ndarray:
    return np.lib.stride_tricks.as_strided(np.ones(12, np.float32), (4, 3), (4, 4))


def read_only() -> np.ndarray:
    array = np.ones((4, 3), np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(("reason", "make"), [
    ("is read-only", read_only), ("is a broadcast array", broadcast), ("overlaps itself", windows)])
def test_what_cannot_be_changed_in_place_is_refused_before_anything_changes(reason: str, make: Any) -> None:
    a, b = ol.Parameter(np.ones(5, np.float32), "a"), ol.Parameter(np.ones((4, 3), np.float32), "b")
    a.grad, b.grad = np.full(5, 2, np.float32), make()
    optimizer = ol.Adam([a, b])
    optimizer.step()
    before = copies(optimizer)
    for call in (lambda: optimizer.step(zero_grad=True), lambda: optimizer.zero_grad(set_to_none=False),
                 lambda: ol.clip_grad_norm_([a, b], 1.0), lambda: ol.clip_grad_value_([a, b], 0.5),
                 lambda: ol.clip_grads_with_norm_([a, b], 1.0, 10.0)):
        with pytest.raises(ValueError, match=f"gradient of 'b' .*{reason}"):
            call()
        assert_unchanged(optimizer, before)
        assert (a.grad == 2).all()
        assert (b.grad == 1).all()
    optimizer.step(max_grad_norm=1.0)                # clipping within the step writes to no gradient
    assert (a.grad == 2).all()
    assert (b.grad == 1).all()


def test_an_empty_gradient_may_be_read_only() -> None:
    """Found by fuzzing: the step was made, and then raised since nothing could be set to zero."""
    a, b = ol.Parameter(np.ones((3, 0)), "a"), ol.Parameter(np.ones(2), "b")
    optimizer = ol.Adam([a, b])
    for call in (lambda: optimizer.step(zero_grad=True), lambda: optimizer.zero_grad(set_to_none=False),
                 lambda: optimizer.step(zero_grad=True, max_grad_norm=1.0), lambda: ol.clip_grad_value_([a, b], 0.5),
                 lambda: optimizer.step(zero_grad=True, skip_nonfinite=True), lambda: ol.clip_grad_norm_([a, b], 1.0)):
        a.grad, b.grad = np.ones((3, 0)), np.ones(2)
        a.grad.flags.writeable = False
        call()
    assert optimizer.steps_taken == 3


def test_a_gradient_that_is_a_parameter_is_not_zeroed() -> None:
    x, y = ol.Parameter(np.ones(5), "x"), ol.Parameter(np.full(5, 2.0), "y")
    x.grad, y.grad = y.data, x.data                  # f = x·y
    optimizer = ol.SGD([x, y])
    for call in (lambda: optimizer.step(zero_grad=True), lambda: ol.clip_grad_norm_([x, y], 1.0)):
        with pytest.raises(ValueError, match="gradient of 'x' shares memory with a parameter"):
            call()
    assert (x.data == 1).all()
    assert (y.data == 2).all()


@pytest.mark.parametrize("order", "CF")
def test_strided_gradients_are_used_and_zeroed_by_value(order: str) -> None:
    rng = np.random.default_rng(5)
    base = random(rng, (34, 40), np.float32)
    for view in (lambda a: a[::2, ::-1], lambda a: a[:17].T.copy().T, lambda a: a[1:18]):
        pair = [ol.AdamW([np.asarray(view(base)).copy(order=order) * 0 + 1], lr=0.1) for _ in range(2)]
        memory = [base.copy() for _ in pair]
        grads = [view(m) for m in memory]
        for optimizer, g in zip(pair, grads, strict=True):
            optimizer._parameters()[0].grad = g
        pair[0].step(max_grad_norm=0.1, zero_grad=True)
        reference.step(pair[1], max_grad_norm=0.1, zero_grad=True)
        assert_same(*pair)
        assert pair[0].last_grad_norm == pair[1].last_grad_norm
        assert not grads[0].any()
        assert same_bits(memory[0], memory[1])


def test_a_gradient_that_two_parameters_share_is_read_by_both_before_it_is_zeroed(threads: None) -> None:
    """f = x + y gives the same array twice; some gradients overlap in part."""
    rng = np.random.default_rng(6)
    g = random(rng, 70_000, np.float32)
    for count in THREADS:
        ol.set_num_threads(count)
        pair = [ol.Adam([np.ones(50_000, np.float32) for _ in range(3)]) for _ in range(2)]
        for optimizer in pair:
            own = g.copy()
            for p, at in zip(optimizer._parameters(), (0, 20_000, 0), strict=True):
                p.grad = own[at:at + 50_000]
        pair[0].step(zero_grad=True, max_grad_norm=1.0)
        reference.step(pair[1], zero_grad=True, max_grad_norm=1.0)
        assert_same(*pair)
        assert all(not p.grad.any() for p in pair[0]._parameters())
        fresh = [random(rng, 50_000, np.float32) for _ in range(3)]           # apart again: zeroed within the step
        for optimizer in pair:
            for p, own in zip(optimizer._parameters(), fresh, strict=True):
                p.grad = own.copy()
        pair[0].step(zero_grad=True)
        reference.step(pair[1], zero_grad=True)
        assert_same(*pair)
        assert all(not p.grad.any() for p in pair[0]._parameters())


def test_a_group_that_joins_is_looked_at_for_shared_gradients() -> None:
    a, b = ol.Parameter(np.ones(4)), ol.Parameter(np.ones(4))
    a.grad = b.grad = np.ones(4)
    optimizer = ol.SGD([a], lr=1.0)
    optimizer.step(zero_grad=True)
    a.grad[...] = 1
    optimizer.add_param_group({"params": [b]})
    optimizer.step(zero_grad=True)
    assert (a.data == -1).all()
    assert (b.data == 0).all()
    assert not a.grad.any()
