"""Subnormal numbers are flushed where that is asked for, in kernels alone, and normal ones keep their bits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.bits import TYPES, assert_same
from support.helpers import THREADS, random


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
