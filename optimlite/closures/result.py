"""How a step with a closure went, and the signal that ends one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..engine.html import table

# Why a run ended, in scipy's numbers: converged, a limit, no further step, not finite, the callback.
CONVERGED, LIMIT, STUCK, NOT_FINITE, ASKED = 0, 1, 2, 3, 99


@dataclass
class Result:
    """How a step with a closure went: `opt.result`.

    `loss` and `grad_norm` (max |g|, of the projected gradient if there are bounds) belong to the last accepted point at
    which the closure was evaluated; `step` is the last step length t.  `reason` says in words why it stopped, and
    `converged` is True where a tolerance was met, or where 20 evaluations brought no lower loss.  `status` is that in
    scipy's numbers: 0 converged, 1 at a limit, 2 no further step, 3 not finite, 99 stopped by the callback.
    """

    iterations: int = 0
    evaluations: int = 0
    loss: float = math.nan
    grad_norm: float = math.nan
    step: float = 0.0
    converged: bool = False
    reason: str = "still running"
    status: int = -1

    def _repr_html_(self) -> str:
        return table("converged" if self.converged else "not converged", (), vars(self).items())


class Stop(Exception):  # noqa: N818 - the normal end of an iteration
    def __init__(self, reason: str, status: int = STUCK) -> None:
        self.reason, self.status = reason, status
