"""Every optimizer on Rosenbrock's and Rastrigin's functions, each at the best of its rates.

    python examples/optimizers.py [folder, examples/output/optimizers unless given]

The best rate is the one of 19 whose run of 300 steps has the lowest loss at its end.  Other options are the defaults,
but for OPTIONS.  What finds its own rate, or its own step, multiplies it by that factor.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np

import optimlite as ol

Array = np.ndarray
Function = Callable[[Array], tuple[float, Array]]
STEPS = 300
RATES = [10.0 ** (k / 3) for k in range(-12, 7)]  # 0.0001 to 100
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9}, "ScheduleFreeRAdam": {"betas": (0.9, 0.99)},
    # 300 steps are few for what begins with a millionth of a step
    "Prodigy": {"d0": 1e-2}, "DAdaptAdam": {"d0": 1e-2}, "DoG": {"reps_rel": 1e-2}, "LDoG": {"reps_rel": 1e-2},
}
WRAPPED: dict[str, Callable[[Any, float], Any]] = {
    "Lookahead(AdamW)": lambda p, lr: ol.Lookahead(ol.AdamW(p, lr=lr)),
    "SAM(AdamW)": lambda p, lr: ol.SAM(ol.AdamW(p, lr=lr)),
}


def rosenbrock(p: Array) -> tuple[float, Array]:
    """A curved valley; the minimum is 0 at (1, 1)."""
    (x,), (y,) = p
    u = y - x * x
    return float(100 * u * u + (1 - x) ** 2), np.array([[-400 * u * x - 2 * (1 - x)], [200 * u]])


def rastrigin(p: Array) -> tuple[float, Array]:
    """A bowl with a minimum near every pair of whole numbers; the lowest is 0 at (0, 0)."""
    a = 2 * np.pi * p
    return float(20 + np.sum(p * p - 10 * np.cos(a))), 2 * p + 20 * np.pi * np.sin(a)


Pair = tuple[float, float]
PROBLEMS: dict[str, tuple[Function, Pair, Pair, Pair, Pair]] = {  # the start, the minimum, and what is drawn
    "rosenbrock": (rosenbrock, (-1.2, 1.0), (1, 1), (-1.9, 1.9), (-0.9, 2.9)),
    "rastrigin": (rastrigin, (-2.8, 1.7), (0, 0), (-4.4, 4.4), (-4.4, 4.4)),
}


def names() -> list[str]:
    return [name for name in ol.available() if name != "SparseAdam"] + list(WRAPPED)  # Adam, by rows


def made(name: str, params: list[Array], lr: float) -> Any:
    return WRAPPED[name](params, lr) if name in WRAPPED else ol.create(name, params, lr=lr, **OPTIONS.get(name, {}))


def run(name: str, lr: float, function: Function, start: tuple[float, float]) -> Array:
    """The points of a run; those at which one would evaluate."""
    p = np.array(start).reshape(2, 1)  # a matrix, for those that need one
    points = [p.copy()]

    def closure() -> tuple[float, list[Array]]:
        loss, gradient = function(p)
        if closing:
            points.append(p.copy())
        return loss, [gradient]

    closing = name in ol.available("closure")
    if closing:
        ol.create(name, [p], lr=lr, line_search_fn="strong_wolfe", max_iter=STEPS, max_eval=STEPS).step(closure)
        return np.array(points)[:, :, 0]
    optimizer = made(name, [p], lr)
    for _ in range(STEPS):
        optimizer.step(closure)
        if name.startswith("ScheduleFree"):
            with optimizer.swapped():
                points.append(p.copy())
        else:
            points.append(p.copy())
    return np.array(points)[:, :, 0]


def best(name: str, function: Function, start: tuple[float, float]) -> tuple[float, float, Array]:
    """The rate, the loss at the end, and the points."""
    found = []
    for lr in RATES:
        with np.errstate(all="ignore"):
            points = run(name, lr, function, start)
            loss = function(points[-1].reshape(2, 1))[0]
        found.append((loss if np.isfinite(loss) else np.inf, lr, points))
    loss, lr, points = min(found, key=lambda each: each[0])
    return lr, loss, points


def draw(problem: str, path: pathlib.Path) -> None:
    import matplotlib.pyplot as plt

    function, start, lowest, across, up = PROBLEMS[problem]
    shown = names()
    rows = len(shown) // 5 + 1  # the last place is the legend's
    figure, axes = plt.subplots(rows, 5, figsize=(9, 1.75 * rows), sharex=True, sharey=True, layout="constrained")
    x, y = np.meshgrid(np.linspace(*across, 121), np.linspace(*up, 121))
    heights = np.array([function(np.array([[a], [b]]))[0] for a, b in zip(x.flat, y.flat, strict=True)])
    for name, ax in zip(shown, axes.flat, strict=False):
        lr, loss, points = best(name, function, start)
        print(f"{problem:10}  {name:20} rate {lr:8.2g}  loss {loss:.1e}")
        contours = ax.contourf(x, y, np.log1p(heights).reshape(x.shape), 6, cmap="Blues_r", antialiased=False)
        ax.plot(*points.T, ".-", color="#c0392b", linewidth=1, markersize=2.5, label="a step")
        ax.plot(*points[-1], "o", color="black", markersize=4.5, label="the end")
        ax.plot(*lowest, "*", color="#ffd166", markeredgecolor="black", markersize=7, label="the minimum")
        ax.set(xlim=across, ylim=up)
        ax.tick_params(labelsize=7)
        ax.set_title(f"{name}\nrate {lr:.2g}, loss {loss:.0e}", fontsize=8)
    for ax in axes.flat[len(shown):]:
        ax.axis("off")
    for ax in axes.flat[len(shown) - 5:len(shown)]:
        ax.tick_params(labelbottom=True)
    figure.supxlabel("x", fontsize=9)
    figure.supylabel("y", fontsize=9)
    legend = axes.flat[-1]
    legend.legend(*axes.flat[0].get_legend_handles_labels(), loc="upper center", fontsize=8)
    bar = figure.colorbar(contours, cax=legend.inset_axes((0, 0.15, 1, 0.1)), orientation="horizontal")
    bar.set_label("log(1 + loss)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "examples/output/optimizers")
    folder.mkdir(parents=True, exist_ok=True)
    for problem in PROBLEMS:
        draw(problem, folder / f"{problem}.png")


if __name__ == "__main__":
    matplotlib.use("Agg")
    main()
