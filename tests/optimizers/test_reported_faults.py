"""Faults that users reported of other optimizers, by project and number; what other files test anyway is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.cases import Case, per_case

RNG = np.random.default_rng(0)
GRADS = [RNG.standard_normal(1000).astype(np.float32) for _ in range(8)]


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape or 1000, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@per_case
def test_every_element_of_every_size_moves(case: Case, level: str, dtype: type) -> None:
    """pytorch#191763: whole vectors of some types were skipped; tiny parameters and zero gradients didn't show it."""
    sizes = [*range(1, 70), 1000, 16_383, 16_384, 16_385, 100_003]
    arrays = [np.full(case.fit(size), 2, dtype) for size in sizes]
    optimizer = case.optimizer(arrays, **case.options)
    before = [array.copy() for array in arrays]
    for _ in range(6):
        optimizer.step(grads=[np.ones_like(array) for array in arrays])
    assert all((array != old).all() for array, old in zip(arrays, before, strict=True))


def test_amsgrads_maximum_is_written_back() -> None:
    """pytorch#78807, DeepSpeed#7819: of many tensors the maximum was lost, and later ones were corrected otherwise."""
    many = ol.Adam([ones() for _ in range(300)], amsgrad=True)
    one = ol.Adam([ones()], amsgrad=True)
    largest = np.zeros(1000, np.float32)
    for grad in [100 * ones(), *GRADS]:
        many.step(grads=[grad] * 300)
        one.step(grads=[grad])
        largest = np.maximum(largest, one.state["0"]["exp_avg_sq"])
        for name in ("0", "1", "299"):
            assert same_bits(many.state[name]["max_exp_avg_sq"], largest)
            assert same_bits(many.state.find(name).data, one.state.find("0").data)
    assert (one.state["0"]["exp_avg_sq"] < largest).all()


@pytest.mark.parametrize("grad", [
    np.ones(999, np.float32), np.ones((1000, 1), np.float32), np.ones(1001, np.float32), np.ones(1000),
    np.ones(1000, np.float16), np.ones(1000, np.int32), np.ones(1000, ">f4"), [1.0] * 1000, 1.0,
], ids=lambda grad: f"{getattr(grad, 'dtype', type(grad).__name__)}{getattr(grad, 'shape', '')}")
def test_nothing_is_written_out_of_bounds(grad: Any) -> None:
    """thinc PR#664: gradients of another shape or type made the kernel write beyond the arrays."""
    p = ol.Parameter(ones(), name="W")
    optimizer = ol.Adam([p])
    with pytest.raises((TypeError, ValueError), match="gradient of 'W'"):
        p.grad = grad
    with pytest.raises((TypeError, ValueError), match="gradient of 'W'"):
        optimizer.step(grads=[grad])
    assert same_bits(p.data, ones())
    assert not optimizer.state


def test_adam_and_adamw_decay_by_their_own_rule() -> None:
    """FlagGems#4988, bitsandbytes#2010: Adam decayed as AdamW does, or the decay came in the wrong order."""
    p, g, lr, wd = 2.0, 4.0, 0.5, 0.1
    adam, adamw = (cls({"p": np.full(1, p)}, lr=lr, eps=1.0, weight_decay=wd) for cls in (ol.Adam, ol.AdamW))
    for optimizer in (adam, adamw):
        optimizer.step(grads={"p": np.full(1, g)})
    decayed = g + wd * p
    np.testing.assert_allclose(adam.state.find("p").data, p - lr * decayed / (decayed + 1), rtol=1e-15)
    np.testing.assert_allclose(adamw.state.find("p").data, p * (1 - lr * wd) - lr * g / (g + 1), rtol=1e-15)
    np.testing.assert_allclose(adamw.state["p"]["exp_avg"], 0.1 * g)       # the decay stays out of the moments


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_clipping_does_not_let_a_norm_pass_that_is_not_finite(value: float) -> None:
    """pytorch#46849: clip_grad_norm_ made zeros and NaN of such gradients, and nobody was told."""
    p = ol.Parameter(ones())
    p.grad = GRADS[0].copy()
    p.grad[7] = value
    before = p.grad.copy()
    with pytest.raises(RuntimeError, match=r"the total norm of the gradients must be finite, got (inf|nan)"):
        ol.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert same_bits(p.grad, before)
    optimizer = ol.Adam([p])
    optimizer.step(max_grad_norm=1.0, skip_nonfinite=True)
    assert (optimizer.skipped_steps, same_bits(p.data, ones())) == (1, True)
    assert not np.isfinite(optimizer.last_grad_norm or 0.0)
    assert not np.isfinite(ol.clip_grad_norm_([p], 1.0))
