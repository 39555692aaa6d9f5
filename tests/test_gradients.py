"""Gradients: the handling within a step, clipping outside it, accumulation, and subnormal numbers."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import CASES, SIZES, Case
from test_kernels import assert_same, same_bits

import optimlite as ol
from optimlite import reference

THREADS = [1, 2, 5]
TYPES = [np.float32, np.float64]
HANDLINGS: list[dict[str, Any]] = [
    {"grad_scale": 1 / 3},
    {"max_grad_norm": 0.5},
    {"max_grad_norm": 1e9, "grad_scale": 1 / 1024, "skip_nonfinite": True},
    {"max_grad_value": 0.7, "zero_grad": True},
    {"max_grad_norm": 40.0, "max_grad_value": 0.2, "grad_scale": 0.3, "skip_nonfinite": True, "zero_grad": True},
]


def random(rng: np.random.Generator, size: Any, dtype: Any) -> np.ndarray:
    return rng.standard_normal(size).astype(dtype)


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


# Within the step -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("handling", HANDLINGS, ids=lambda h: ",".join(h))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_fused_forms_equal_the_separate_passes_of_the_twin(case: Case, handling: dict[str, Any], level: str,
                                                           threads: None) -> None:
    """Two groups, both float types in each, a parameter without gradient: one norm over all, the same bits."""
    rng = np.random.default_rng(0)
    values = [random(rng, size, dtype) for size in SIZES for dtype in TYPES]
    steps = [[None if k == 5 else random(rng, v.size, v.dtype) for k, v in enumerate(values)] for _ in range(2)]
    for count in THREADS:
        ol.set_num_threads(count)
        ours, twin = pair_of(case, values)
        for step in steps:
            given = [[None if g is None else g.copy() for g in step] for _ in range(2)]
            for optimizer, grads in zip((ours, twin), given, strict=True):
                for p, g in zip(optimizer._parameters(), grads, strict=True):
                    p.grad = g
            ours.step(**handling)
            reference.step(twin, **handling)
            assert_same(ours, twin)
            assert ours.last_grad_norm == twin.last_grad_norm
            zero = handling.get("zero_grad", False)
            for g, original in zip(given[0], step, strict=True):
                assert g is None or same_bits(g, np.zeros_like(g) if zero else original)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_clipping_before_the_step_gives_the_same_bits(case: Case) -> None:
    rng = np.random.default_rng(1)
    values = [random(rng, size, dtype) for size in (3, 40_000, 17) for dtype in TYPES]
    fused, separate = pair_of(case, values)
    for _ in range(3):
        for p, q in zip(fused._parameters(), separate._parameters(), strict=True):
            p.grad, q.grad = (random(np.random.default_rng(p.size), p.size, p.dtype) for _ in range(2))
        fused.step(max_grad_norm=0.5, max_grad_value=1e-3, zero_grad=True)
        assert ol.clip_grad_norm_(separate._parameters(), 0.5) == fused.last_grad_norm
        ol.clip_grad_value_(separate._parameters(), 1e-3)
        separate.step()
        separate.zero_grad(set_to_none=False)
        assert_same(fused, separate)
        assert all(not p.grad.any() for o in (fused, separate) for p in o._parameters())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_skipped_step_changes_nothing(case: Case, bad: float, level: str) -> None:
    """A bad value in the last element of the last tensor: parameters, state and counters keep every bit."""
    rng = np.random.default_rng(2)
    values = [random(rng, size, np.float32) for size in SIZES]
    optimizer, clean = pair_of(case, values)
    grads = [random(rng, size, np.float32) for size in SIZES]
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


def test_an_optimizer_with_a_step_of_its_own_still_works() -> None:
    class Own(ol.Optimizer):
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.data -= group["lr"] * p.grad

    p = ol.Parameter(np.ones(2))
    p.grad = np.ones(2)
    optimizer = Own([p], {"lr": 0.5})
    optimizer.step()
    assert (p.data == 0.5).all()
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


# Norms and clipping outside the step ---------------------------------------------------------------------------------

@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_norms_have_the_same_bits_everywhere(norm_type: float, level: str, threads: None) -> None:
    rng = np.random.default_rng(7)
    arrays = [random(rng, size, dtype) * dtype(10.0) ** rng.integers(-5, 5) for size in SIZES for dtype in TYPES]
    expected = reference.grad_norm([(a, a) for a in arrays], norm_type)
    alone = [reference.grad_norm([(a, a)], norm_type) for a in arrays]
    for count in THREADS:
        ol.set_num_threads(count)
        assert ol.get_total_norm(arrays, norm_type) == expected
        assert [ol.get_total_norm(a, norm_type) for a in arrays] == alone


@pytest.mark.parametrize("dtype", TYPES)
def test_the_largest_magnitude(dtype: Any, level: str) -> None:
    """At every place of arrays around every vector length; infinite and NaN too, and of either sign."""
    for size in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100):
        for at in range(size):
            for value in (-3.0, 3.0, np.inf, -np.inf, np.nan, -np.nan, np.finfo(dtype).smallest_subnormal):
                a = np.full(size, -0.0, dtype)
                a[at] = value
                expected = abs(float(a[at]))
                got = ol.get_total_norm(a, math.inf)
                assert got == expected or (math.isnan(got) and math.isnan(expected))


@pytest.mark.parametrize(("norm_type", "expected"), [
    (1, 19.0), (2, math.sqrt(111)), (3, 829 ** (1 / 3)), (0.5, (math.sqrt(3) + 2 + 1 + math.sqrt(2) + 3) ** 2),
    (math.inf, 9.0), ("inf", 9.0), (-math.inf, 0.0), (0, 2.0),
])
def test_norms_in_closed_form(norm_type: Any, expected: float) -> None:
    """Of order 0, as in torch, it is the number of tensors with a nonzero element: the norm of the tensors' norms."""
    arrays = [np.array([[3.0, -4.0], [0.0, 1.0]]), np.array([-2.0, 9.0], np.float32), np.zeros((0, 3), np.float32)]
    assert ol.get_total_norm(arrays, norm_type) == pytest.approx(expected, rel=1e-14)


