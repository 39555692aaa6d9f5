"""The picture of the landing page: the ways of optimizers down a curved valley.

    python docs/site/hero.py docs/pictures
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import optimlite as ol

STEPS = 150
START = (-1.2, 1.6)
ACROSS, UP = (-1.9, 1.9), (-0.6, 2.2)
SHOWN: dict[str, tuple[str, dict[str, float]]] = {
    "SGD": ("#ff8fa3", {"lr": 1.4e-3, "momentum": 0.9}), "Adam": ("#ffd166", {"lr": 0.5}),
    "LBFGS": ("#ffffff", {})}


def valley(p: np.ndarray) -> tuple[float, np.ndarray]:
    (x,), (y,) = p
    u = y - x * x
    return float(100 * u * u + (1 - x) ** 2), np.array([[-400 * u * x - 2 * (1 - x)], [200 * u]])


def way(name: str, options: dict[str, float]) -> np.ndarray:
    p = np.array(START).reshape(2, 1)
    points = [p.copy()]

    def closure() -> tuple[float, list[np.ndarray]]:
        loss, gradient = valley(p)
        return loss, [gradient]

    if name == "LBFGS":
        ol.LBFGS([p], line_search_fn="strong_wolfe", max_iter=60,
                 callback=lambda result: points.append(p.copy()) or False).step(closure)
    else:
        opt = ol.create(name, [p], **options)
        for _ in range(STEPS):
            opt.step(closure)
            points.append(p.copy())
    return np.array(points)[:, :, 0]


def main(folder: Path) -> None:
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(10, 3.4))
    x, y = np.meshgrid(np.linspace(*ACROSS, 400), np.linspace(*UP, 300))
    heights = 100 * (y - x * x) ** 2 + (1 - x) ** 2
    ax.contourf(x, y, np.log1p(heights), 24, cmap="YlGnBu_r")
    for name, (colour, options) in SHOWN.items():
        points = way(name, options)
        ax.plot(*points.T, "-o", color=colour, markersize=3, linewidth=1.8, label=name)
    ax.plot(1, 1, "*", color="white", markersize=14, markeredgecolor="#10303a")
    ax.set(xlim=ACROSS, ylim=UP)
    ax.axis("off")
    ax.legend(loc="lower left", framealpha=0.75, labelcolor="white", facecolor="#10303a", ncols=3, fontsize=16)
    figure.subplots_adjust(0, 0, 1, 1)
    figure.savefig(folder / "hero.png", dpi=110)


if __name__ == "__main__":
    import matplotlib

    matplotlib.use("Agg")
    main(Path(sys.argv[1]))
