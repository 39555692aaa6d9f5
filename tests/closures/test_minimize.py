"""`minimize` as scipy's is called: results, names of methods and options, limits, callbacks, the inverse Hessian."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.closures import rosenbrock


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
def test_the_result_has_scipys_fields(method: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    x0 = np.full(6, -1.2)
    ours = ol.minimize(rosenbrock, x0, method=method, tol=1e-8)
    theirs = optimize.minimize(rosenbrock, x0, jac=True, method={"lbfgs": "L-BFGS-B", "cg": "CG"}[method])
    fields = {"x", "fun", "jac", "nit", "nfev", "njev", "success", "status", "message", "state"}
    assert set(ours) == fields | ({"hess_inv"} if method == "lbfgs" else set())
    assert set(ours) - {"state"} <= set(theirs)
    assert (x0 == -1.2).all()
    assert ours.success
    assert ours.status == 0
    loss, gradient = rosenbrock(ours.x)
    assert ours.fun == loss < 1e-7
    assert (ours.jac == gradient).all()
    assert "small enough" in ours.message or "little enough" in ours.message
    assert "nfev: " in repr(ours)
    with pytest.raises(AttributeError, match="no `hess`"):
        _ = ours.hess


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
def test_float32_is_not_cast(method: str) -> None:
    """scipy#4873"""
    seen = set()

    def fun(x: np.ndarray) -> tuple[np.float32, np.ndarray]:
        seen.add(x.dtype)
        loss, gradient = rosenbrock(x)
        return np.float32(loss), gradient

    result = ol.minimize(fun, np.full(4, -1.2, np.float32), method=method, options={"gtol": 1e-3})
    assert seen == {np.dtype(np.float32)}
    assert result.x.dtype == result.jac.dtype == np.float32
    assert result.success
    assert abs(result.x - 1).max() < 1e-2


def test_shapes_args_and_a_separate_gradient() -> None:
    target = np.arange(12.0).reshape(3, 4)
    result = ol.minimize(lambda x, b: ((x - b) ** 2).sum(), np.zeros((3, 4)), args=(target,),
                         jac=lambda x, b: 2 * (x - b))
    np.testing.assert_allclose(result.x, target)
    assert result.jac.shape == (3, 4)
    assert ol.minimize(lambda x: (x * x, 2 * x), 3.0).x == pytest.approx(0)
    assert ol.minimize(lambda x: (float(x @ x), 2 * x), [1, 2, 3]).x.dtype == np.float64


def test_fun_can_not_alter_x() -> None:
    def fun(x: np.ndarray) -> Any:
        x += 1
        return 0.0, x

    with pytest.raises(ValueError, match="read-only"):
        ol.minimize(fun, np.zeros(2))


def test_callbacks() -> None:
    xs: list[np.ndarray] = []
    ol.minimize(rosenbrock, np.full(3, -1.2), callback=xs.append)
    assert len(xs) > 3
    assert not np.shares_memory(xs[0], xs[1])
    losses = []

    def stop(intermediate_result: Any) -> None:
        assert intermediate_result.fun == rosenbrock(intermediate_result.x)[0]
        losses.append(intermediate_result.fun)
        if len(losses) == 4:
            raise StopIteration

    result = ol.minimize(rosenbrock, np.full(3, -1.2), callback=stop)
    assert (result.nit, result.fun, result.success) == (4, losses[-1], False)
    assert losses == sorted(losses, reverse=True)


def test_limits() -> None:
    """scipy#7854, #8372: maxiter and maxfun are what they say."""
    for limit in range(1, 8):
        assert ol.minimize(rosenbrock, np.full(3, -1.2), options={"maxiter": limit}).nit == limit
        assert ol.minimize(rosenbrock, np.full(3, -1.2), options={"maxfun": limit}).nfev <= limit


@pytest.mark.parametrize("method", [None, "L-BFGS-B", "l-bfgs-b", "LBFGS", "lbfgs", "CG", "cg", "Cg"])
def test_names_of_methods(method: Any) -> None:
    result = ol.minimize(rosenbrock, np.zeros(4), method=method)
    assert result.success
    assert ("hess_inv" in result) == (method is None or method.lower() != "cg")


def test_a_result_is_one_of_scipys_too() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    seen = []
    result = ol.minimize(rosenbrock, np.zeros(3), callback=lambda intermediate_result: seen.append(intermediate_result))
    assert isinstance(result, optimize.OptimizeResult)
    assert isinstance(seen[0], optimize.OptimizeResult)
    again = pickle.loads(pickle.dumps(result))
    assert same_bits(again.x, result.x)
    assert set(again) == set(result)


