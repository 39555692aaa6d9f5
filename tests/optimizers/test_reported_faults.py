"""Faults that users reported of other optimizers, a test each, named by project and number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.native import dispatch
from support.bits import assert_same, same_bits
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


def test_parameters_in_a_set_are_refused() -> None:
    """pytorch PR#6031: sets have no order, so state went to other parameters on resume."""
    parameters = {ol.Parameter(ones()), ol.Parameter(ones())}
    for given in (parameters, frozenset(parameters), [{"params": parameters}]):
        with pytest.raises(TypeError, match="must come in a fixed order, got a set"):
            ol.Adam(given)


def test_a_parameter_listed_twice_is_refused() -> None:
    """pytorch#40967: it was updated twice."""
    p = ol.Parameter(ones(), name="W")
    for given in ([p, p], [{"params": [p, p]}], [{"params": [p]}, {"params": [p]}], [p.data, p.data]):
        with pytest.raises(ValueError, match=r"'(W|1)' appears more than once|overlap in memory"):
            ol.Adam(given)
    optimizer = ol.Adam([p])
    with pytest.raises(ValueError, match="'W' appears more than once"):
        optimizer.add_param_group({"params": [p]})


def test_amsgrads_maximum_is_written_back() -> None:
    """pytorch#78807: the path for many tensors did not keep the maximum."""
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


@pytest.mark.parametrize("count", [256, 2048, 2**24, 2**53])
def test_step_counters_never_freeze(count: int) -> None:
    """pytorch/ao PR#4915, DeepSpeed PR#8496: a counter in bfloat16 stops at 256, in float16 at 2048."""
    optimizer = ol.Adam([ones()])
    optimizer.step(grads=[GRADS[0]])
    optimizer.state["0"]["step"][...] = count
    optimizer.step(grads=[GRADS[1]])
    assert optimizer.state["0"]["step"] == count + 1


def test_two_parameters_are_as_one_each() -> None:
    """DeepSpeed#1643: the second parameter of a step was updated wrongly."""
    both = ol.Adam([ones(), 2 * ones()])
    alone = [ol.Adam([ones()]), ol.Adam([2 * ones()])]
    for one, other in zip(GRADS, GRADS[::-1], strict=True):
        both.step(grads=[one, other])
        alone[0].step(grads=[one])
        alone[1].step(grads=[other])
    for name, single in zip("01", alone, strict=True):
        assert same_bits(both.state.find(name).data, single.state.find("0").data)


def test_bias_correction_does_not_drift_within_a_step() -> None:
    """DeepSpeed#7819: parameters updated later in a step had another correction."""
    optimizer = ol.Adam([ones() for _ in range(100)])
    for grad in GRADS:
        optimizer.step(grads=[grad] * 100)
    assert all(same_bits(p.data, optimizer.state.find("0").data) for p in optimizer._parameters())


def test_a_skipped_parameter_keeps_its_own_count() -> None:
    """DeepSpeed PR#8471: one counter was shared, so bias correction was wrong where some gradients were None."""
    optimizer = ol.Adam([ones(), ones()])
    late = ol.Adam([ones()])
    for step, grad in enumerate(GRADS):
        optimizer.step(grads=[grad, grad if step > 4 else None])
        if step > 4:
            late.step(grads=[grad])
    assert [int(optimizer.state[name]["step"]) for name in "01"] == [8, 3]
    assert same_bits(optimizer.state.find("1").data, late.state.find("0").data)


def test_no_kernel_is_imported_that_the_cpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed#1886: a build for AVX-512 crashed an AMD CPU."""
    monkeypatch.setattr(dispatch, "cpu_supports", lambda level: level == "baseline")
    assert dispatch.choose(None) == "baseline"
    for level in ("v3", "v4"):
        with pytest.raises(ValueError, match=f"got '{level}', which is not supported by this CPU"):
            dispatch.choose(level)
        with pytest.raises(ValueError, match=f"does not support the level '{level}'"):
            dispatch.kernels.__wrapped__(np.dtype(np.float32), level)


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


def test_a_strided_gradient_counts_by_its_values() -> None:
    """thinc PR#664: strides were ignored."""
    wide = RNG.standard_normal((1000, 3)).astype(np.float32)
    one, other = ol.Adam([ones()]), ol.Adam([ones()])
    one.step(grads=[wide[::-1, 1]])
    other.step(grads=[wide[::-1, 1].copy()])
    assert_same(one, other)


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


def test_radams_groups_share_nothing() -> None:
    """pytorch-optimizer(jettify)#96: a buffer of step sizes was shared by all groups."""
    options = [{"lr": 0.1, "betas": (0.9, 0.999)}, {"lr": 0.3, "betas": (0.8, 0.9), "eps": 1e-3}]
    both = ol.RAdam([{"params": [ones()], **group} for group in options])
    alone = [ol.RAdam([ones()], **group) for group in options]
    for grad in GRADS:
        both.step(grads=[[grad], [grad]])
        for single in alone:
            single.step(grads=[grad])
    for p, single in zip(both._parameters(), alone, strict=True):
        assert same_bits(p.data, single.state.find("0").data)


def test_dampening_leaves_the_first_step_alone() -> None:
    """pytorch PR#152833: torch's momentum buffer starts as the whole gradient; so it does here, and the docs say so."""
    optimizer = ol.SGD({"p": np.zeros(1)}, lr=1.0, momentum=0.5, dampening=0.25)
    buffers = []
    for grad in (4.0, 8.0):
        optimizer.step(grads={"p": np.full(1, grad)})
        buffers.append(float(optimizer.state["p"]["momentum_buffer"][0]))
    assert buffers == [4.0, 0.5 * 4 + 0.75 * 8]
    assert "dampening doesn't touch the first step" in " ".join((ol.SGD.__doc__ or "").split())


def test_momentum_survives_from_step_to_step() -> None:
    """kozistr PR#516: the momentum buffer was zeroed every step. See also test_every_hyper_parameter_matters."""
    optimizer = ol.SGD({"p": np.zeros(1)}, lr=1.0, momentum=0.5)
    for grad in (4.0, 0.0, 0.0):
        optimizer.step(grads={"p": np.full(1, grad)})
    assert optimizer.state["p"]["momentum_buffer"] == 1.0
    assert optimizer.state.find("p").data == -(4 + 2 + 1)
