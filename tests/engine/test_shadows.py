"""Shadows: whoever moves a parameter, its copy in 16 bits is the rounded parameter, and nothing else changes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.formats import BFLOAT16, widened
from optimlite.engine.shadows import rounded
from support.helpers import refusals

FLOATS = [np.float32, np.float64]
HALVES = [np.float16, np.uint16]                 # the second for bfloat16
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "swept": (ol.Adam, {}), "with a norm": (ol.LAMB, {}), "modified": (ol.AdamW, {"cautious": True}),
    "int8": (ol.Adam, {"state_dtype": "int8"}), "of all": (ol.Prodigy, {}), "whole": (ol.ADOPT, {})}
LAYOUTS = {"C": lambda a: a.copy(), "F": np.asfortranarray, "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2]}


def true(parameter: Any) -> bool:
    shadow = parameter.shadow
    return bool(np.array_equal(shadow.view(np.uint16), rounded(parameter.data, shadow).view(np.uint16)))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("half", HALVES)
def test_rounding(half: Any, dtype: Any) -> None:
    """Near every number of 16 bits, between them, and where the one type ends and the other doesn't."""
    upper = np.arange(65536, dtype=np.uint32) << 16
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    near = np.concatenate([halves.view(np.uint32) + k for k in (0, 1, 0x0fff, 0x1000, 0x1001)])
    bits = np.concatenate([upper, upper + 0x7fff, upper + 0x8000, near,
                           np.arange(0x477f0000, 0x47800010, dtype=np.uint32)])
    given = bits.view(np.float32)
    with np.errstate(all="ignore"):
        parameter = ol.Parameter(np.zeros(given.size, dtype), shadow=np.empty(given.size, half))
        parameter.grad = given.astype(dtype)
    ol.SGD([parameter], lr=1.0, maximize=True).step()
    found = parameter.shadow.view(np.float16 if half == np.float16 else BFLOAT16)
    with np.errstate(all="ignore"):
        values = widened(found).astype(np.float64)
    finite = np.isfinite(given)
    assert np.array_equal(np.isnan(given), np.isnan(values))
    assert np.array_equal(parameter.shadow[finite], rounded(parameter.data, parameter.shadow)[finite])
    inside = finite & (abs(given) < (65504 if half == np.float16 else 3.38e38)) & (abs(given) > 1e-4)
    assert (abs(values[inside] / given[inside] - 1) <= (2.0**-11 if half == np.float16 else 2.0**-8)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_has_the_bits_that_it_has_without(name: str, layout: str, level: str, threads: None) -> None:
    rng = np.random.default_rng(0)
    kind, options = OPTIMIZERS[name]
    start = rng.standard_normal((1301, 17)).astype(np.float32)
    a, b = LAYOUTS[layout](start.copy()), LAYOUTS[layout](start.copy())
    shadow = np.empty(start.shape, np.uint16, order="F" if layout == "F" else "C")
    parameter = ol.Parameter(a, shadow=shadow)
    one, other = kind([parameter], **options), kind([b], **options)
    for _ in range(2):
        bits = np.asarray(rng.standard_normal(start.shape).astype(np.float32).view(np.uint32) >> 16, np.uint16)
        one.step(grads=[bits], max_grad_norm=1.0)            # uint16 as the shadow is: bfloat16
        other.step(grads=[widened(bits.view(BFLOAT16))], max_grad_norm=1.0)
        assert np.array_equal(a, b)
        assert true(parameter)
    assert one.memory().parameters == 6 * start.size
    assert one.memory().gradients == 2 * start.size


def made(**options: Any) -> tuple[np.ndarray, np.ndarray, Any, ol.Adam]:
    values = np.linspace(-2, 3, 90).astype(np.float32)
    shadow = np.empty(90, np.float16)
    parameter = ol.Parameter(values, "W", shadow=shadow)
    return values, shadow, parameter, ol.Adam([parameter], lr=0.1, **options)


def test_others_that_move_parameters(tmp_path: Path) -> None:
    values, shadow, parameter, adam = made()
    assert true(parameter)
    opt = ol.Lookahead(adam, k=2)
    for _ in range(4):
        opt.step(grads=[shadow.copy()])
        assert true(parameter)
    average = ol.Average([parameter], decay=0.5)
    average.update()
    opt.step(grads=[shadow.copy()])
    average.update()
    own, before = values.copy(), shadow.copy()
    with average.swapped():
        assert true(parameter)
        assert not np.array_equal(own, values)
    assert np.array_equal(own, values)
    assert np.array_equal(before, shadow)
    seen = []

    def closure() -> tuple[float, list[np.ndarray]]:
        assert true(parameter)
        seen.append(shadow.copy())
        return 0.0, [shadow.copy()]

    ol.SAM(opt).step(closure)
    assert true(parameter)
    assert not np.array_equal(*seen)
    parameter.data = np.ones(90)
    assert true(parameter)
    assert shadow[0] == 1
    parameter.data -= 0.5
    assert true(parameter)
    assert shadow[0] == 0.5
    values[...] = 3.0
    parameter.update_shadow()
    assert shadow[0] == 3
    ol.save(tmp_path / "run", model={"W": parameter}, optimizer=opt)
    kept = values.copy()
    opt.step(grads=[shadow.copy()])
    ol.restore(tmp_path / "run", model={"W": parameter}, optimizer=opt)
    assert np.array_equal(values, kept)
    assert true(parameter)
    assert true(pickle.loads(pickle.dumps(adam)).param_groups[0]["params"][0])
    free = ol.ScheduleFreeAdamW([parameter])
    free.step(grads=[shadow.copy()])
    with free.swapped():
        assert true(parameter)
    assert true(parameter)


def test_shadows_of_ml_dtypes() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    parameter = ol.Parameter(np.ones(5, np.float32), shadow=np.empty(5, bfloat16))
    ol.SGD([parameter], lr=0.5).step(grads=[np.ones(5, bfloat16)])
    assert parameter.shadow.astype(np.float32).tolist() == [0.5] * 5


W = np.ones((4, 4), np.float32)
test_refused = refusals({
    "shape": (lambda: ol.Parameter(W, shadow=np.empty(16, np.float16)), r"must have the shape \(4, 4\), got \(16,\)"),
    "type": (lambda: ol.Parameter(W, "W", shadow=W.copy()), "shadow of 'W' must be an array of float16, .* float32"),
    "no array": (lambda: ol.Parameter(W, "W", shadow="float16"), "must be an array of float16, .* got 'float16'"),
    "order": (lambda: ol.Parameter(W, shadow=np.empty((4, 4), np.float16, order="F")),
              r"contiguous in the parameter's order \('C'\)"),
    "itself": (lambda: ol.Parameter(W[0], shadow=W.view(np.float16)[0, :4]), "and the parameter overlap in memory"),
    "complex": (lambda: ol.Parameter(np.ones(2, complex), shadow=np.empty(2, np.float16)), "must be of real numbers"),
    "matrices": (lambda: ol.Muon([ol.Parameter(W, "W", shadow=np.empty(W.shape, np.float16))]), "Muon writes no"),
    "closures": (lambda: ol.LBFGS([made()[2]]), "LBFGS writes no shadows, got one of 'W'; use another optimizer"),
    "sparse": (lambda: ol.SGD([made()[2]], lr=1).step(grads=[ol.SparseGrad([0], np.ones(1, np.float32))]),
               "a sparse gradient can't step a parameter with a shadow"),
    "replaced": (lambda: made()[3].replace("W", np.ones(3, np.float32)), "the new 'W' must have a shadow, as the old"),
})


def test_two_parameters_have_two_shadows() -> None:
    shadow = np.empty((4, 4), np.float16)
    with pytest.raises(ValueError, match="the shadow of 'a' and the shadow of 'b' overlap in memory"):
        ol.Adam([ol.Parameter(W.copy(), "a", shadow=shadow), ol.Parameter(W.copy(), "b", shadow=shadow)])
