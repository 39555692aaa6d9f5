"""Whether a run still gets on: the lowest loss so far, and the evaluations since.

It stands in the state's scalars, so that a run that is resumed ends where the whole one would have.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping

import numpy as np

PATIENCE = 20                    # evaluations without a lower loss: only rounding is left
SCALARS = {"loss": math.nan, "best_loss": math.inf, "loss_scale": 0.0, "idle": 0}


class Progress:
    """`eps` is the resolution of the parameters' type: a decrease of less than that of the loss counts for nothing,
    even if the loss is a float64."""

    def __init__(self, scalars: MutableMapping[str, np.ndarray], eps: float) -> None:
        self.scalars, self.eps = scalars, eps

    @property
    def idle(self) -> int:
        return int(self.scalars["idle"])

    @property
    def spent(self) -> bool:
        return self.idle >= PATIENCE

    def begin(self, loss: float) -> None:
        """Another loss than the last one means another function, of which nothing is known yet."""
        if loss != float(self.scalars["loss"]):
            for key, value in (("best_loss", loss), ("loss_scale", min(1.0, abs(loss))), ("idle", 0), ("loss", loss)):
                self.scalars[key][...] = value

    def note(self, loss: float) -> None:
        """Takes the loss of every further evaluation."""
        best = float(self.scalars["best_loss"])
        if math.isfinite(loss) and loss < best - 0.25 * self.eps * abs(best):
            self.scalars["best_loss"][...] = loss
            self.scalars["idle"][...] = 0
        else:
            self.scalars["idle"][...] = self.idle + 1

    def accept(self, loss: float) -> None:
        self.scalars["loss"][...] = loss

    def relative(self, before: float, after: float) -> float:
        """The decrease in parts of the loss: of 1 for a smaller one, or of the first loss if that was smaller still, so
        that losses in a small unit don't end a run at once."""
        size = max(abs(before), abs(after), float(self.scalars["loss_scale"]))
        return (before - after) / size if size > 0.0 else 0.0
