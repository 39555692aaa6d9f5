"""The picture of a sharded step: where gradients, state and parameters go.

    python docs/site/ranks.py docs/pictures
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

RANKS = 3
SHARES = ("#5ab4c4", "#f0a64b", "#b07cc6")       # each rank owns one
WIDTH, HEIGHT, ACROSS = 0.8, 0.42, 4.0
GRADIENTS, SUMS, STATE, PARAMETERS = 4.5, 3.0, 2.2, 0.7          # where the rows lie
INK = "#24343a"


def box(ax: Any, rank: int, share: int, y: float, text: str, alpha: float = 1.0) -> tuple[float, float]:
    """One share of an array on a rank; returns its middle."""
    from matplotlib.patches import Rectangle

    x = rank * ACROSS + share * WIDTH
    ax.add_patch(Rectangle((x, y), WIDTH * 0.94, HEIGHT, color=SHARES[share], alpha=alpha, linewidth=0))
    ax.text(x + WIDTH * 0.47, y + HEIGHT / 2, text, ha="center", va="center", fontsize=9, color=INK)
    return x + WIDTH * 0.47, y


def arrow(ax: Any, begin: tuple[float, float], end: tuple[float, float], share: int, own: bool) -> None:
    ax.annotate("", end, begin, arrowprops={"arrowstyle": "-|>", "color": SHARES[share], "linewidth": 1.6 if own else 1,
                                            "linestyle": "-" if own else (0, (4, 2))})


def main(folder: Path) -> None:
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(10, 4.6))
    for rank in range(RANKS):
        ax.text(rank * ACROSS + 1.5 * WIDTH, GRADIENTS + 0.75, f"rank {rank}", ha="center", fontsize=12, color=INK)
        box(ax, rank, rank, SUMS, "sum")
        box(ax, rank, rank, STATE, "state")
        x = (rank + 0.47) * WIDTH + rank * ACROSS
        arrow(ax, (x, SUMS), (x, STATE + HEIGHT), rank, True)
        for share in range(RANKS):
            x, y = box(ax, rank, share, GRADIENTS, "grad", 0.55)
            top = share * (ACROSS + WIDTH) + WIDTH * 0.47
            arrow(ax, (x, y), (top, SUMS + HEIGHT), share, rank == share)
            x, y = box(ax, rank, share, PARAMETERS, "param")
            arrow(ax, (top, STATE), (x, y + HEIGHT), share, rank == share)
    for y, text in ((GRADIENTS, "gradients of the\nrank's own data"), (SUMS, "added up in\nthe order of ranks"),
                    (STATE, "one rank's share\nof the state: a step"),
                    (PARAMETERS, "all parameters,\nbit for bit alike")):
        ax.text(-0.35, y + HEIGHT / 2, text, ha="right", va="center", fontsize=10, color=INK)
    ax.set(xlim=(-2.9, (RANKS - 1) * ACROSS + 3 * WIDTH + 0.2), ylim=(PARAMETERS - 0.2, GRADIENTS + 1.1))
    ax.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(folder / "ranks.png", dpi=110, facecolor="white")
    pyplot.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
