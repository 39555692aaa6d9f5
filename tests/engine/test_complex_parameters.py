"""Complex parameters: to a rule, two real numbers side by side; to everybody else, complex in parameter and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from optimlite.engine.whole_matrix import MatrixOptimizer
from support.bits import assert_same as assert_bits
from support.cases import CASES, Case
from support.helpers import refusals

DTYPES = [np.complex64, np.complex128]
TAKING = [case for case in CASES if case.optimizer.by_element]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def drawn(rng: np.random.Generator, *shape: int, dtype: Any = np.complex128) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape), dtype)


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype
    assert a.tobytes() == b.tobytes()


def parts(array: np.ndarray) -> np.ndarray:
    """The same memory as real numbers."""
    return array.view(array.real.dtype)


@pytest.mark.parametrize("case", TAKING, ids=lambda case: case.id)
def test_the_bits_are_those_of_the_real_and_imaginary_parts(case: Case, rng: np.random.Generator) -> None:
    if case.optimizer is ol.SparseAdam:
        pytest.skip("takes no dense gradients")
    z, w = drawn(rng, 7, 3, dtype=np.complex64), drawn(rng, 5)
    x, y = parts(z).copy(), parts(w).copy()
    ours, real = case.optimizer({"z": z, "w": w}, **case.options), case.optimizer({"z": x, "w": y}, **case.options)
    for _ in range(4):
        grads = {"z": drawn(rng, 7, 3, dtype=np.complex64), "w": drawn(rng, 5)}
        ours.step(grads=grads)
        real.step(grads={name: parts(g) for name, g in grads.items()})
    assert_same(parts(z), x)
    assert_same(parts(w), y)
    for name in ("z", "w"):
        for key, array in ours.state[name].items():
            if array.ndim:
                assert array.dtype == ours.state.find(name).dtype
                assert array.shape == ours.state.find(name).shape
                assert_same(parts(array), real.state[name][key])


LAYOUTS = {"C": lambda a: a, "Fortran": np.asfortranarray, "reversed": lambda a: a[::-1].copy()[::-1],
           "columns of more": lambda a: np.repeat(a, 2, axis=1)[:, ::2]}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(layout: str, dtype: Any, level: str, threads: None, rng: np.random.Generator) -> None:
    start, gradient = drawn(rng, 300, 70, dtype=dtype), drawn(rng, 300, 70, dtype=dtype)
    z, w = LAYOUTS[layout](start.copy()), start.copy()
    for array in (z, w):
        ol.Adam([array], lr=0.1).step(grads=[LAYOUTS[layout](gradient.copy())], grad_scale=0.5)
    assert_same(np.ascontiguousarray(z), w)


def test_what_is_around_a_step(rng: np.random.Generator) -> None:
    """Clipping by norm, zeroing, skipping, averages, slow weights, sharpness, sparse rows, single parameters, rows."""
    z, x = drawn(rng, 40, 3), np.empty((40, 6))
    x[...] = parts(z)
    ours, real = ([[a], ol.Lookahead(ol.SAM(ol.Adam([a], lr=0.1)), k=2), ol.Average([a], decay=0.9)] for a in (z, x))
    target = drawn(rng, 40, 3)
    for (params, opt, average), goal in ((ours, target), (real, parts(target))):
        for _ in range(5):
            opt.step(lambda p=params[0], goal=goal: (0.0, [2 * (p - goal)]), max_grad_norm=1.0, zero_grad=True)
            average.update()
        assert not opt.param_groups[0]["params"][0].grad.any()
        opt.base.step(grads=[np.full(goal.shape, np.nan, goal.dtype)], skip_nonfinite=True)
        assert opt.skipped_steps == 1
    assert_same(parts(z), x)
    assert_same(parts(ours[2].averages[0]), real[2].averages[0])
    assert ours[1].state[z]["slow"].dtype == np.complex128
    table, dense = drawn(rng, 9, 2), np.empty((9, 2), complex)
    dense[...] = table
    rows = ol.SparseGrad([5, 2, 5], drawn(rng, 3, 2))
    ol.SGD([table], lr=0.1).step(grads=[rows])
    ol.SGD([dense], lr=0.1).step(grads=[rows.to_dense(9)])
    assert_same(table, dense)
    opt = ol.Adam({"t": table}, lr=0.1)
    opt.step_parameter("t", drawn(rng, 9, 2), max_grad_norm=1.0)
    grown = opt.replace("t", drawn(rng, 3, 2), rows=[8, -1, 0])
    assert opt.state[grown]["exp_avg_sq"][1].tolist() == [0, 0]
    assert opt.memory().state["exp_avg"] == 3 * 2 * 16


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file(dtype: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    z, gradient = drawn(rng, 50, dtype=dtype), drawn(rng, 50, dtype=dtype)
    opt = ol.Adam({"z": z}, lr=0.1)
    opt.step(grads={"z": gradient})
    ol.save(tmp_path / "run", model={"z": z}, optimizer=opt)
    w = np.zeros_like(z)
    resumed = ol.Adam({"z": w}, lr=0.1)
    ol.restore(tmp_path / "run", model={"z": w}, optimizer=resumed)
    for one in (opt, resumed):
        one.step(grads={"z": gradient})
    assert_same(z, w)


def test_a_scalar_and_what_a_parameter_is_in_expressions() -> None:
    p = ol.Parameter(np.array(1 + 2j))
    p.grad = 2j
    ol.SGD([p], lr=0.5).step()
    p.grad = 2.0
    ol.SGD([p], lr=0.5).step()
    assert complex(p) == 1j
    assert abs(p) == 1
    assert p.imag == 1
    p.accumulate_grad(np.array(1j))
    p.accumulate_grad(np.array(1.0 + 0j))
    assert p.grad == 3 + 1j                      # the first two came on top of what was there


def test_norms_are_those_of_magnitudes() -> None:
    g = np.array([3 + 4j, 0, -12j], np.complex64)
    assert [ol.get_total_norm([g], p) for p in (1, 2, np.inf)] == [17, 13, 12]
    assert ol.clip_grad_norm_([g], 6.5) == 13
    assert np.allclose(g, [1.5 + 2j, 0, -6j])
    strided = np.full((2, 2), np.inf + 1j)[:, 0]
    ol.clip_grads_with_norm_([strided], 1.0, 2.0)
    assert np.isinf(strided.real).all()
    assert np.allclose(strided.imag, 0.5)


def refuse_value() -> None:
    z = np.ones(2, complex)
    ol.SGD({"z": z}, lr=1).step(grads={"z": z.copy()}, max_grad_value=1.0)


def assigned(parameter: Any, gradient: Any) -> Any:
    return lambda: setattr(ol.Parameter(parameter, "W"), "grad", gradient)


Z = np.ones(4, complex)
test_refused = refusals({
    "long": (lambda: ol.Parameter(np.ones(3, np.clongdouble)), r"use a.astype\(np.complex128\), and let the model"),
    "byte order": (lambda: ol.Parameter(np.ones(3, ">c8")), r"native byte order, got >c8; use a.astype\(np.complex64"),
    "real gradient": (assigned(Z, np.ones(4)), r"'W' is float64 but the .* complex128; use grad.astype\(np.complex128"),
    "wide gradient": (assigned(Z.astype(np.complex64), Z), r"astype\(np.complex64\), or complex64 data: NumPy"),
    "of a real one": (assigned(np.ones(4), Z), r"use grad.view\(np.float64\) if the parameter is such a view of "
                                               r"complex numbers, grad.real if it is real"),
    "by value": (refuse_value, "`max_grad_value` can't clip complex gradients, which have no order, got one of 'z'"),
    "by value, in place": (lambda: ol.clip_grad_value_([Z.copy()], 1.0), "no order .* use clip_grad_norm_"),
    "int8": (lambda: ol.Adam({"z": Z.copy()}, state_dtype="int8"), "`state_dtype` can't be had for complex .* 'int8'"),
    "history": (lambda: ol.LBFGS([Z.copy()], history_dtype="bfloat16"), "`history_dtype` can't be had with complex"),
    "bounds": (lambda: ol.LBFGS({"z": Z.copy()}, bounds=(0, 1)), "`bounds` of 'z' must be None, for it is complex"),
})


@pytest.mark.parametrize("kind", [ol.Adafactor, ol.AdamP, ol.AdamMini, ol.Muon, ol.SOAP, ol.Shampoo])
def test_methods_of_rows_and_matrices_refuse_them(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} takes no complex parameters, .* for 'z'; use another"):
        kind({"z": np.ones((3, 3), complex)})
    assert issubclass(kind, MatrixOptimizer) or kind.line_states


def test_state_of_the_other_kind_of_numbers_is_refused() -> None:
    z, x = np.ones(2, complex), np.ones(2)
    ours, real = ol.Adam({"p": z}), ol.Adam({"p": x})
    ours.step(grads={"p": z.copy()})
    real.step(grads={"p": x.copy()})
    for one, other in ((ours, real), (real, ours)):
        with pytest.raises(ValueError, match=r"state\['p'\]\['exp_avg'\] is .*, which isn't cast to"):
            one.load_state_dict(other.state_dict())


@pytest.mark.parametrize("case", TAKING, ids=lambda case: case.id)
def test_the_twin_has_the_same_bits(case: Case) -> None:
    def optimizer() -> ol.Optimizer:
        rng, (single, double) = np.random.default_rng(0), DTYPES
        arrays = [drawn(rng, 7, 3, dtype=single), np.asfortranarray(drawn(rng, 40, 30)), drawn(rng, dtype=single)]
        return case.optimizer([*arrays, np.asfortranarray(drawn(rng, 2, 3, 4, dtype=single)), np.empty((0, 2), double)],
                              **case.options)

    one, other = optimizer(), optimizer()
    for step in range(2):
        for opt, act in ((one, one.step), (other, lambda **options: reference.step(other, **options))):
            rng = np.random.default_rng(step)
            for p in opt._parameters():
                gradient = drawn(rng, *p.shape, dtype=p.dtype)
                if case.optimizer is ol.SparseAdam:
                    gradient = ol.SparseGrad([1, 0, 1], drawn(rng, 3, *p.shape[1:], dtype=p.dtype)) if p.size else None
                p.grad = gradient if p.ndim or case.optimizer is not ol.SparseAdam else None
            act(max_grad_norm=1.0)
        assert one.last_grad_norm == other.last_grad_norm
        assert_bits(one, other)


def test_the_twin_goes_back_to_slow_weights(rng: np.random.Generator) -> None:
    z = drawn(rng, 7, 3)
    one, other = (ol.Lookahead(ol.Adam({"z": z.copy()}, lr=0.1), k=2) for _ in range(2))
    for _ in range(4):
        g = drawn(rng, 7, 3)
        one.step(grads={"z": g})
        other.base._assign({"z": g})
        reference.step(other.base)
    [p], [q] = one._parameters(), other._parameters()
    assert_same(p.data, q.data)
    assert_same(one.state[p]["slow"], other.state[q]["slow"])
