"""Norms and clipping outside the step: closed forms, the twin's bits, in place or refused before anything changes."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.bits import TYPES, same_bits
from support.cases import SIZES
from support.helpers import THREADS, label, random


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


@pytest.mark.parametrize("what", [np.ones(3, int), np.ones(3, bool), [1.0, 2.0], "ab",
                                  ol.Parameter(np.ones(3)), [ol.Parameter(np.ones(3))]], ids=label)
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


@pytest.mark.parametrize("what", [3, "ab", [1.0], {"a": object()}, {1.0}], ids=label)
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
