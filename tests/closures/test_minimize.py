"""`minimize`: scipy's arguments and result fields, float32 kept, bounds, callbacks, errors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimlite as ol
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


def test_differences_of_an_array_in_fortran_order() -> None:
    x0 = np.zeros((2, 3), order="F")
    result = ol.minimize(lambda x: ((x - np.arange(6).reshape(2, 3)) ** 2).sum(), x0)
    np.testing.assert_allclose(result.x, np.arange(6).reshape(2, 3), atol=1e-6)


def test_fun_can_not_alter_x() -> None:
    def fun(x: np.ndarray) -> Any:
        x += 1
        return 0.0, x

    with pytest.raises(ValueError, match="read-only"):
        ol.minimize(fun, np.zeros(2))


@pytest.mark.parametrize("bounds", [
    (0.5, 2.0), [(0.5, 2.0)] * 3, [(0.5, None), (0.5, 2), (0.5, 2)],
    SimpleNamespace(lb=np.full(3, 0.5), ub=np.full(3, 2.0)), SimpleNamespace(lb=0.5, ub=2.0)])
def test_bounds(bounds: Any) -> None:
    result = ol.minimize(lambda x: (float(((x - [0, 1, 3]) ** 2).sum()), 2 * (x - [0, 1, 3])), np.full(3, 5.0),
                         bounds=bounds)
    assert result.success
    np.testing.assert_allclose(result.x, [0.5, 1, 2], atol=1e-6)


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


@pytest.mark.parametrize(("arguments", "message"), [
    ({"method": "bfgs"}, "`method` must be one of 'lbfgs', 'cg', 'newton-cg', got 'bfgs'"),
    ({"jac": "4-point"}, "`jac` must be True"), ({"jac": 1.0}, "`jac` must be True"),
    ({"options": {"max_iters": 3}}, "`options` has no `max_iters`; did you mean `max_iter`?"),
    ({"bounds": [(0, 1)] * 2}, "one pair for each of 3 elements"),
    ({"bounds": (2, 1)}, "low <= high"),
])
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message.replace("?", "\\?")):
        ol.minimize(rosenbrock, np.zeros(3), **arguments)
