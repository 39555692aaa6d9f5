"""What an iteration of L-BFGS and CG costs beside the closure, interleaved: `python -m benchmarks.closures`.

A million float32 unknowns and a history of ten pairs, which is full before the clock starts.  Time inside the closure
is subtracted; what is left is directions, line searches, and the copies that a library makes of the gradients.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import optimlite as ol

from .measure import SETTLE

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


CONTENDERS: dict[str, Callable[[], float]] = {
    "optimlite LBFGS": optimlite(ol.LBFGS, history_size=HISTORY, line_search_fn="strong_wolfe"),
    "torch LBFGS": torch_lbfgs(line_search_fn="strong_wolfe"),
    "scipy L-BFGS-B": scipy("L-BFGS-B", maxcor=HISTORY, ftol=0, maxfun=10_000),
    "optimlite CG": optimlite(ol.ConjugateGradient),
    "scipy CG": scipy("CG"),
}
TARGETS = (("torch LBFGS", "optimlite LBFGS", 2.0), ("scipy L-BFGS-B", "optimlite LBFGS", 12.0),
           ("scipy CG", "optimlite CG", 5.0))


def present() -> dict[str, Callable[[], float]]:
    """The contenders whose packages are installed."""
    return {name: run for name, run in CONTENDERS.items()
            if all(importlib.util.find_spec(package) for package in ("torch", "scipy") if package in name)}


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds per iteration: all contenders in every round, in turning order."""
    contenders = list(present().items())
    samples: dict[str, list[float]] = {name: [] for name, _ in contenders}
    for turn in range(rounds):
        at = turn % len(contenders)
        for name, run in contenders[at:] + contenders[:at]:
            time.sleep(SETTLE)
            samples[name].append(run())
    return samples


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closures", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of optimlite and torch; by default all CPUs")
    parser.add_argument("--json", metavar="FILE", help="write every sample")
    options = parser.parse_args()
    if options.threads:
        ol.set_num_threads(options.threads)
        if importlib.util.find_spec("torch"):
            import torch

            torch.set_num_threads(options.threads)
    samples = measure(options.rounds)
    seconds = {name: median(values) for name, values in samples.items()}
    for name, value in seconds.items():
        print(f"{name:18}{1e3 * value:9.2f} ms per iteration   (best {1e3 * min(samples[name]):.2f})")
    missed = 0
    for slow, fast, target in TARGETS:
        if slow in seconds:
            ratio = median(a / b for a, b in zip(samples[slow], samples[fast], strict=True))
            missed += ratio < target
            print(f"{slow} / {fast}: {ratio:.1f}x   (target {target:g}x: {'met' if ratio >= target else 'MISSED'})")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"seconds": seconds, "samples": samples}, file, indent=1)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
