"""`minimize_batch`: the bits of each problem alone, the solutions of `minimize`, and the stops of each row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.batches import family, rosenbrock
from support.bits import same_bits

Array = np.ndarray


FIELDS = ("x", "fun", "jac", "nit", "nfev", "status")


@pytest.mark.parametrize("bounds", [None, (-0.5, 0.8)])
@pytest.mark.parametrize(("name", "n", "dtype"), [
    ("rosenbrock", 10, np.float64), ("rosenbrock", 3, np.float32), ("quadratic", 33, np.float64),
    ("quadratic", 1, np.float64)])
def test_a_row_has_the_bits_that_it_has_in_any_company(name: str, n: int, dtype: Any, bounds: Any) -> None:
    fun, X0, args, _ = family(name, 12, n, dtype)
    given: dict[str, Any] = {"bounds": bounds, "options": {"maxiter": 25}}
    every = ol.minimize_batch(fun, X0, args, **given)
    rng = np.random.default_rng(n)
    for count in (1, 2, 7):
        rows = rng.permutation(12)[:count]
        some = ol.minimize_batch(fun, X0[rows], tuple(a[rows] for a in args), **given)
        for field in FIELDS:
            assert same_bits(some[field], every[field][rows]), field
        assert some.message == [every.message[row] for row in rows]


@pytest.mark.parametrize(("name", "n", "bounds"), [
    ("rosenbrock", 10, None), ("quadratic", 8, None), ("logistic", 5, None), ("quadratic", 6, (-0.5, 0.8)),
    ("logistic", 4, (None, 0.3))])
def test_rows_end_where_minimize_does(name: str, n: int, bounds: Any) -> None:
    fun, X0, args, _ = family(name, 12, n)
    found = ol.minimize_batch(fun, X0, args, bounds=bounds, tol=1e-9)
    assert found.success.all()
    evaluations = 0
    for row in range(12):
        def alone(x: Array, row: int = row) -> tuple[float, Array]:
            loss, gradient = fun(x[None], *(a[row:row + 1] for a in args))
            return float(loss[0]), gradient[0]

        one = ol.minimize(alone, X0[row], bounds=bounds, tol=1e-9)
        assert found.fun[row] == pytest.approx(one.fun, abs=1e-6)
        np.testing.assert_allclose(found.x[row], one.x, atol=1e-3)
        assert (found.fun[row], *found.jac[row]) == (alone(found.x[row])[0], *alone(found.x[row])[1])
        evaluations += one.nfev
    assert found.nfev.sum() <= 1.2 * evaluations
    if bounds is not None:
        low, high = (np.inf * sign if limit is None else limit for sign, limit in zip((-1, 1), bounds, strict=True))
        assert ((found.x >= low) & (found.x <= high)).all()


def test_fun_is_told_which_problems_run() -> None:
    fun, X0, args, _ = family("quadratic", 30, 4)
    seen: list[Array] = []

    def watched(X: Array, rows: Array, *rest: Array) -> tuple[Array, Array]:
        seen.append(rows)
        return fun(X, *(a[rows] for a in args))

    found = ol.minimize_batch(watched, X0, np.arange(30))
    assert [len(rows) for rows in seen] == sorted((len(rows) for rows in seen), reverse=True)
    assert len(seen[-1]) < 30
    assert (np.bincount(np.concatenate(seen)) == found.nfev).all()
    assert len(seen) == found.nfev.max()

    shapes = set()

    def compiled(X: Array, *rest: Array) -> tuple[Array, Array]:
        shapes.add(X.shape)
        return fun(X, *rest)

    whole = ol.minimize_batch(compiled, X0, args, whole=True)
    assert shapes == {X0.shape}
    assert all(same_bits(whole[field], found[field]) for field in FIELDS)


def test_each_row_stops_for_its_own_reason() -> None:
    def fun(X: Array, kind: Array) -> tuple[Array, Array]:
        k = kind[:, 0]
        losses = np.select([k == 0, k == 1, k == 2], [(X * X).sum(axis=1), np.full(len(X), np.nan), X.sum(axis=1)],
                           1e3 * (X * X).sum(axis=1))
        return losses, np.select([kind == 0, kind == 1, kind == 2], [2 * X, X, np.ones_like(X)], 2e3 * X)

    kinds = np.array([0, 1, 2, 3, 0])
    X0 = np.outer([1.0, 1.0, 1.0, 1.0, 0.0], np.ones(3))
    found = ol.minimize_batch(fun, X0, (np.repeat(kinds[:, None], 3, axis=1),), options={"maxiter": 12})
    assert found.status.tolist() == [0, 3, 1, 0, 0]
    assert found.success.tolist() == [True, False, False, True, True]
    assert "gradient is small enough" in found.message[0]
    assert found.message[1] == "the loss (nan) or its gradient isn't finite at the start"
    assert found.message[2] == "max_eval 120 is reached"
    assert (found.nit[4], found.nfev[4]) == (0, 1)
    assert (found.x[1] == 1).all()
    assert (found.nit <= 12).all()


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_limits_hold_for_each_row(limit: int) -> None:
    fun, X0, args, _ = family("rosenbrock", 8, 5)
    found = ol.minimize_batch(fun, X0, args, options={"maxfun": limit})
    assert (found.nfev == limit).all()
    assert (found.status == 1).all()
    assert (found.fun <= fun(X0, *args)[0]).all()
    assert (ol.minimize_batch(fun, X0, args, options={"maxiter": limit}).nit == limit).all()


@pytest.mark.parametrize("outside", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_counts_as_infinitely_high(outside: float, dtype: Any) -> None:
    def fun(X: Array) -> tuple[Array, Array]:        # sum x - log x, whose domain ends on the way
        with np.errstate(all="ignore"):
            loss = (X - np.log(X)).sum(axis=1)
            return np.where((X > 0).all(axis=1), loss, outside), 1 - 1 / X

    found = ol.minimize_batch(fun, np.array([[0.1, 50], [3, 4], [1e-3, 1]], dtype))
    assert found.x.dtype == dtype
    assert found.success.all()
    np.testing.assert_allclose(found.x, 1, atol=2e-3)


def test_float32_points_are_float32_and_limits_are_rounded_inwards() -> None:
    def fun(X: Array) -> tuple[Array, Array]:
        assert X.dtype == np.float32
        assert (X.astype(np.float64) <= 0.1).all()
        return ((X - 1) ** 2).sum(axis=1), 2 * (X - 1)

    found = ol.minimize_batch(fun, np.zeros((2, 3), np.float32), bounds=[(None, 0.1)] * 3)
    assert (found.x == np.nextafter(np.float32(0.1), np.float32(0))).all()
    assert found.x.dtype == found.jac.dtype == found.fun.dtype == np.float32
    assert found.success.all()


@pytest.mark.parametrize("n", [1, 3])
def test_losses_and_gradients_in_buffers_that_are_used_again(n: int) -> None:
    """Also where the buffer has a row for each unknown, and no copy would be needed to make that of it."""
    fun, X0, args, _ = family("quadratic", 12, n)
    losses, gradients = np.empty(12), np.empty((n, 12)).T

    def reusing(X: Array, *rest: Array) -> tuple[Array, Array]:
        losses[:len(X)], gradients[:len(X)] = fun(X, *rest)
        return losses[:len(X)], gradients[:len(X)]

    found, plain = (ol.minimize_batch(one, X0, args) for one in (reusing, fun))
    assert all(same_bits(found[field], plain[field]) for field in FIELDS)


@pytest.mark.parametrize(("k", "n"), [(1, 3), (12, 1), (12, 3)])
def test_fun_may_write_to_its_points_and_keep_them(k: int, n: int) -> None:
    rng = np.random.default_rng(n)
    goals, kept = rng.standard_normal((k, n)), list[tuple[Array, Array]]()

    def fun(x: Array, goal: Array) -> tuple[Array, Array]:
        kept.append((x, x - goal))
        x -= goal
        return (x**4).sum(1), 4 * x**3

    result = ol.minimize_batch(fun, np.zeros((k, n)), (goals,), options={"gtol": 1e-9, "ftol": 0})
    assert np.allclose(result.x, goals, atol=1e-2)
    assert all(same_bits(x, as_left) for x, as_left in kept)


def test_what_fun_returns_is_never_written_to() -> None:
    returned = []

    def fun(X: Array) -> tuple[Array, Array]:
        returned.append((X.sum(axis=1) ** 4, np.asfortranarray(4 * X.sum(axis=1, keepdims=True) ** 3 + 0 * X)))
        for array in returned[-1]:
            array.flags.writeable = False
        return returned[-1]

    assert ol.minimize_batch(fun, np.random.default_rng(0).standard_normal((40, 3))).success.all()


def test_a_callback_sees_all_rows_and_stops_those_it_names() -> None:
    fun, X0, args, _ = family("rosenbrock", 6, 4)
    seen = []

    def callback(intermediate_result: Any) -> Any:
        seen.append(intermediate_result)
        return (intermediate_result.nit >= 5) & (np.arange(6) < 3)

    found = ol.minimize_batch(fun, X0, args, callback=callback)
    assert found.status.tolist() == [99] * 3 + [0] * 3
    assert found.message[0] == "the callback asked to stop"
    assert seen[0].x.shape == (6, 4)
    assert seen[0].running.all()
    assert not seen[-1].running[:3].any()
    assert (np.diff([one.fun for one in seen], axis=0) <= 0).all()

    def stop(intermediate_result: Any) -> None:
        raise StopIteration

    assert (ol.minimize_batch(fun, X0, args, callback=stop).status == 99).all()


@pytest.mark.parametrize("X0", [np.zeros((0, 3)), np.zeros((2, 0))])
def test_nothing_to_do(X0: Array) -> None:
    assert ol.minimize_batch(rosenbrock, X0).x.shape == X0.shape


@pytest.mark.parametrize(("given", "message"), [
    ({"X0": np.zeros(3)}, r"^`X0` must have two axes, a row for each problem, got shape \(3,\)$"),
    ({"args": (3.0,)}, r"^`args\[0\]` must have a row for each of 2 problems, got shape \(\); let `fun` take"),
    ({"args": np.zeros(3)}, r"^`args\[0\]` must have a row for each of 2 problems, got shape \(3,\)"),
    ({"options": {"line_search_fn": "backtracking"}}, "^`options` has `line_search_fn`, which batches don't take; the"),
    ({"options": {"max_iters": 3}}, "`options` has no `max_iters`; did you mean `max_iter`?"),
    ({"options": {"max_iter": 0}}, "^`max_iter` must be an integer >= 1, got 0$"),
    ({"fun": 3}, "^`fun` must be a function, got 3$"),
    ({"X0": np.ones((2, 3)) * 1j}, r"^`X0` must be real, got complex128; use .* z.view\(np.float64\) has them$"),
    ({"callback": 3}, "^`callback` must be callable, got 3$"),
    ({"whole": 3}, "^`whole` must be True or False, got 3$"),
    ({"bounds": (1, 0)}, "`bounds` of 'X0' must have low <= high"),
    ({"bounds": [(0, 1)]}, "one pair for each of 3 elements"),
    ({"fun": lambda X: (X.sum(), X)}, r"^`fun` must return \(losses, gradients\), and losses must be real numbers of s"
                                      r"hape \(2,\), got float64 of shape \(\)$"),
    ({"fun": lambda X: X}, r"^`fun` must return \(loss, gradient\), got "),
    ({"fun": lambda X: (X[:, 0], X[0])}, r"gradients must be real numbers of shape \(2, 3\), got float64 of shape "),
])
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    arguments = {"fun": lambda X: ((X * X).sum(axis=1), 2 * X), "X0": np.ones((2, 3)), **given}
    with pytest.raises((TypeError, ValueError), match=message):
        ol.minimize_batch(**arguments)
