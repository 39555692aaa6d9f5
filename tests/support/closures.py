"""Problems for closures, and the runs whose iterates torch has too: a table, shared with golden/make_lbfgs.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

SEARCHES = ["strong_wolfe", "nocedal_wright", "hager_zhang", "backtracking"]


class Logistic:
    """A logistic regression with 20 weights, a bias and a little weight decay; called, gives (loss, grads)."""

    def __init__(self, dtype: Any = np.float64, params: Sequence[np.ndarray] | None = None) -> None:
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((200, 20)) * np.linspace(0.2, 3, 20)
        self.y = (rng.random(200) < 1 / (1 + np.exp(-self.X @ rng.standard_normal(20)))).astype(np.float64)
        self.params = list(params) if params else [np.zeros((4, 5), dtype), np.zeros((), dtype)]

    def __call__(self) -> tuple[float, list[np.ndarray]]:
        w, b = (np.asarray(p, np.float64) for p in self.params)
        z = self.X @ w.ravel() + b
        r = (1 / (1 + np.exp(-z)) - self.y) / len(z)
        loss = np.logaddexp(0, z).mean() - (self.y * z).mean() + 1e-3 * (w * w).sum()
        gradients = (self.X.T @ r).reshape(w.shape) + 2e-3 * w, r.sum()
        return float(loss), [np.asarray(g, p.dtype) for g, p in zip(gradients, self.params, strict=True)]


class Rosenbrock:
    def __init__(self, params: Sequence[np.ndarray] | None = None) -> None:
        self.params = list(params) if params else [np.array([-1.2, 1.0])]

    def __call__(self) -> tuple[float, list[np.ndarray]]:
        [(x, y)] = self.params
        u = y - x * x
        return float(100 * u * u + (1 - x) ** 2), [np.array([-400 * u * x - 2 * (1 - x), 200 * u])]


def quadratic(x: np.ndarray, spectrum: np.ndarray, weight: float = 1.0) -> Callable[[], Any]:
    """weight * sum spectrum * (x - 1)^2 / 2."""
    def closure() -> tuple[float, list[np.ndarray]]:
        r = x - 1
        return weight * float((spectrum * r * r).sum() / 2), [(weight * spectrum * r).astype(x.dtype)]

    return closure


def square(x: np.ndarray) -> tuple[float, np.ndarray]:
    return float((x**2).sum()), 2 * x


def rosenbrock(x: np.ndarray, a: float = 1.0) -> tuple[float, np.ndarray]:
    """The chained function of any number of unknowns, whose minimum is at 1, and its gradient in x's type."""
    u, g = x[1:] - x[:-1]**2, np.zeros_like(x)
    g[1:] += 200 * u
    g[:-1] += -400 * u * x[:-1] - 2 * (a - x[:-1])
    return float(100 * u @ u + ((a - x[:-1])**2).sum()), g


def interrupted(fun: Callable[..., Any], at: int, calls: Iterator[int] | None = None) -> Callable[..., Any]:
    """`fun`, with Ctrl-C in the call of this number, from 1; functions with the same `calls` count together."""
    calls = calls or count(1)

    def call(*arguments: Any) -> Any:
        if next(calls) == at:
            raise KeyboardInterrupt
        return fun(*arguments)

    return call


class LogBarrier:
    """sum x - log x, or `outside` where an x isn't positive: its domain ends on the way (pytorch-minimize#8)."""

    def __init__(self, outside: float) -> None:
        self.outside, self.params = outside, [np.array([0.1, 50.0])]

    def __call__(self) -> tuple[float, list[np.ndarray]]:
        [x] = self.params
        with np.errstate(all="ignore"):
            loss = float(np.sum(x - np.log(x)))
        return (loss if (x > 0).all() else self.outside), [1 - 1 / x]


class Case(NamedTuple):
    problem: Any
    steps: int
    options: dict[str, Any]


# 50 iterations of the regression and 20 of Rosenbrock, one at a time and many in a step, every option off its default.
CASES = {
    f"{name}-{search}-{label}": Case(problem, -(-total // options.get("max_iter", 20)),
                                     {**options, "line_search_fn": search})
    for name, problem, total in (("logistic", Logistic, 50), ("rosenbrock", Rosenbrock, 20))
    for search in (None, "strong_wolfe")
    for label, options in {
        "single": {"max_iter": 1, "tolerance_change": 1e-14, "tolerance_grad": 1e-12},
        "default": {},
        "short": {"max_iter": 5, "history_size": 3, "lr": 0.5, "tolerance_change": 1e-12},
        "few": {"max_iter": 5, "max_eval": 40, "lr": 0.1, "tolerance_grad": 1e-3},
    }.items()
}


def iterates(case: Case, make: Any) -> np.ndarray:
    """The parameters after each step."""
    problem = case.problem()
    opt = make(problem.params, **case.options)
    rows = []
    for _ in range(case.steps):
        opt.step(problem)
        rows.append(np.concatenate([np.ravel(p) for p in problem.params]))
    return np.array(rows)
