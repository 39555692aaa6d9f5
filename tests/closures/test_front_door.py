"""What people bring to `minimize`: nestings, scipy's calls, gradients by differences, and runs to go on with."""

from __future__ import annotations

import pickle
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.closures import interrupted, rosenbrock, square

Pair = namedtuple("Pair", "u v")


def loss_alone(x: np.ndarray) -> float:
    return rosenbrock(x)[0]


# Nestings ------------------------------------------------------------------------------------------------------------

def test_unknowns_in_any_nesting() -> None:
    x0 = {"model": [np.ones((2, 3), np.float32), Pair(np.zeros(4), 2.0)], "shift": 1}
    seen = []

    def fun(x: Any) -> Any:
        seen.append(x)
        a, (b, c), d = x["model"][0], x["model"][1], x["shift"]
        loss = float(((a - 1) ** 2).sum() + ((b - 2) ** 2).sum() + (c - 3) ** 2 + (d - 4) ** 2)
        return loss, {"shift": 2 * (d - 4), "model": [2 * (a - 1), (2 * (b - 2), 2 * (c - 3))]}

    result = ol.minimize(fun, x0, bounds={"model": [None, Pair((None, 1.5), (0, 2.5))], "shift": None})
    assert result.success
    for found in (result.x, result.jac, seen[0]):
        assert isinstance(found["model"][1], Pair)
        assert (found["model"][0].dtype, found["model"][1].u.dtype) == (np.float32, np.float64)
        assert found["shift"].shape == ()
    (a, (b, c)), d = result.x["model"], result.x["shift"]
    assert (a == 1).all()
    assert (b == 1.5).all()
    assert c == 2.5
    assert d == pytest.approx(4)
    assert (x0["model"][0] == 1).all()           # type: ignore[index]
    assert all(same is seen[0] for same in seen)


@pytest.mark.parametrize("bounds", [
    (0.5, 2), SimpleNamespace(lb=0.5, ub=2), SimpleNamespace(lb={"a": 0.5, "b": np.full(2, 0.5)}, ub={"a": 2, "b": 2}),
    {"a": (0.5, 2), "b": [(0.5, 2), (0.5, None)]}, {"a": SimpleNamespace(lb=0.5, ub=2), "b": np.array([[0.5, 2]] * 2)},
    ({"a": 0.5, "b": 0.5}, None), ({"a": 0.5, "b": np.full(2, 0.5)}, {"a": 2, "b": 3}),
])
def test_bounds_of_a_nesting(bounds: Any) -> None:
    result = ol.minimize(lambda x: (float((x["a"]**2).sum() + (x["b"]**2).sum()), {"a": 2 * x["a"], "b": 2 * x["b"]}),
                         {"a": np.ones((2, 2)), "b": np.ones(2)}, bounds=bounds)
    assert (result.x["a"] == 0.5).all()
    assert (result.x["b"] == 0.5).all()


@pytest.mark.parametrize("bounds", [
    ([(0.5, 2)] * 3, [(0.5, 2)] * 3), [[(0.5, 2)] * 3, (0.5, 2)], ((0.5, 2), [(0.5, None)] * 3), (0.5, 2),
    (np.array([[0.5, 2]] * 3), [(0.5, 2)] * 3), SimpleNamespace(lb=[0.5, 0.5], ub=[np.full(3, 2), 2])])
@pytest.mark.parametrize("kind", [list, tuple])
def test_bounds_of_a_list_of_two(kind: Any, bounds: Any) -> None:
    """A tuple of two lists is what the unknowns are, too, not (low, high)."""
    result = ol.minimize(lambda x: (float((x[0]**2).sum() + (x[1]**2).sum()), [2 * x[0], 2 * x[1]]),
                         kind([np.ones(3), np.ones(3)]), bounds=bounds)
    assert all((x == 0.5).all() for x in result.x)


@pytest.mark.parametrize("x0", [[1, 2], (1.0, 2.0), [np.float64(1), 2], [np.array(1.0), np.array(2.0)], range(1, 3)])
def test_numbers_in_a_list_are_one_array(x0: Any) -> None:
    assert ol.minimize(square, x0).x.shape == (2,)