def test_the_norm_takes_any_layout_and_half_precision() -> None:
    rng = np.random.default_rng(8)
    a = random(rng, (6, 8, 4), np.float32)
    expected = float(np.linalg.norm(a.astype(np.float64)))
    unaligned = np.frombuffer(b"x" + a.tobytes(), np.float32, offset=1)
    for form in (a, a[::-1], a.T, np.asfortranarray(a), a.transpose(1, 0, 2), unaligned, list(a), (part for part in a)):
        assert ol.get_total_norm(form) == pytest.approx(expected, rel=1e-14)
    half = np.array([3, 4], np.float16)
    assert ol.get_total_norm(half) == 5.0
    assert ol.get_total_norm(np.array([3, 4], ">f4")) == 5.0
    assert ol.get_total_norm(np.full(3, 3e38, np.float32)) == pytest.approx(3e38 * math.sqrt(3))      # sums in float64
    assert ol.get_total_norm([]) == 0.0
    assert ol.get_total_norm(np.zeros(0)) == 0.0
    assert ol.get_total_norm(np.array(-2.0)) == 2.0


@pytest.mark.parametrize("what", [np.ones(3, int), np.ones(3, complex), np.ones(3, bool), [1.0, 2.0], "ab",
                                  ol.Parameter(np.ones(3)), [ol.Parameter(np.ones(3))]], ids=str)
def test_the_norm_refuses_what_is_no_float_array(what: Any) -> None:
    with pytest.raises(TypeError, match="`tensors` must be arrays"):
        ol.get_total_norm(what)


def parameters(*gradients: Any) -> list[ol.Parameter]:
    listed = []
    for g in gradients:
        listed.append(ol.Parameter(np.zeros_like(g) if g is not None else np.zeros(2)))
        listed[-1].grad = g
    return listed


