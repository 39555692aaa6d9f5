"""What an iteration of L-BFGS and CG costs beside the closure, against torch, scipy and thirty lines of NumPy.

A million float32 unknowns and a history of ten pairs, which is full before the clock starts.  Time inside the closure
is subtracted; what is left is directions, line searches, and the copies that a library makes of the gradients.  For
comparison: what reading the history twice takes all threads, which is the least that a direction costs.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

import optimlite as ol

from .measure import SETTLE, medians
from .rows import Result, Row

SIZE, HISTORY = 1_000_000, 10
WARM, TIMED = HISTORY + 2, 25            # iterations before the clock starts, and measured
FOREVER = {"tolerance_grad": 0, "tolerance_change": 0, "max_eval": 10_000}


class Quadratic:
    """sum h * (x - 1)^2 / 2 with eigenvalues up to 100; counts the time that it takes itself."""

    def __init__(self) -> None:
        self.h = (1 + 99 * np.random.default_rng(0).random(SIZE)).astype(np.float32)
        self.inside = 0.0

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        r = x - np.float32(1)
        gradient = self.h * r
        loss = float(gradient @ r) / 2
        self.inside += time.perf_counter() - start
        return loss, gradient


class Marks:
    """The clock beside the closure, read after each iteration."""

    def __init__(self, problem: Quadratic) -> None:
        self.problem, self.times = problem, [time.perf_counter() - problem.inside]

    def __call__(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter() - self.problem.inside)

    def per_iteration(self) -> float:
        return (self.times[-1] - self.times[WARM]) / (len(self.times) - 1 - WARM)


def optimlite(make: Any, **options: Any) -> Callable[[], float]:
    def run() -> float:
        problem, x = Quadratic(), np.zeros(SIZE, np.float32)
        marks = Marks(problem)
        opt = make([x], max_iter=WARM + TIMED, callback=marks, **FOREVER, **options)

        def closure() -> tuple[float, list[np.ndarray]]:
            loss, gradient = problem(x)
            return loss, [gradient]

        marks.times.clear()
        marks()
        opt.step(closure)
        return marks.per_iteration()

    return run


def torch_lbfgs(**options: Any) -> Callable[[], float]:
    """torch has no callback: a step fills the history, another one is measured."""
    def run() -> float:
        import torch

        problem, x = Quadratic(), torch.zeros(SIZE, requires_grad=True)
        view = x.detach().numpy()
        opt = torch.optim.LBFGS([x], max_iter=WARM, history_size=HISTORY, **FOREVER, **options)

        def closure() -> float:
            loss, gradient = problem(view)
            x.grad = torch.from_numpy(gradient)
            return loss

        opt.step(closure)
        opt.param_groups[0]["max_iter"] = TIMED
        before, start, inside = opt.state[x]["n_iter"], time.perf_counter(), problem.inside
        opt.step(closure)
        return (time.perf_counter() - start - problem.inside + inside) / (opt.state[x]["n_iter"] - before)

    return run


def scipy(method: str, **options: Any) -> Callable[[], float]:
    def run() -> float:
        from scipy.optimize import minimize

        problem = Quadratic()
        marks = Marks(problem)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")      # its line search overflows in float32
            minimize(problem, np.zeros(SIZE, np.float32), jac=True, method=method, callback=marks,
                     options={"maxiter": WARM + TIMED, "gtol": 0, **options})
        return marks.per_iteration()

    return run


def numpy_lbfgs() -> float:
    """The two loops as everybody writes them, with BLAS's products and a backtracking search."""
    problem, x = Quadratic(), np.zeros(SIZE, np.float32)
    marks, pairs = Marks(problem), deque(maxlen=HISTORY)
    loss, g = problem(x)
    for _ in range(WARM + TIMED):
        q, alphas = g.copy(), []
        for s, y, sy in reversed(pairs):
            alphas.append((s @ q) / sy)
            q -= alphas[-1] * y
        if pairs:
            q *= sy / (y @ y)
        for (s, y, sy), alpha in zip(pairs, reversed(alphas), strict=True):
            q += (alpha - (y @ q) / sy) * s
        slope, t = g @ q, np.float32(1 if pairs else 1 / np.abs(g).sum())
        for _ in range(20):
            moved = x - t * q
            lower, gradient = problem(moved)
            if lower <= loss - 1e-4 * t * slope:
                break
            t /= 2
        s, y = moved - x, gradient - g
        if (sy := s @ y) > 0:
            pairs.append((s, y, sy))
        x, g, loss = moved, gradient, lower
        marks()
    return marks.per_iteration()