@pytest.mark.parametrize(("gradient", "message"), [
    ({"a": np.ones(2)}, "the gradient must be nested as `x0` is, a dict with the keys \\['a', 'b'\\], got the keys"),
    ({"a": np.ones(2), "b": [np.ones(1)]}, "a list of 2, got 1 items"),
    ({"a": np.ones(3), "b": [1, 1]}, "the gradient of 'a' must have one element for each of x's 2, got shape"),
    ({"a": np.ones(2), "b": [1, 1j]}, "the gradient of 'b.1' must be an array of real numbers"),
    (np.ones(4), "nested as `x0` is"),
])
def test_gradients_of_a_nesting(gradient: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.minimize(lambda x: (1.0, gradient), {"a": np.ones(2), "b": [np.ones(1), np.ones(1)]}, jac=True)


def test_what_is_wrong_in_a_nesting_is_named() -> None:
    with pytest.raises(TypeError, match=r"`x0` of 'a\.0' must be"):
        ol.minimize(square, {"a": [np.array(["one"])]})
    with pytest.raises(ValueError, match="`bounds` of 'a' must be a pair, or one pair for each of 2 elements"):
        ol.minimize(square, {"a": np.ones(2)}, bounds={"a": [(0, 1)]})


# As scipy is called --------------------------------------------------------------------------------------------------

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


# Gradients by differences --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("jac", [None, False, "2-point", "3-point"])
@pytest.mark.parametrize("method", ["lbfgs", "cg"])
def test_without_a_gradient(method: str, jac: Any) -> None:
    calls = []

    def fun(x: np.ndarray) -> float:
        calls.append(1)
        return loss_alone(x)

    result = ol.minimize(fun, np.full(3, -1.2), method=method, jac=jac)
    np.testing.assert_allclose(result.x, 1, atol=1e-3)
    assert result.nfev == len(calls) == result.njev * (7 if jac == "3-point" else 4)


@pytest.mark.parametrize(("jac", "error"), [("2-point", 1e-6), ("3-point", 1e-8)])
def test_differences_keep_to_the_bounds_and_are_right_there(jac: str, error: float) -> None:
    """One-sided beside a bound, shorter where there is no room, and nothing for what can't move."""
    low, high = np.array([1.0, -5, 0.3, 2, -1]), np.array([3.0, -1, 0.3, 2 + 1e-5, 1])
    x, outside = np.array([1.0, -1, 0.3, 2 + 4e-6, 0]), []

    def fun(x: np.ndarray) -> float:
        outside.append(bool((x < low).any() or (x > high).any()))
        return float(np.exp(x).sum())

    ol.minimize(fun, x, jac=jac, bounds=(low, high))
    result = ol.minimize(fun, x, jac=jac, bounds=(low, high), options={"gtol": 1e9})
    assert not any(outside)
    assert np.isnan(result.jac[2])
    moves = [0, 1, 3, 4]
    np.testing.assert_allclose(result.jac[moves], np.exp(x)[moves], rtol=error)


@pytest.mark.parametrize(("jac", "error"), [("2-point", 1e-3), ("3-point", 2e-4)])
def test_differences_in_float32(jac: str, error: float) -> None:
    x = np.array([0.5, -2, 30], np.float32)
    result = ol.minimize(lambda x: float((np.sin(x.astype(np.float64))).sum()), x, jac=jac, options={"gtol": 1e9})
    assert result.jac.dtype == np.float32
    np.testing.assert_allclose(result.jac, np.cos(x), atol=error * 30)


@pytest.mark.parametrize("workers", [2, -1, map])
def test_differences_side_by_side_are_the_same(workers: Any) -> None:
    one = ol.minimize(loss_alone, np.full(5, -1.2), jac="3-point")
    other = ol.minimize(loss_alone, np.full(5, -1.2), jac="3-point", workers=workers)
    assert same_bits(one.x, other.x)
    assert one.nfev == other.nfev


def test_differences_of_a_nesting() -> None:
    result = ol.minimize(lambda x: float((x["a"] - 1)**2 + ((x["b"] - 2)**2).sum()), {"a": 0.0, "b": np.zeros((2, 2))})
    np.testing.assert_allclose(result.x["a"], 1, atol=1e-5)
    np.testing.assert_allclose(result.x["b"], 2, atol=1e-5)


def test_many_differences_warn_and_count() -> None:
    with pytest.warns(UserWarning, match="a gradient by differences takes 1,001 evaluations of `fun`; give the grad"):
        result = ol.minimize(lambda x: float(x @ x), np.ones(1001), options={"maxfun": 3500})
    assert result.nfev <= 3500


@pytest.mark.parametrize("workers", [0, "two", 1.5, True, -2])
def test_bad_workers(workers: Any) -> None:
    with pytest.raises(ValueError, match="`workers` must be a number of threads, -1 for all CPUs, or a function"):
        ol.minimize(loss_alone, np.ones(3), workers=workers)


# Going on ------------------------------------------------------------------------------------------------------------

RUNS = [("lbfgs", {}), ("cg", {}), ("cg", {"beta": "hager-zhang"}), ("lbfgs", {"line_search_fn": "strong_wolfe"}),
        ("lbfgs", {"line_search_fn": "hager_zhang", "maxcor": 3, "c2": 0.5})]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("method", "options"), RUNS)
