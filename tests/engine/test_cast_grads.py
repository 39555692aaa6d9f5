"""cast_grads=True: gradients of other float types have the bits of gradients that were cast before."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.formats import BFLOAT16, widened
from support.bits import assert_same
from support.cases import CASES, Case
from support.helpers import refusals

FLOATS = [np.float32, np.float64]
TAKING = [case for case in CASES if "cast_grads" in case.optimizer.options
          and case.optimizer.options is ol.Adam.options and case.optimizer is not ol.SparseAdam]
BFLOATS = (np.arange(65536, dtype=np.uint16)).view(BFLOAT16)     # every one there is
HALVES = np.arange(65536, dtype=np.uint16).view(np.float16)


def cast(gradient: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.array(widened(gradient), dtype)


def bfloat(values: np.ndarray) -> np.ndarray:
    """Cut to bfloat16."""
    return np.asarray(values.astype(np.float32).view(np.uint32) >> 16, np.uint16).view(BFLOAT16)


MADE = {"float16": lambda x: x.astype(np.float16), "bfloat16": bfloat, "float32": lambda x: x.astype(np.float32),
        "float64": lambda x: x}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bits", [BFLOATS, HALVES], ids=["bfloat16", "float16"])
def test_every_16_bit_number_is_read_as_what_it_is(bits: np.ndarray, dtype: Any) -> None:
    p = np.zeros(65536, dtype)
    ol.SGD([p], lr=1.0, maximize=True, cast_grads=True).step(grads=[bits])
    assert np.array_equal(p, cast(bits, dtype), equal_nan=True)


@pytest.mark.parametrize("case", TAKING, ids=lambda case: case.id)
def test_every_rule(case: Case) -> None:
    rng = np.random.default_rng(0)
    dtype, given = (np.float64, "float32") if len(case.id) % 2 else (np.float32, "bfloat16")
    a, b = ({"W": np.full((50, 30), 0.5, dtype), "b": np.full(case.fit(7), 0.5, dtype)} for _ in range(2))
    one, other = case.optimizer(a, **case.options, cast_grads=True), case.optimizer(b, **case.options)
    for _ in range(3):
        grads = {name: MADE[given](rng.standard_normal(p.shape)) for name, p in a.items()}
        one.step(grads=grads)
        other.step(grads={name: cast(g, dtype) for name, g in grads.items()})
    assert_same(one, other)


AROUND: dict[str, dict[str, Any]] = {"swept": {}, "int8": {"state_dtype": "int8"}, "modifier": {"cautious": True}}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("given", MADE)
@pytest.mark.parametrize("kind", AROUND)
def test_what_is_around_a_step(kind: str, given: str, dtype: Any, level: str, threads: None) -> None:
    """Clipping by the norm of blocks, unscaling, skipping, zeroing, other layouts, threads."""
    rng = np.random.default_rng(0)
    shape = (1301, 51)
    a, b = (np.full(shape, 0.5, dtype) for _ in range(2))
    one, other = ol.Adam([a], cast_grads=True, **AROUND[kind]), ol.Adam([b], **AROUND[kind])
    options: dict[str, Any] = {"max_grad_norm": 1.0, "grad_scale": 0.25, "zero_grad": True, "skip_nonfinite": True}
    for number in range(4):
        made = MADE[given](rng.standard_normal(shape))
        gradient = [made, np.asfortranarray(made), np.repeat(made, 2, axis=1)[:, ::2], made][number]
        if number == 3:
            gradient[0, 0] = bfloat(np.array(np.nan)) if given == "bfloat16" else np.nan
        plain = cast(np.ascontiguousarray(gradient), dtype)
        ol.set_num_threads(number + 1)
        one.step(grads=[gradient], **options)
        other.step(grads=[plain], **options)
        assert not np.asarray(gradient).view().any()
        assert one.last_grad_norm == other.last_grad_norm or number == 3
    assert one.skipped_steps == other.skipped_steps == 1
    assert_same(one, other)


def test_complex_ones_of_the_other_precision() -> None:
    z, w = np.full(40, 1 + 1j), np.full(40, 1 + 1j)
    gradient = np.linspace(0, 1, 80).astype(np.float32).view(np.complex64)
    ol.Adam([z], cast_grads=True).step(grads=[gradient], max_grad_norm=0.5)
    ol.Adam([w]).step(grads=[gradient.astype(complex)], max_grad_norm=0.5)
    assert z.tobytes() == w.tobytes()


def test_accumulated_measured_copied_and_switched() -> None:
    p = np.zeros(4, np.float32)
    opt = ol.Adam({"p": p}, cast_grads=True)
    parameter = opt.param_groups[0]["params"][0]
    for gradient in (np.ones(4), np.ones(4, np.float16), bfloat(np.ones(4)), np.ones(4, np.float32)):
        parameter.accumulate_grad(gradient)
    assert parameter.grad.dtype == np.float32
    assert parameter.grad.tolist() == [4.0] * 4
    opt.watch(1, parameters=True)
    opt.step(grads={"p": bfloat(np.ones(4))})
    assert opt.metrics()["grad_norm/p"] == 2.0
    opt.step_parameter("p", np.ones(4, np.float16), max_grad_norm=1.0)
    pickle.loads(pickle.dumps(opt)).step(grads={"p": np.ones(4)})
    ol.SAM(opt).step(lambda: (0.0, {"p": bfloat(np.ones(4))}))
    table = ol.Parameter(np.zeros((3, 2)))
    sparse = ol.SGD([table], lr=1.0, cast_grads=True)
    table.grad = ol.SparseGrad([1], np.ones((1, 2)))
    sparse.step()
    table.grad = np.ones((3, 2), np.float32)     # the plan has room for sparse gradients now
    sparse.step()
    assert table.data.tolist() == [[-1, -1], [-2, -2], [-1, -1]]
    opt.param_groups[0]["cast_grads"] = False
    opt.step(grads={"p": np.ones(4, np.float32)})
    with pytest.raises(TypeError, match=r"is float64 but the parameter is float32; .* cast_grads=True$"):
        opt.step(grads={"p": np.ones(4)})


def other_optimizer() -> None:
    parameter = ol.Parameter(np.zeros((3, 3), np.float32))
    ol.SGD([parameter], lr=1, cast_grads=True)
    parameter.grad = np.ones((3, 3))
    ol.Muon([parameter]).step()


def stepped(gradient: Any) -> Any:
    return lambda: ol.SGD({"p": np.zeros(3, np.float32)}, lr=1, cast_grads=True).step(grads={"p": gradient})


test_refused = refusals({
    "long double": (stepped(np.ones(3, np.longdouble)), r"use grad.astype\(np.float32\)$"),
    "integers": (stepped(np.ones(3, int)), r"use grad.astype\(np.float32\)$"),
    "complex": (stepped(np.ones(3, complex)), "grad.real.astype"),
    "byte order": (stepped(np.ones(3, ">f8")), "is >f8 but the parameter is float32"),
    "bits that say nothing": (stepped(np.ones(3, np.uint16)), r"is uint16 but .* use grad.astype\(np.float32\)$"),
    "sparse": (stepped(ol.SparseGrad([0], np.ones(1))), r"is float64 but .* use values.astype\(np.float32\)$"),
    "matrices": (lambda: ol.Muon([{"params": [np.ones((2, 2))], "cast_grads": True}]), "`cast_grads` can't be had"),
    "another optimizer": (other_optimizer, "a gradient is float64 but its parameter, .* this optimizer doesn't cast"),
})