def test_args_are_a_tuple_or_one_value() -> None:
    target = np.arange(3.0)
    for args in ((target,), target, [target]):
        result = ol.minimize(lambda x, t: (float(((x - t) ** 2).sum()), 2 * (x - np.asarray(t).ravel())), np.zeros(3),
                             args)
        np.testing.assert_allclose(result.x, target, atol=1e-6)


def test_options_by_scipys_names(capsys: pytest.CaptureFixture[str]) -> None:
    start = np.full(6, -1.2)
    exact = ol.minimize(rosenbrock, start, options={"c1": 1e-3, "c2": 0.1, "maxcor": 3, "ftol": 0, "gtol": 1e-8})
    assert exact.success
    assert abs(exact.jac).max() <= 1e-8
    assert capsys.readouterr().out == ""
    loose = ol.minimize(rosenbrock, start, options={"ftol": 1e-2, "disp": True, "iprint": -1, "maxls": 30})
    assert loose.nfev < exact.nfev
    assert "loss fell little enough" in capsys.readouterr().out
    assert ol.minimize(rosenbrock, start, method="cg", options={"norm": np.inf, "return_all": False}).success
    assert ol.minimize(rosenbrock, start, options={"maxiter": 3.7}).nit == 3
    with pytest.warns(RuntimeWarning, match="does not use Hessian information"):
        ol.minimize(rosenbrock, start, hess=lambda x: x)
    with pytest.raises(ValueError, match="`constraints` must be empty"):
        ol.minimize(rosenbrock, start, constraints={"type": "eq"})


def test_maxls_ends_a_search() -> None:
    calls = []

    def uphill(x: np.ndarray) -> Any:            # its gradient points the wrong way
        calls.append(x[0])
        return float(x @ x), -2 * x

    ol.minimize(uphill, np.ones(1), options={"maxls": 3})
    assert len(calls) == 1 + 3


def test_tol_is_both_tolerances() -> None:
    results = [ol.minimize(rosenbrock, np.full(6, -1.2), tol=tol) for tol in (1e-1, 1e-4, 1e-10)]
    assert results[0].nfev < results[1].nfev < results[2].nfev


@pytest.mark.parametrize(("status", "options"), [(0, {}), (1, {"maxiter": 3}), (1, {"maxfun": 5})])
def test_status(status: int, options: dict[str, Any]) -> None:
    assert ol.minimize(rosenbrock, np.zeros(3), options=options).status == status


def test_status_of_other_ends() -> None:
    assert ol.minimize(lambda x: (np.nan, x), np.ones(2)).status == 3
    assert ol.minimize(lambda x: (float(x @ x), -x), np.ones(2)).status == 2

    def stop(x: Any) -> None:
        raise StopIteration

    result = ol.minimize(rosenbrock, np.zeros(3), callback=stop)
    assert (result.status, result.nit, result.success) == (99, 1, False)
    assert result.message == "`callback` raised `StopIteration`"


@pytest.mark.parametrize("bounds", [None, (None, 0.5)])
def test_the_inverse_hessian_is_an_operator(bounds: Any) -> None:
    a = np.array([[4.0, 1, 0], [1, 3, 0], [0, 0, 2]])
    result = ol.minimize(lambda x: (float(x @ a @ x / 2 - x.sum()), a @ x - 1), np.array([3.0, -2, 1]), bounds=bounds,
                         options={"gtol": 1e-10, "ftol": 0})
    h = result.hess_inv
    assert h.shape == (3, 3)
    np.testing.assert_allclose(h.todense(), h.todense().T, atol=1e-12)
    np.testing.assert_allclose(h @ np.eye(3), h.todense())
    np.testing.assert_allclose(h(np.ones(3)), h.todense() @ np.ones(3))
    if bounds is None:                           # secant equations hold, and nearly all of it is known here
        np.testing.assert_allclose(h @ h.yk[-1], h.sk[-1], atol=1e-10)
        np.testing.assert_allclose(h.todense(), np.linalg.inv(a), atol=0.1)
    sparse = pytest.importorskip("scipy.sparse.linalg")
    np.testing.assert_allclose(sparse.aslinearoperator(h) @ np.ones(3), h @ np.ones(3))
