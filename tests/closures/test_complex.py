"""Closure methods over complex unknowns: their bits are those over the real and imaginary parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol


def drawn(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


A, TRUTH = drawn(0, 30, 12), drawn(1, 12)


def least_squares(z: np.ndarray) -> tuple[float, np.ndarray]:
    error = A @ z - A @ TRUTH
    return float(np.vdot(error, error).real), 2 * A.conj().T @ error


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
def test_least_squares(method: str) -> None:
    found = ol.minimize(least_squares, np.zeros(12, complex), method=method)

    def of_parts(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = least_squares(x.view(complex))
        return loss, gradient.view(float)

    real = ol.minimize(of_parts, np.zeros(24), method=method)
    assert found.success
    assert found.nfev == real.nfev
    assert np.array_equal(found.x.view(float), real.x)
    assert abs(found.x - TRUTH).max() < 1e-5
    assert found.jac.dtype == complex
    if method == "lbfgs":
        v = np.arange(24.0)
        assert np.array_equal(found.hess_inv @ v, real.hess_inv @ v)
    single = ol.minimize(lambda z: least_squares(z), np.zeros(12, np.complex64), method=method)
    assert single.x.dtype == np.complex64
    assert abs(single.x - TRUTH).max() < 1e-5


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
def test_phase_retrieval(method: str) -> None:
    """From |A z|^2 alone, from the spectral start; the phase of the whole can't be known."""
    n, m = 16, 128
    a, truth = drawn(2, m, n), drawn(3, n)
    seen = abs(a @ truth) ** 2

    def misfit(z: np.ndarray) -> tuple[float, np.ndarray]:
        field = a @ z
        off = abs(field) ** 2 - seen
        return float((off ** 2).mean()), 4 * a.conj().T @ (off * field) / m

    start = np.linalg.eigh((a.conj().T * seen) @ a)[1][:, -1] * np.sqrt(seen.mean() / 2)
    found = ol.minimize(misfit, start, method=method, tol=1e-12, options={"maxiter": 2000})
    overlap = np.vdot(found.x, truth)
    assert found.success
    np.testing.assert_allclose(found.x * overlap / abs(overlap), truth, atol=1e-6)


@pytest.mark.parametrize("scheme", ["2-point", "3-point"])
def test_differences(scheme: str) -> None:
    found = ol.minimize(lambda z: least_squares(z)[0], np.zeros(12, complex), jac=scheme)
    assert found.success
    assert abs(found.x - TRUTH).max() < 1e-4


def test_differences_of_arrays_in_fortran_order() -> None:
    goal = np.arange(6.0).reshape(2, 3)
    found = ol.minimize(lambda x: ((x - goal) ** 2).sum(), np.asfortranarray(np.zeros((2, 3))))
    np.testing.assert_allclose(found.x, goal, atol=1e-4)


def test_beside_real_ones_which_have_bounds() -> None:
    def fun(p: Any) -> tuple[float, Any]:
        loss, gradient = least_squares(p["z"])
        return loss + p["a"] @ p["a"], {"z": gradient, "a": 2 * p["a"]}

    found = ol.minimize(fun, {"z": np.zeros(12, complex), "a": np.ones(3)}, bounds={"z": None, "a": (0.5, 2)})
    assert found.success
    assert found.x["a"].tolist() == [0.5] * 3
    assert abs(found.x["z"] - TRUTH).max() < 1e-4


def test_own_products_and_a_resumed_run() -> None:
    inner = ol.minimize(least_squares, np.zeros(12, complex), inner=lambda u, v: np.vdot(u, v).real, h0=0.01)
    assert inner.success
    assert abs(inner.x - TRUTH).max() < 1e-4
    z = np.zeros(12, complex)
    opt = ol.LBFGS({"z": z}, max_iter=4)
    opt.step(lambda: (least_squares(z)[0], {"z": least_squares(z)[1]}))
    w = z.copy()
    resumed = ol.LBFGS({"z": w}, max_iter=4)
    resumed.load_state_dict(opt.state_dict())
    opt.step(lambda: (least_squares(z)[0], {"z": least_squares(z)[1]}))
    resumed.step(lambda: (least_squares(w)[0], {"z": least_squares(w)[1]}))
    assert np.array_equal(z, w)
    assert opt.state["z"]["s_0"].dtype == complex


def test_a_real_unknown_needs_a_real_gradient() -> None:
    with pytest.raises(TypeError, match=r"use gradient.view\(np.float64\) if x is such a view of complex numbers"):
        ol.minimize(lambda x: (1.0, np.ones(4, complex)), np.ones(4))


def test_a_gradient_that_is_the_conjugate() -> None:
    def fun(p: Any, conjugate: bool) -> tuple[float, Any]:
        loss, gradient = least_squares(p["z"])
        return loss, {"z": gradient.conj() if conjugate else gradient}

    assert ol.check_grad(lambda p: fun(p, False), {"z": drawn(4, 12)})
    wrong = ol.check_grad(lambda p: fun(p, True), {"z": drawn(4, 12)})
    assert not wrong
    assert wrong.tensors[0].worst[1] == 1
    assert abs(wrong.tensors[0].given + wrong.tensors[0].expected) < 1e-3