def numpy_compact() -> float:
    """The compact form on one array of all pairs, of which BLAS makes two products an iteration."""
    problem, x, m = Quadratic(), np.zeros(SIZE, np.float32), HISTORY
    marks, rows, products = Marks(problem), np.zeros((2 * m, SIZE), np.float32), np.zeros((2 * m, 2 * m))
    loss, g = problem(x)
    order: list[int] = []                        # slots, the oldest first: s in row k, y in row m + k
    for turn in range(WARM + TIMED):
        if order:
            of_g, of_y = (rows @ np.column_stack([g, rows[m + order[-1]]])).T
            products[:, m + order[-1]] = products[m + order[-1]] = of_y
            s, y = np.array(order), m + np.array(order)
            r, yy = np.triu(products[np.ix_(s, y)]), products[np.ix_(y, y)]
            gamma = r[-1, -1] / yy[-1, -1]
            p = np.linalg.solve(r, of_g[s])
            a = np.linalg.solve(r.T, np.diag(np.diag(r)) @ p + gamma * (yy @ p - of_g[y]))
            c = np.zeros(2 * m, np.float32)
            c[s], c[y] = a, -gamma * p
            d = -np.float32(gamma) * g - c @ rows
        else:
            d = -g
        slope, t = g @ d, np.float32(1 if order else 1 / np.abs(g).sum())
        for _ in range(20):
            moved = x + t * d
            lower, gradient = problem(moved)
            if lower <= loss + 1e-4 * t * slope:
                break
            t /= 2
        slot = turn % m
        order = [other for other in order if other != slot] + [slot]
        np.subtract(moved, x, out=rows[slot])
        np.subtract(gradient, g, out=rows[m + slot])
        x, g, loss = moved, gradient, lower
        marks()
    return marks.per_iteration()


def numpy_cg() -> float:
    """Polak and Ribière's formula with BLAS's products, and a secant step for the search."""
    problem, x = Quadratic(), np.zeros(SIZE, np.float32)
    marks, t = Marks(problem), np.float32(0.01)
    _, g = problem(x)
    d, square = -g, g @ g
    for _ in range(WARM + TIMED):
        slope = g @ d
        _, gradient = problem(x + t * d)
        rise = gradient @ d - slope
        if abs(gradient @ d) > 0.1 * abs(slope):
            t = np.float32(t * -slope / rise)
            _, gradient = problem(x + t * d)
        x = x + t * d
        new = gradient @ gradient
        d = max(np.float32(0), (new - gradient @ g) / square) * d - gradient
        g, square = gradient, new
        marks()
    return marks.per_iteration()


def two_reads() -> float:
    """Seconds: NumPy's cheapest sweep over as many vectors as the history has, by all threads, twice."""
    history = [np.ones(SIZE // 2, np.uint64) for _ in range(2 * HISTORY)]        # two unknowns in each

    def sweep(first: int) -> None:
        for vector in history[first::ol.get_num_threads()]:
            np.bitwise_or.reduce(vector)

    with ThreadPoolExecutor(ol.get_num_threads()) as pool:
        for turn in range(WARM + TIMED):
            if turn == WARM:
                start = time.perf_counter()
            for _ in range(2):
                list(pool.map(sweep, range(ol.get_num_threads())))
        return (time.perf_counter() - start) / TIMED


CONTENDERS: dict[str, dict[str, Callable[[], float]]] = {
    "L-BFGS 1 M": {"optimlite": optimlite(ol.LBFGS, history_size=HISTORY, line_search_fn="strong_wolfe"),
                   "torch": torch_lbfgs(line_search_fn="strong_wolfe"),
                   "scipy": scipy("L-BFGS-B", maxcor=HISTORY, ftol=0, maxfun=10_000),
                   "NumPy": numpy_lbfgs, "NumPy, compact": numpy_compact,
                   "bfloat16 history": optimlite(ol.LBFGS, history_size=HISTORY, line_search_fn="strong_wolfe",
                                                 history_dtype="bfloat16"),
                   "two reads of the history": two_reads},
    "CG 1 M": {"optimlite": optimlite(ol.ConjugateGradient), "scipy": scipy("CG"), "NumPy": numpy_cg},
}
RATIOS = {("L-BFGS 1 M", "torch"): 2.0, ("L-BFGS 1 M", "scipy"): 12.0, ("CG 1 M", "scipy"): 5.0}
PACKAGES = ("torch", "scipy")
ROUNDS = 7


def present(case: str) -> Mapping[str, Callable[[], float]]:
    """The contenders whose packages are installed."""
    return {name: run for name, run in CONTENDERS[case].items()
            if name not in PACKAGES or importlib.util.find_spec(name)}


@dataclass(frozen=True)
class Iterations(Row):
    """A row whose contenders time themselves: seconds per iteration without the closure."""

    def run(self) -> Result:
        contenders = list(self.build().items())
        samples: dict[str, list[float]] = {name: [] for name, _ in contenders}
        for turn in range(self.rounds):
            at = turn % len(contenders)
            for name, run in contenders[at:] + contenders[:at]:
                time.sleep(SETTLE)
                samples[name].append(float(run()))           # type: ignore[arg-type]
        seconds = medians(samples)
        return {"kind": self.kind, "case": self.case, **self.about, "rounds": self.rounds, "seconds": seconds,
                "samples": samples, "ratio": {name: value / seconds["optimlite"] for name, value in seconds.items()}}


def rows() -> Iterator[Row]:
    for case in CONTENDERS:
        about = {"optimizer": case.removesuffix(" 1 M"), "tensors": 1, "elements": SIZE}
        yield Iterations("closures", case, about, ROUNDS, lambda case=case: present(case))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What an iteration should reach, in the form of report.targets: the median of the ratios of each round."""
    for result in results:
        for (case, name), wanted in RATIOS.items():
            if result["kind"] == "closures" and case == result["case"] and name in result["samples"]:
                pairs = zip(result["samples"][name], result["samples"]["optimlite"], strict=True)
                ratio = median(theirs / ours for theirs, ours in pairs)
                yield {"what": f"{case}, an iteration beside the closure: {name} / optimlite",
                       "target": f">= {wanted:g}", "measured": ratio, "met": ratio >= wanted}
