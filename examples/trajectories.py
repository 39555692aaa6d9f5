# The paths of optimizers on Rosenbrock's and Himmelblau's functions, drawn over contours.
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import optimlite as ol

try:
    import matplotlib

    matplotlib.use("Agg")  # draws into files: no display needed
    import matplotlib.pyplot as plt
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install matplotlib")

Array = np.ndarray


def rosenbrock(p: Array) -> tuple[Any, Array]:
    """A curved valley; the minimum is 0 at (1, 1)."""
    x, y = p
    u = y - x * x
    return 100 * u * u + (1 - x) ** 2, np.array([-400 * u * x - 2 * (1 - x), 200 * u])


def himmelblau(p: Array) -> tuple[Any, Array]:
    """Four minima of 0; which is found depends on the start and on the method."""
    x, y = p
    a, b = x * x + y - 11, x + y * y - 7
    return a * a + b * b, np.array([4 * x * a + 2 * b, 2 * a + 4 * y * b])


STOPS: dict[str, Any] = {"max_iter": 100, "max_eval": 500, "tolerance_grad": 1e-8, "tolerance_change": 0}
METHODS: dict[str, Callable[..., ol.Optimizer]] = {
    "SGD, lr 0.001": lambda p, callback: ol.SGD(p, lr=1e-3),
    "SGD, momentum 0.9": lambda p, callback: ol.SGD(p, lr=1e-3, momentum=0.9),
    "Adam, lr 0.1": lambda p, callback: ol.Adam(p, lr=0.1),
    "CG": lambda p, callback: ol.ConjugateGradient(p, callback=callback, **STOPS),
    "L-BFGS": lambda p, callback: ol.LBFGS(p, line_search_fn="nocedal_wright", callback=callback, **STOPS),
}
PROBLEMS = {
    "Rosenbrock": (rosenbrock, (-1.2, 1.0), (-1.7, 1.7), (-0.7, 2.2)),
    "Himmelblau": (himmelblau, (-0.5, -1.2), (-5.2, 5.2), (-5.2, 5.2)),
}


def path_of(make: Callable[..., ol.Optimizer], function: Any, start: tuple[float, float]) -> tuple[Array, int]:
    """The points of a run, and how often the function was evaluated: at most 500 times."""
    p, evaluations = np.array(start), 0
    points = [p.copy()]

    def closure() -> tuple[float, list[Array]]:
        nonlocal evaluations
        evaluations += 1
        loss, gradient = function(p)
        return loss, [gradient]

    def record(result: object) -> bool:
        points.append(p.copy())
        return bool(function(p)[0] < 1e-10)

    optimizer = make([p], record)
    if isinstance(optimizer, (ol.LBFGS, ol.ConjugateGradient)):
        optimizer.step(closure)  # the whole run: it calls `record` after each iteration
        return np.array(points), evaluations
    while evaluations < 500:
        optimizer.step(closure)
        if record(optimizer):
            break
    return np.array(points), evaluations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    figure, both = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    for axes, (title, (function, start, xlim, ylim)) in zip(both, PROBLEMS.items(), strict=True):
        grid = np.array(np.meshgrid(np.linspace(*xlim, 400), np.linspace(*ylim, 400)))
        axes.contourf(*grid, np.log10(function(grid)[0] + 1e-3), levels=30, cmap="Greys", alpha=0.7)
        for name, make in METHODS.items():
            points, evaluations = path_of(make, function, start)
            loss = float(function(points[-1])[0])
            print(f"{title:12} {name:18} {len(points) - 1:4} steps, {evaluations:4} evaluations, loss {loss:.1e}")
            axes.plot(*points.T, ".-", markersize=4, linewidth=1.2,
                      label=f"{name}: {evaluations} evaluations, loss {loss:.0e}")
        axes.plot(*start, "ko", markersize=7)
        axes.set(title=title, xlim=xlim, ylim=ylim)
        axes.legend(loc="lower right" if title == "Himmelblau" else "upper center", fontsize="small")
    path = output / "trajectories.png"
    figure.savefig(path, dpi=110)
    print(f"drawn: {path}")


if __name__ == "__main__":
    main()
