"""Parameters of 16 bits: what a user sees is a float32 run, rounded, and beside it state has what was cut off."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.formats import widened
from optimlite.engine.shadows import rounded
from support.cases import CASES, Case
from support.halves import made, seen

TAKING = [case for case in CASES if getattr(case.optimizer, "takes_halves", False) and case.optimizer.by_element
          and case.optimizer is not ol.SparseAdam]
LAYOUTS = {"C": lambda a: a.copy(), "F": np.asfortranarray, "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2]}


def master(parameter: ol.Parameter, state: Any) -> np.ndarray:
    if "master" in state:
        return np.asarray(state["master"])
    low = state["low_bits"].view(np.int16).astype(np.int32)
    return ((parameter.data.view(np.uint16).astype(np.int32) << 16) + low).view(np.float32)


def follows(parameter: ol.Parameter, state: Any, exact: np.ndarray, theirs: Any) -> bool:
    same = np.array_equal(master(parameter, state), exact) and np.array_equal(
        parameter.data.view(np.uint16), rounded(exact, parameter.data).view(np.uint16))
    return same and all(np.array_equal(state[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", TAKING, ids=lambda case: case.id)
def test_the_bits_are_those_of_a_float32_master(case: Case, half: str) -> None:
    rng = np.random.default_rng(0)
    parameter = made(rng.standard_normal(case.fit((40, 30))), half)
    exact = seen(parameter)
    one, other = case.optimizer([parameter], **case.options), case.optimizer([exact], **case.options)
    for _ in range(4):
        gradient = rng.standard_normal(parameter.shape)
        given = rounded(gradient, parameter.data)
        one.step(grads=[given.view(parameter.dtype)])
        other.step(grads=[np.array(widened(given), np.float32)])
    assert follows(parameter, one.state["W"], exact, other.state[exact])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_what_is_around_a_step(half: str, layout: str, level: str, threads: None) -> None:
    """Blocks, layouts, clipping, zeroing, int8 state, gradients of every type."""
    rng = np.random.default_rng(0)
    start = made(rng.standard_normal((1301, 17)), half)
    parameter = ol.Parameter(LAYOUTS[layout](start.data), "W", dtype="bfloat16" if half == "bfloat16" else None)
    exact = LAYOUTS[layout](seen(start))
    one, other = ol.Adam([parameter], state_dtype="int8"), ol.Adam([exact], state_dtype="int8")
    for count, made_of in enumerate((np.float16, np.float32, np.float64), 1):
        ol.set_num_threads(count)
        gradient = rng.standard_normal(parameter.shape).astype(made_of)
        plain = gradient.astype(np.float32)
        one.step(grads=[gradient], max_grad_norm=0.5, zero_grad=True)
        other.step(grads=[plain], max_grad_norm=0.5)
        assert not gradient.any()
        assert one.last_grad_norm == other.last_grad_norm
    state = one.state["W"]
    assert np.array_equal(master(parameter, state), exact)
    assert np.array_equal(seen(parameter), widened(rounded(exact, parameter.data)).astype(np.float32))


def test_memory() -> None:
    parameter = made(np.ones(8192), "bfloat16")
    opt = ol.Adam([parameter], state_dtype="int8")
    opt.step(grads=[parameter.data.copy()])
    counted = opt.memory()
    assert (counted.parameters, counted.gradients, counted.state["low_bits"]) == (16384, 16384, 16384)
    assert counted.total / 8192 < 8.1


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_files_state_dicts_and_copies(half: str, tmp_path: Path) -> None:
    parameter = made(np.linspace(-1, 1, 50), half)
    opt = ol.Adam([parameter], lr=0.01)
    gradient = np.linspace(1, 2, 50).astype(np.float32)
    opt.step(grads=[gradient])
    ol.save(tmp_path / "run", model={"W": parameter}, optimizer=opt)
    plain = opt.state_dict(dtype="float32")
    assert plain["state"][0]["master"].dtype == np.float32
    assert "low_bits" not in plain["state"][0]
    others = []
    for source in ("file", "plain", "pickle", "torch"):
        again = made(seen(parameter), half)
        resumed = ol.Adam([again], lr=0.01)
        if source == "file":
            again.data[...] = 0
            ol.restore(tmp_path / "run", model={"W": again}, optimizer=resumed)
        elif source == "plain":
            resumed.load_state_dict(plain)
        elif source == "pickle":
            resumed = pickle.loads(pickle.dumps(opt))
            again = resumed.param_groups[0]["params"][0]
        else:                                    # whose state has no master: as where there is none but the parameter
            for key in ("master", "low_bits"):
                plain["state"][0].pop(key, None)
            resumed.load_state_dict(plain)
        resumed.step(grads=[gradient])
        others.append((again, resumed))
    opt.step(grads=[gradient])
    for again, resumed in others[:3]:
        assert follows(again, resumed.state["W"], master(parameter, opt.state["W"]),
                       {key: opt.state["W"][key] for key in ("exp_avg", "step")})
    np.testing.assert_allclose(seen(others[3][0]), seen(parameter), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_what_others_write_is_heeded(half: str) -> None:
    parameter = made(np.ones(3000), half)
    opt = ol.SGD([parameter], lr=2.0**-14)
    for _ in range(3):
        opt.step(grads=[np.ones(3000, np.float32)])          # moves the master alone
    assert (seen(parameter) == 1).all()
    assert (master(parameter, opt.state["W"]) == 1 - 3 * 2.0**-14).all()
    values = seen(parameter)
    values[7], values[2000:] = 0.5, 4.0
    parameter.data = values
    opt.step(grads=[np.zeros(3000, np.float32)])
    assert np.array_equal(seen(parameter), values)
    if half == "float16":
        assert (opt.state["W"]["master"][2000:] == 4).all()
        assert opt.state["W"]["master"][0] == 1 - 3 * 2.0**-14


def test_accumulated_measured_replaced() -> None:
    parameter = made(np.ones(6), "bfloat16")
    opt = ol.Adam([parameter], lr=0.5)
    for _ in range(2):
        parameter.accumulate_grad(parameter.data)
    assert parameter.grad.dtype == np.float32
    assert parameter.grad.tolist() == [2.0] * 6
    opt.watch(1, parameters=True)
    opt.step()
    assert opt.metrics()["weight_norm/W"] == 6**0.5
    opt.step_parameter("W", parameter.data.copy(), max_grad_norm=1.0)
    kept = opt.state["W"]["exp_avg"].copy()
    new = opt.replace("W", parameter.data[::-1][:4].copy(), rows=[5, 4, 3, 2])
    assert new.half == "bfloat16"
    assert np.array_equal(opt.state[new]["exp_avg"], kept[[5, 4, 3, 2]])
    opt.step(grads=[np.ones(4)])


def test_those_of_ml_dtypes() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    a = np.ones(5, bfloat16)
    opt = ol.Adam({"a": a}, lr=0.5)
    opt.step(grads={"a": np.ones(5, bfloat16)})
    assert a.astype(np.float32).tolist() == [0.5] * 5
    assert opt.state["a"]["low_bits"].dtype == np.uint16


HALF = made(np.ones((3, 3)), "float16")
REFUSED: dict[str, tuple[Any, str]] = {
    "matrices": (lambda: ol.Muon([HALF]), "Muon takes no parameters of 16 bits, got float16 for 'W'; use a.astype"),
    "lines": (lambda: ol.Adafactor([HALF]), "Adafactor takes no parameters of 16 bits"),
    "closures": (lambda: ol.LBFGS([HALF]), "LBFGS takes no parameters of 16 bits"),
    "rows": (lambda: ol.SparseAdam([HALF]), "SparseAdam takes no parameters of 16 bits"),
    "sparse": (lambda: ol.SGD([HALF], lr=1).step(grads=[ol.SparseGrad([0], np.ones((1, 3), np.float32))]),
               r"gradient of 'W' must be dense, .* got a SparseGrad; use gradient.to_dense\(len\(parameter\)\)"),
    "undeclared": (lambda: ol.Parameter(np.ones(3, np.uint16)), "must be float32 or float64, got uint16"),
    "declared wrongly": (lambda: ol.Parameter(np.ones(3), dtype="bf16"), "`dtype` must be 'bfloat16', of which uint16"),
    "shadow": (lambda: ol.Parameter(np.ones(3, np.float16), shadow=np.ones(3, np.float16)), "has 16 bits itself"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
    HALF.grad = None