@pytest.mark.parametrize("bounds", [None, (-1.5, 0.7)])
@pytest.mark.parametrize("saved", [False, True])
def test_a_run_goes_on_with_the_same_bits(
        method: str, options: dict[str, Any], bounds: Any, dtype: Any, saved: bool, tmp_path: Path) -> None:
    x0 = {"a": np.full(4, -1.2, dtype), "b": [np.zeros(2, dtype)]}

    def fun(x: Any) -> Any:
        loss, g = rosenbrock(np.concatenate([x["a"], x["b"][0]]).astype(np.float64))
        return loss, {"a": g[:4], "b": [g[4:]]}

    whole = ol.minimize(fun, x0, method=method, options={**options, "maxiter": 40}, bounds=bounds)
    part = ol.minimize(fun, x0, method=method, options={**options, "maxiter": 7}, bounds=bounds)
    state = part.state
    if saved:
        ol.save(tmp_path / "run", run=state)
        state = ol.load(tmp_path / "run")["run"]
    for _ in range(2):                           # a state is read only
        rest = ol.minimize(fun, state=state, options={"maxiter": 33})
        assert rest.nit == whole.nit - 7
        assert rest.status == whole.status
        assert same_bits(rest.x["a"], whole.x["a"])
        assert same_bits(rest.x["b"][0], whole.x["b"][0])
        assert rest.fun == whole.fun


@pytest.mark.parametrize(("method", "options"), RUNS)
@pytest.mark.parametrize("at", [1, 2, 3, 5, *range(8, 50, 5)])
def test_a_run_goes_on_after_an_interrupt(method: str, options: dict[str, Any], at: int) -> None:
    whole = ol.minimize(rosenbrock, np.full(4, -1.2), method=method, options={**options, "maxiter": 60})
    with pytest.raises(KeyboardInterrupt) as caught:
        ol.minimize(interrupted(rosenbrock, at), np.full(4, -1.2), method=method, options={**options, "maxiter": 60})
    rest = ol.minimize(rosenbrock, state=caught.value.state)         # type: ignore[attr-defined]
    assert same_bits(rest.x, whole.x)


@pytest.mark.parametrize(("method", "options"), RUNS)
def test_a_callback_sees_the_state(method: str, options: dict[str, Any]) -> None:
    states = []
    whole = ol.minimize(rosenbrock, np.full(4, -1.2), method=method, options=options,
                        callback=lambda intermediate_result: states.append(intermediate_result.state))
    assert len(states) == whole.nit
    for state in states[:-1:4]:
        assert same_bits(ol.minimize(rosenbrock, state=state).x, whole.x)


def test_what_is_no_state() -> None:
    with pytest.raises(TypeError, match="`state` must be the `state` of a result, of a callback's"):
        ol.minimize(rosenbrock, state={"x": 1})
    state = ol.minimize(rosenbrock, np.zeros(3), options={"maxiter": 2}).state
    with pytest.raises(ValueError, match="`state` is one of method 'lbfgs', got method='CG'; leave it out"):
        ol.minimize(rosenbrock, state=state, method="CG")