def test_clip_grad_norm_in_closed_form() -> None:
    listed = parameters(np.array([3.0, 0.0]), None, np.array([[0.0], [4.0]], np.float32), np.zeros(0))
    assert ol.clip_grad_norm_(listed, 1.0) == 5.0
    coefficient = 1.0 / (5.0 + 1e-6)
    assert (listed[0].grad == [3.0 * coefficient, 0.0]).all()
    assert (listed[2].grad == np.float32(4) * np.float32(coefficient)).any()
    before = [g.grad.copy() for g in (listed[0], listed[2])]
    assert ol.clip_grad_norm_(iter(listed), 2.0) == pytest.approx(1.0, rel=1e-6)        # below: nothing changes
    assert all(same_bits(b, p.grad) for b, p in zip(before, (listed[0], listed[2]), strict=True))
    assert ol.clip_grad_norm_(listed[0], 1e-3) == pytest.approx(0.6, rel=1e-6)          # one Parameter
    ol.clip_grads_with_norm_(listed, 0.0, 7.0)
    assert not listed[0].grad.any()
    assert not listed[2].grad.any()


def test_clip_grad_value_in_closed_form(level: str) -> None:
    listed = parameters(np.array([3.0, -4.0, 0.25, np.nan, -np.inf, np.inf, -0.0]), None,
                        np.array([[2], [-9]], np.float32), np.arange(12.0)[::3], np.zeros(0))
    ol.clip_grad_value_(listed, 0.5)
    assert same_bits(listed[0].grad, np.array([0.5, -0.5, 0.25, np.nan, -0.5, 0.5, -0.0]))
    assert same_bits(listed[2].grad, np.array([[0.5], [-0.5]], np.float32))
    assert same_bits(listed[3].grad.copy(), np.array([0.0, 0.5, 0.5, 0.5]))


def test_strided_gradients_are_scaled_in_place(threads: None) -> None:
    rng = np.random.default_rng(9)
    base = random(rng, (300, 400), np.float32)
    for count in THREADS:
        ol.set_num_threads(count)
        memory = base.copy()
        listed = [ol.Parameter(np.zeros((150, 200), np.float32)), ol.Parameter(np.zeros((400, 300), np.float32).T)]
        listed[0].grad, listed[1].grad = memory[::2, ::2], base.copy()
        norm = ol.clip_grad_norm_(listed, 3.0)
        factor = np.float32(3.0 / (norm + 1e-6))
        expected = base.copy()
        expected[::2, ::2] *= factor
        assert same_bits(memory, expected)
        assert same_bits(listed[1].grad, base * factor)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_infinite_norm_raises_before_anything_changes_or_spoils_as_in_torch(bad: float) -> None:
    first, last = np.array([1.0, 2.0]), np.array([3.0, bad])
    listed = parameters(first, last)
    with pytest.raises(RuntimeError, match="must be finite, got"):
        ol.clip_grad_norm_(listed, 1.0, error_if_nonfinite=True)
    with pytest.raises(RuntimeError, match="must be finite, got"):
        ol.get_total_norm([first, last], error_if_nonfinite=True)
    assert same_bits(first, np.array([1.0, 2.0]))
    assert same_bits(last, np.array([3.0, bad]))
    norm = ol.clip_grad_norm_(listed, 1.0)
    assert not math.isfinite(norm)
    assert np.isnan(last[1])
    assert (np.isnan(first).all() if np.isnan(bad) else (first == 0).all())


def test_a_shared_gradient_is_scaled_once_and_a_partly_shared_one_refused() -> None:
    g = np.array([3.0, 4.0])
    listed = [ol.Parameter(np.zeros(2)) for _ in range(2)]
    for p in listed:
        p.grad = g
    norm = ol.clip_grad_norm_(listed, 1.0)
    assert norm == pytest.approx(math.sqrt(50))
    assert g == pytest.approx(np.array([3.0, 4.0]) / math.sqrt(50), rel=1e-6)
    memory = np.ones(3)
    listed[0].grad, listed[1].grad = memory[:2], memory[1:]
    with pytest.raises(ValueError, match="shares part of its memory"):
        ol.clip_grad_norm_(listed, 1.0)
    assert (memory == 1).all()


