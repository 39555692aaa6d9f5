"""Gradients add up in one buffer that the parameter owns, and arrays that came in are never written to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import TYPES, same_bits
from support.helpers import THREADS, random


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
