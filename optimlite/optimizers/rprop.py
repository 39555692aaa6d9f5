"""Rprop: steps from the signs of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from ..checks import flag, interval, nonnegative, number, pair
from ..engine.method import Group, Recipe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage


class Rprop(RuleOptimizer):
    """Rprop (Riedmiller & Braun 1993): every element has its own step size; only the gradient's sign counts.

        size = clip(etas[1] * size, *step_sizes)        where grad * previous > 0
        size = clip(etas[0] * size, *step_sizes)        where grad * previous < 0; there g = 0, else g = grad
        p = p - sign(g) * size,  previous = g

    For gradients of whole batches: noise turns signs.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the first step size of each element; it has no effect later.
    etas: the factors that shrink and grow a step size.    step_sizes: its least and largest.    maximize: ascends.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `prev` (previous), `step_size` (size).
    Raises ValueError for a negative, NaN or infinite `lr`, unless 0 < etas[0] < 1 < etas[1], and for `step_sizes` that
    are negative or in the wrong order.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Rprop([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.9, -1.9])
    """

    checks = {"lr": nonnegative, "etas": pair(number), "step_sizes": pair(nonnegative), "maximize": flag}
    scalars = {"step": 0}
    state_names = ("step", "prev", "step_size")
    exact_states = ("step_size",)

    def __init__(self, params: Any, lr: float = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, maximize: bool = False,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, etas=etas, step_sizes=step_sizes, maximize=maximize), **storage)

    def check_together(self, group: Mapping[str, Any]) -> None:
        shrink, grow = group["etas"]
        interval(0, 1, closed="neither")("etas[0]", shrink)
        interval(1, closed="neither")("etas[1]", grow)
        least, most = group["step_sizes"]
        if least > most:
            raise ValueError(f"`step_sizes` must be (least, largest), got ({least}, {most})")

    def rule(self, group: Group) -> Recipe:
        return "rprop", {"prev": 0.0, "step_size": group["lr"]}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        state["step"] = state["step"] + 1
        (shrink, grow), (least, most) = group["etas"], group["step_sizes"]
        return {"shrink": shrink, "grow": grow, "least": least, "most": most}
