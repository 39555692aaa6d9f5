# Maps side by side in one scale, as the examples of travel times and of waves draw them.
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

try:
    import matplotlib

    matplotlib.use("Agg")  # draws into files: no display needed
    import matplotlib.pyplot as plt
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install matplotlib")


def draw(maps: dict[str, np.ndarray], low: float, high: float, label: str, path: Path) -> None:
    """Maps by title; `label` is the quantity, from `low` to `high`."""
    figure, axes = plt.subplots(1, len(maps), figsize=(1 + 4 * len(maps), 4), layout="constrained")
    for axis, (title, values) in zip(axes, maps.items(), strict=True):
        image = axis.imshow(values, vmin=low, vmax=high, cmap="viridis")
        axis.set(title=title, xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, label=label)
    figure.savefig(path, dpi=110)
    print(f"drawn: {path}")
