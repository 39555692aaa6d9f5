# Clipping and norms are torch.nn.utils', and a fused step is what torch does in three passes.
import inspect
import math
from typing import Any

import numpy as np
import pytest

import optimlite as ol

torch = pytest.importorskip("torch")

SHAPES = [(3, 5), (), (40, 300), (0,), (7,)]
ORDERS = [1, 2, 3, 0.5, math.inf, "inf", 0]
NAMES = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def both(dtypes: list[str], scale: float = 1.0, shapes: list = SHAPES) -> tuple[list[ol.Parameter], list[Any]]:
    """The same parameters and gradients here and in torch; one has no gradient."""
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for k, shape in enumerate(shapes * len(dtypes)):
        dtype = dtypes[k % len(dtypes)]
        value = np.asarray(rng.standard_normal(shape), dtype)
        ours.append(ol.Parameter(value.copy()))
        theirs.append(torch.nn.Parameter(torch.from_numpy(value.copy())))
        if k != 4:
            gradient = np.asarray(scale * rng.standard_normal(shape), dtype)
            ours[-1].grad = gradient.copy()
            theirs[-1].grad = torch.from_numpy(gradient.copy())
    return ours, theirs


def assert_close(ours: list[ol.Parameter], theirs: list[Any], rtol: float) -> None:
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=rtol, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_signatures_are_torchs(name: str) -> None:
    here = inspect.signature(getattr(ol, name)).parameters
    there = inspect.signature(getattr(torch.nn.utils, name)).parameters
    assert [(p.name, p.default) for p in here.values()] == [
        (p.name, p.default) for p in there.values() if p.name != "foreach"]


@pytest.mark.parametrize("dtypes", [["float32"], ["float64"], ["float32", "float64"]], ids="-".join)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("max_norm", [0.0, 0.1, 1e6, math.inf])
def test_clip_grad_norm(dtypes: list[str], order: Any, max_norm: float) -> None:
    shapes = [shape for shape in SHAPES if 0 not in shape]       # torch has no largest element of an empty tensor
    ours, theirs = both(dtypes, shapes=shapes)
    rtol = 1e-13 if dtypes == ["float64"] else 1e-5
    norm = ol.clip_grad_norm_(ours, max_norm, order)
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, max_norm, order)), rel=rtol)
    assert_close(ours, theirs, rtol)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_a_norm_that_is_not_finite(bad: float, order: float) -> None:
    ours, theirs = both(["float32"], shapes=[(3,), (4,)])
    ours[1].grad[2] = theirs[1].grad[2] = bad
    for clip, listed in ((ol.clip_grad_norm_, ours), (torch.nn.utils.clip_grad_norm_, theirs)):
        with pytest.raises(RuntimeError):
            clip(listed, 1.0, order, error_if_nonfinite=True)
    assert_close(ours, theirs, 0)
    norm = ol.clip_grad_norm_(ours, 1.0, order)
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, 1.0, order)), nan_ok=True)
    assert_close(ours, theirs, 1e-6)


def test_the_other_functions() -> None:
    ours, theirs = both(["float32", "float64"])
    ol.clip_grad_value_(ours, 0.3)
    torch.nn.utils.clip_grad_value_(theirs, 0.3)
    assert_close(ours, theirs, 0)
    norm, reference = (f([p.grad for p in listed if p.grad is not None])
                       for f, listed in ((ol.get_total_norm, ours), (torch.nn.utils.get_total_norm, theirs)))
    assert norm == pytest.approx(float(reference), rel=1e-5)          # torch adds float32 in float32
    ol.clip_grads_with_norm_(ours, 0.5, norm)
    torch.nn.utils.clip_grads_with_norm_(theirs, 0.5, torch.tensor(norm))
    assert_close(ours, theirs, 1e-6)
    assert ol.get_total_norm([]) == float(torch.nn.utils.get_total_norm([])) == 0


def test_a_fused_step_is_torchs_three_passes() -> None:
    ours, theirs = both(["float32"], scale=1024.0)
    mine, other = ol.AdamW(ours), torch.optim.AdamW(theirs)
    rng = np.random.default_rng(1)
    for _ in range(20):
        for p, q in zip(ours, theirs, strict=True):
            if p.grad is not None:
                p.grad[...] = 1024 * rng.standard_normal(p.shape)
                q.grad.copy_(torch.from_numpy(p.grad)).mul_(1 / 1024)
        mine.step(grad_scale=1 / 1024, max_grad_norm=1.0, zero_grad=True)
        norm = torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        other.step()
        other.zero_grad(set_to_none=False)
        assert mine.last_grad_norm == pytest.approx(float(norm), rel=1e-6)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-5, atol=1e-6)
        assert p.grad is None or not p.grad.any()


def test_flushing_has_torchs_signature() -> None:
    assert list(inspect.signature(ol.set_flush_denormal).parameters) == ["mode"]
    assert ol.set_flush_denormal(False) == torch.set_flush_denormal(False)
