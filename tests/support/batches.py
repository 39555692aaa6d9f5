"""Families of small problems, for `minimize_batch`: functions of rows, each with data of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray


class Family(NamedTuple):
    """`fun(X, *args)` for all rows, which `alone` does for one of them."""

    fun: Callable[..., tuple[Array, Array]]
    X0: Array
    args: tuple[Array, ...]
    alone: Callable[..., tuple[float, Array]]


def rosenbrock(X: Array, shift: Array, scale: Array) -> tuple[Array, Array]:
    Z = (X - shift) * scale
    u, w, g = Z[..., 1:] - Z[..., :-1] ** 2, 1 - Z[..., :-1], np.zeros_like(Z)
    g[..., 1:] += 200 * u
    g[..., :-1] -= 400 * u * Z[..., :-1] + 2 * w
    return (100 * u * u + w * w).sum(axis=-1), g * scale


def quadratic(X: Array, target: Array, curvature: Array) -> tuple[Array, Array]:
    pull = curvature * (X - target)
    return (pull * (X - target)).sum(axis=-1) / 2, pull


def logistic(W: Array, A: Array, signs: Array) -> tuple[Array, Array]:
    """Logistic regressions with a little weight decay, A (r, samples, n)."""
    margin = -signs * (A @ W[:, :, None])[:, :, 0]
    pull = -signs / (1 + np.exp(-margin))
    return np.logaddexp(0, margin).sum(axis=1) + 0.05 * (W * W).sum(axis=1), (pull[:, None] @ A)[:, 0] + 0.1 * W


def one_logistic(w: Array, A: Array, signs: Array) -> tuple[float, Array]:
    margin = -signs * (A @ w)
    pull = -signs / (1 + np.exp(-margin))
    return float(np.logaddexp(0, margin).sum() + 0.05 * (w @ w)), pull @ A + 0.1 * w


def family(name: str, k: int, n: int, dtype: Any = np.float64) -> Family:
    """k problems of n unknowns: shifted and scaled, of condition numbers up to 1,000, or of 30 samples each."""
    rng = np.random.default_rng(k + 100 * n)
    X0 = rng.uniform(-2, 2, (k, n))
    if name == "rosenbrock":
        args: tuple[Array, ...] = rng.normal(size=(k, n)), rng.uniform(0.5, 2, (k, n))
        made: Any = Family(rosenbrock, args[0] + X0 / args[1], args, rosenbrock)
    elif name == "quadratic":
        made = Family(quadratic, X0, (rng.normal(size=(k, n)), 10 ** rng.uniform(-1, 2, (k, n))), quadratic)
    else:
        A = rng.normal(size=(k, 30, n))
        signs = np.sign((A * rng.normal(size=(k, 1, n))).sum(axis=2) + rng.normal(size=(k, 30)))
        made = Family(logistic, X0, (A, signs), one_logistic)
    return made._replace(X0=made.X0.astype(dtype), args=tuple(a.astype(dtype) for a in made.args))
