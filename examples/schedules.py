"""Draws every schedule: all in one figure, and a small picture of each for the documentation.

    python examples/schedules.py [folder, examples/output/schedules unless given]
"""

from __future__ import annotations

import pathlib
import sys

import matplotlib
import numpy as np

import optimlite as ol
from optimlite import lr_scheduler as ls

FAMILY = {
    "LambdaLR": lambda opt: ls.LambdaLR(opt, lambda t: 1 / (1 + t / 20)),
    "MultiplicativeLR": lambda opt: ls.MultiplicativeLR(opt, lambda t: 0.96 if t < 50 else 1.02),
    "StepLR": lambda opt: ls.StepLR(opt, 25, 0.5),
    "MultiStepLR": lambda opt: ls.MultiStepLR(opt, [20, 70], 0.4),
    "ConstantLR": lambda opt: ls.ConstantLR(opt, 0.3, 30),
    "LinearLR": lambda opt: ls.LinearLR(opt, 0.1, 1.0, 40),
    "ExponentialLR": lambda opt: ls.ExponentialLR(opt, 0.96),
    "PolynomialLR": lambda opt: ls.PolynomialLR(opt, 80, 2.0),
    "CosineAnnealingLR": lambda opt: ls.CosineAnnealingLR(opt, 50, 0.1),
    "CosineAnnealingWarmRestarts": lambda opt: ls.CosineAnnealingWarmRestarts(opt, 15, 2),
    "CyclicLR": lambda opt: ls.CyclicLR(opt, 0.1, 1.0, 12, 18, mode="triangular2"),
    "OneCycleLR": lambda opt: ls.OneCycleLR(opt, 1.0, 100),
    "WarmupCosineLR": lambda opt: ls.WarmupCosineLR(opt, 15, 90, min_factor=0.1),
    "WarmupStableDecayLR": lambda opt: ls.WarmupStableDecayLR(opt, 15, 55, 25, "sqrt"),
    "SWALR": lambda opt: ls.SWALR(opt, 0.3, 50),
    "ReduceLROnPlateau": lambda opt: ls.ReduceLROnPlateau(opt, factor=0.5, patience=5),
    "SequentialLR": lambda opt: ls.SequentialLR(
        opt, [ls.LinearLR(opt, 0.1, total_iters=20), ls.CosineAnnealingWarmRestarts(opt, 40)], [20]),
    "ChainedScheduler": lambda opt: ls.ChainedScheduler(
        [ls.CosineAnnealingWarmRestarts(opt, 20), ls.ExponentialLR(opt, 0.98)]),
}
STEPS = 100


def values(name: str) -> list[float]:
    parameter = ol.Parameter(np.zeros(1))
    scheduler = FAMILY[name](ol.SGD([parameter], lr=1.0, momentum=0.9))
    if name != "ReduceLROnPlateau":
        return [scheduler.at(t)[0] for t in range(STEPS)]
    rates = []
    for t in range(STEPS):  # a loss that stops improving three times
        rates += scheduler.get_last_lr()
        scheduler.step(1.0 - 0.3 * (t // 30) - 0.01 * min(t % 30, 15))
    return rates


def draw(ax: matplotlib.axes.Axes, name: str) -> None:
    ax.step(range(STEPS), values(name), where="mid", linewidth=1.5, color="#2a6f97")
    ax.set(xlim=(0, STEPS), ylim=(0, 1.08), xticks=[0, 50, 100], yticks=[0, 0.5, 1])
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def main(folder: pathlib.Path) -> None:
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(6, 3, figsize=(8, 10), sharex=True, sharey=True, layout="constrained")
    for ax, name in zip(axes.flat, FAMILY, strict=True):
        draw(ax, name)
        ax.set_title(name, fontsize=10)
    figure.supxlabel("steps", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    figure.savefig(folder / "family.png", dpi=100)
    for name in FAMILY:
        figure, ax = plt.subplots(figsize=(3.2, 1.6), layout="constrained")
        draw(ax, name)
        ax.set_xlabel("steps", fontsize=8)
        ax.set_ylabel("learning rate", fontsize=8)
        figure.savefig(folder / f"{name}.png", dpi=100)
        plt.close(figure)
    print(f"drew {len(FAMILY)} schedules into {folder}")


if __name__ == "__main__":
    matplotlib.use("Agg")
    output = pathlib.Path(__file__).parent / "output" / "schedules"
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else output)
