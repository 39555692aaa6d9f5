"""Gradients of `minimize` by differences: within bounds, side by side, in any type and nesting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.closures import rosenbrock


def loss_alone(x: np.ndarray) -> float:
    return rosenbrock(x)[0]


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


def test_differences_of_an_array_in_fortran_order() -> None:
    x0 = np.zeros((2, 3), order="F")
    result = ol.minimize(lambda x: ((x - np.arange(6).reshape(2, 3)) ** 2).sum(), x0)
    np.testing.assert_allclose(result.x, np.arange(6).reshape(2, 3), atol=1e-6)