@pytest.mark.parametrize("what", [np.ones(3), {"a": ol.Parameter(np.ones(3))}, [np.ones(3)], 3, "ab"], ids=str)
def test_clipping_refuses_what_has_no_gradient(what: Any) -> None:
    for clip in (ol.clip_grad_norm_, ol.clip_grad_value_, lambda p, m: ol.clip_grads_with_norm_(p, m, 1.0)):
        with pytest.raises(TypeError, match="`parameters` must be Parameters"):
            clip(what, 1.0)


def test_arguments_of_clipping() -> None:
    listed = parameters(np.ones(3))
    for value in (-1.0, math.nan, "1"):
        with pytest.raises((TypeError, ValueError), match="`max_norm` must be"):
            ol.clip_grad_norm_(listed, value)
        with pytest.raises((TypeError, ValueError), match="`clip_value` must be"):
            ol.clip_grad_value_(listed, value)
    with pytest.raises(ValueError, match="`norm_type` must be"):
        ol.clip_grad_norm_(listed, 1.0, math.nan)
    for function in (ol.clip_grad_norm_, ol.clip_grad_value_):
        with pytest.raises(TypeError, match=rf"{function.__name__} has no argument `foreach`: .* leave it out"):
            function(listed, 1.0, foreach=True)
    with pytest.warns(UserWarning, match="generator that yields nothing"):
        assert ol.clip_grad_norm_((p for p in []), 1.0) == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ol.clip_grad_norm_([], 1.0) == 0.0
    assert (listed[0].grad == 1).all()


# Accumulation --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", TYPES)
def test_gradients_add_up_in_one_buffer(dtype: Any, level: str, threads: None) -> None:
    rng = np.random.default_rng(10)
    for count in THREADS:
        ol.set_num_threads(count)
        for shape in [(), (0,), (7,), (300, 333)]:
            p = ol.Parameter(np.zeros(shape, dtype))
            parts = [np.asarray(random(rng, shape, dtype)) for _ in range(4)]
            kept = [part.copy() for part in parts]
            expected = parts[0].copy()
            p.accumulate_grad(parts[0])
            address = p.grad.ctypes.data
            for part in parts[1:]:
                p.accumulate_grad(part)
                expected = np.asarray(expected + part)
            assert same_bits(p.grad, expected)
            assert p.grad.ctypes.data == address
            assert all(same_bits(part, before) for part, before in zip(parts, kept, strict=True))


def test_the_buffer_is_reused_between_steps() -> None:
    p = ol.Parameter(np.zeros(1000))
    optimizer = ol.SGD([p])
    p.accumulate_grad(np.ones(1000))
    address = p.grad.ctypes.data
    for zero in (optimizer.zero_grad, lambda: optimizer.zero_grad(set_to_none=False),
                 lambda: optimizer.step(zero_grad=True)):
        zero()
        p.accumulate_grad(np.full(1000, 2.0))
        assert p.grad.ctypes.data == address
        assert (p.grad == 2).all()
    held = p.grad
    optimizer.zero_grad()
    p.accumulate_grad(np.full(1000, 3.0))
    assert (held == 2).all()
    assert (p.grad == 3).all()


def test_accumulating_never_writes_to_arrays_that_came_in() -> None:
    p = ol.Parameter(np.zeros(3, np.float32))
    mine = np.ones(3, np.float32)
    p.grad = mine
    p.accumulate_grad(np.full(3, 2, np.float32))
    assert (mine == 1).all()
    assert (p.grad == 3).all()
    assert p.grad is not mine
    p.accumulate_grad(p.grad)
    assert (p.grad == 6).all()
    p.accumulate_grad(p.grad[::-1])
    p.accumulate_grad(np.broadcast_to(np.float32(1), 3))
    assert (p.grad == 13).all()
    for bad in (np.ones(3), np.ones(4, np.float32), [1, 2, 3]):
        with pytest.raises((TypeError, ValueError), match="gradient of"):
            p.accumulate_grad(bad)
    assert (p.grad == 13).all()
    scalar = ol.Parameter(np.zeros(()))
    scalar.accumulate_grad(2.0)
    scalar.accumulate_grad(np.float64(3.0))
    assert scalar.grad == 5.0


