"""Adafactor: the paper's formula, and sums over rows and columns that are the same for everybody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.bits import assert_same

# Across the edges of tiles of 64 x 1024, and enough of them for threads.
TILED = [(64, 1024), (65, 1025), (63, 1023), (129, 17), (2, 70, 1030), (130, 1100), (500, 3, 3), (40, 60, 1, 1),
         (30, 20, 5, 2), (7, 16, 16, 70), (120_000,)]


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", TILED, ids=str)
def test_sums_are_the_same_for_everybody(shape: tuple[int, ...], level: str, dtype: Any, order: str,
                                                    threads: None) -> None:
    """Tiles are fixed, and added up in their order; a gradient laid out in another way is read in that order, too."""
    rng = np.random.default_rng(0)
    p, *grads = (np.array(rng.standard_normal(shape) * 10.0**-k, dtype) for k in range(4))
    for count in (1, 2, 8):
        ol.set_num_threads(count)
        one, twin = (ol.Adafactor([np.array(p, order=order)], lr=0.1, eps=(1e-4, 1e-3)) for _ in range(2))
        for g, options in zip(grads, ({}, {"max_grad_value": 0.01}, {"grad_scale": 0.3}), strict=True):
            one._parameters()[0].grad = twin._parameters()[0].grad = g
            one.step(**options)
            reference.step(twin, **options)
            assert_same(one, twin)


@pytest.mark.parametrize("shape", [(6, 4), (5,), (), (3, 2, 4)])
def test_the_formula_is_the_papers(shape: tuple[int, ...]) -> None:
    """Written once more as the docstring has it, in float64."""
    lr, decay, (eps1, eps2), d, shrink = 0.3, -0.6, (1e-3, 0.2), 1.1, 0.05
    rng = np.random.default_rng(0)
    p = rng.standard_normal(shape)
    optimizer = ol.Adafactor([np.array(p)], lr, decay, (eps1, eps2), d, shrink)
    r = c = v = np.zeros(())
    for t in range(1, 8):
        g = np.asarray(rng.standard_normal(shape) * 2.0 ** -t)
        optimizer.step(grads=[g])
        w, square = t ** decay, g * g
        if len(shape) < 2:
            estimate = v = (1 - w) * v + w * square
        else:
            r = (1 - w) * r + w * square.mean(axis=-1, keepdims=True)
            c = (1 - w) * c + w * square.mean(axis=-2, keepdims=True)
            estimate = r * c / np.maximum(r.mean(axis=-2, keepdims=True), eps1)
        u = g / np.sqrt(np.maximum(estimate, eps1 ** 2))
        size = max(eps2, np.sqrt((p * p).mean())) * min(lr, 1 / np.sqrt(t)) / max(1, np.sqrt((u * u).mean()) / d)
        p = (1 - lr * shrink) * p - size * u
        np.testing.assert_allclose(optimizer._parameters()[0].data, p, rtol=1e-12)
