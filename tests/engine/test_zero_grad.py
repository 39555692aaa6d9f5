"""`zero_grad` drops gradients or fills them with zeros, where nothing else changes with them."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import (
    ones,
    pair,
    snapshot,
)


def test_zero_grad_drops_or_fills() -> None:
    W, b, optimizer = pair()
    W.grad = kept = ones()
    optimizer.zero_grad(set_to_none=False)
    assert W.grad is kept
    assert kept.tolist() == [0, 0]
    assert b.grad is None
    optimizer.zero_grad()
    assert W.grad is None


def test_zero_grad_releases_the_gradients() -> None:
    W, b, optimizer = pair()
    W.grad, b.grad = ones(), np.ones(4, np.float32)[::2]
    gone = [weakref.ref(W.grad), weakref.ref(b.grad)]
    optimizer.step()
    optimizer.zero_grad()
    assert [reference() for reference in gone] == [None, None]


def test_zero_grad_fills_only_the_gradient_of_a_strided_buffer() -> None:
    W = ol.Parameter(np.zeros((2, 2), np.float32))
    buffer = np.ones((2, 4), np.float32)
    W.grad = buffer[:, ::2]
    ol.SGD([W]).zero_grad(set_to_none=False)
    assert buffer.tolist() == [[0, 1, 0, 1]] * 2


def alias(array: np.ndarray) -> np.ndarray:
    return array[...]


@pytest.mark.parametrize(("gradient_of_b", "message"), [
    (lambda W, b, s: np.frombuffer(bytes(16), np.float32), "is read-only and can't be zeroed; use zero_grad"),
    (lambda W, b, s: np.broadcast_to(np.float32(1), (4,)), "is read-only"),
    (lambda W, b, s: np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (4,), (0,)), "is a broadcast array"),
    (lambda W, b, s: alias(W.data), "shares memory with a parameter or state"),
    (lambda W, b, s: alias(b.data), "shares memory with a parameter or state"),
    (lambda W, b, s: b.data[::-1], "shares memory with a parameter or state"),
    (lambda W, b, s: alias(s), "shares memory with a parameter or state"),
    (lambda W, b, s: s[::-1], "shares memory with a parameter or state")],
    ids=["read-only", "broadcast", "stride 0", "W", "itself", "itself reversed", "state", "state reversed"])
def test_a_gradient_that_must_not_be_zeroed_is_refused(gradient_of_b: Any, message: str) -> None:
    W, b = ol.Parameter(np.ones(4, np.float32), "W"), ol.Parameter(np.ones(4, np.float32), "b")
    optimizer = ol.SGD([W, b], lr=1, momentum=0.5)
    optimizer.step(grads=[np.ones(4, np.float32)] * 2)
    W.grad = np.ones(4, np.float32)
    b.grad = gradient_of_b(W, b, optimizer.state[W]["momentum_buffer"])
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=f"gradient of 'b' {message}"):
        optimizer.zero_grad(set_to_none=False)
    assert snapshot(optimizer) == before
    optimizer.zero_grad()
    assert b.grad is None