@pytest.mark.parametrize("order", "CF")
def test_layouts_of_accumulated_gradients(order: str) -> None:
    p = ol.Parameter(np.zeros((5, 6), order=order))
    g = np.arange(30.0).reshape(5, 6)
    unaligned = np.frombuffer(b"x" + g.tobytes(), offset=1).reshape(5, 6)
    for form in (g, np.asfortranarray(g), np.repeat(g, 2, 0)[::2], unaligned):
        p.accumulate_grad(form)
    assert same_bits(np.ascontiguousarray(p.grad), 4 * g)
    assert p.grad.flags.f_contiguous == (order == "F")


# Subnormal numbers ---------------------------------------------------------------------------------------------------

@pytest.fixture
def flushing() -> Iterator[None]:
    if not ol.set_flush_denormal(True):
        pytest.skip("this CPU can't flush subnormal numbers")
    yield
    ol.set_flush_denormal(False)


def process_keeps_subnormals() -> bool:
    tiny = np.full(8, 1e-42, np.float32)
    return bool((tiny * np.float32(0.5) > 0).all() and (np.full(8, 1e-310) * 0.5 > 0).all())


@pytest.mark.parametrize("dtype", TYPES)
def test_flushing_is_for_kernels_alone(dtype: Any, flushing: None, level: str, threads: None) -> None:
    assert ol.get_flush_denormal()
    info = np.finfo(dtype)
    for count in THREADS:
        ol.set_num_threads(count)
        optimizer = ol.SGD([np.full(200_000, info.tiny, dtype)], lr=0.75, momentum=0.5)
        for _ in range(3):
            optimizer.step(grads=[np.full(200_000, info.tiny, dtype)])
            assert process_keeps_subnormals()
        ol.clip_grad_norm_(optimizer._parameters(), 1.0)
        assert process_keeps_subnormals()
    p = np.full(100, info.tiny, dtype)
    ol.SGD([p], lr=0.5).step(grads=[np.full(100, info.tiny, dtype)])
    assert (p == info.tiny).all()                            # tiny / 2 is subnormal: nothing is subtracted
    ol.set_flush_denormal(False)
    p = np.full(100, info.tiny, dtype)
    ol.SGD([p], lr=0.5).step(grads=[np.full(100, info.tiny, dtype)])
    assert (p == info.tiny / 2).all()


def test_flushing_takes_a_bool_and_is_off_by_default() -> None:
    assert not ol.get_flush_denormal()
    with pytest.raises(TypeError, match="`mode` must be True or False"):
        ol.set_flush_denormal(1)


def test_normal_numbers_keep_their_bits(flushing: None) -> None:
    rng = np.random.default_rng(11)
    pair = [ol.AdamW([np.ones(1000, np.float32)]) for _ in range(2)]
    for _ in range(5):
        g = random(rng, 1000, np.float32)
        for optimizer in pair:
            optimizer._parameters()[0].grad = g
        pair[0].step(max_grad_norm=1.0)
        reference.step(pair[1], max_grad_norm=1.0)
    assert_same(*pair)


@pytest.mark.plain
def test_moments_that_decay_into_subnormals_cost_no_more_with_flushing(flushing: None, threads: None) -> None:
    ol.set_num_threads(1)

    def fastest(exp_avg: float) -> float:
        p = ol.Parameter(np.ones(50_000, np.float32))
        p.grad = np.zeros(50_000, np.float32)
        optimizer = ol.Adam([p])
        optimizer.step()
        seconds = []
        for _ in range(30):
            optimizer.state[p]["exp_avg"][...] = exp_avg
            optimizer.state[p]["exp_avg_sq"][...] = exp_avg
            start = time.perf_counter()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    assert min(fastest(1e-41) / fastest(1e-3) for _ in range(5)) < 1.3
