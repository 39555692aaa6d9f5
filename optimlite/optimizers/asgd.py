"""ASGD: averaged SGD."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, nonnegative, number
from ..engine.method import Group, Recipe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import COPIES, Storage
from ..native.runtime import real_power


class ASGD(RuleOptimizer):
    """Averaged SGD (Polyak & Juditsky 1992; Bottou 2010): decaying steps, and beside them the average of parameters.

        g = grad + weight_decay * p
        p = (1 - lambd * eta) * p - eta * g
        ax = ax + mu * (p - ax)
        eta = lr / (1 + lambd * lr * t)^alpha           (both for the next step; in the first eta = lr, mu = 1)
        mu = 1 / max(1, t - t0)

    The average is not written into the parameters: read it from `opt.state[p]["ax"]`.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate of the first step.    lambd: decays the parameters and the steps.    alpha: how eta falls.
    t0: the step at which averaging starts.    weight_decay: added to the gradient (L2).    maximize: ascends.

    storage: `master`, `rounding`, `seed`, `cast_grads`: see docs/memory.md.  `state_dtype` is refused: in bfloat16 the
        average's error would be several times as large.

    State: `step`, `eta`, `mu` (kept in float64), `ax`.
    Raises ValueError for `lr`, `lambd`, `alpha` or `weight_decay` that are negative, and for anything NaN or infinite.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.ASGD([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.79999, -1.59998])
        >>> opt.state[w]["ax"]
        array([ 0.79999, -1.59998])
    """

    checks = {"lr": nonnegative, "lambd": nonnegative, "alpha": nonnegative, "t0": number, "weight_decay": nonnegative,
              "maximize": flag}
    scalars = {"step": 0, "eta": 0.0, "mu": 1.0}
    state_names = ("step", "eta", "mu", "ax")
    options = COPIES

    def __init__(self, params: Any, lr: float = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
                 weight_decay: float = 0, *, maximize: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay,
                                      maximize=maximize), **storage)

    def rule(self, group: Group) -> Recipe:
        return "asgd", {"ax": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        lr, lambd = group["lr"], group["lambd"]
        eta, mu = state["eta"] if state["step"] else lr, state["mu"]
        t = state["step"] = state["step"] + 1
        state["eta"] = lr / real_power(1.0 + lambd * lr * t, group["alpha"])
        state["mu"] = 1.0 / max(1.0, t - group["t0"])
        return {"l2": group["weight_decay"], "shrink": 1.0 - lambd * eta, "eta": eta, "mu": mu}
