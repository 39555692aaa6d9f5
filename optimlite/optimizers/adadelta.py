"""Adadelta."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, interval, nonnegative
from ..engine.method import Group, Recipe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage


class Adadelta(RuleOptimizer):
    """Adadelta (Zeiler 2012): steps in the units of the parameter, from the running mean of its own squared steps.

        g = grad + weight_decay * p
        v = rho * v + (1 - rho) * g^2
        d = sqrt(u + eps) / sqrt(v + eps) * g
        u = rho * u + (1 - rho) * d^2
        p = p - lr * d

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: a factor on steps that have their own scale, usually 1.    rho: how much of the two means is kept in a step.
    eps: sets the size of the first steps.    weight_decay: added to the gradient (L2).    maximize: ascends.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `square_avg` (v), `acc_delta` (u).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for `rho` outside [0, 1].

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Adadelta([w])
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.99683773, -1.99683772])
    """

    checks = {"lr": nonnegative, "rho": interval(0, 1), "eps": nonnegative, "weight_decay": nonnegative,
              "maximize": flag}
    scalars = {"step": 0}
    state_names = ("step", "square_avg", "acc_delta")

    def __init__(self, params: Any, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0, *,
                 maximize: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize), **storage)

    def rule(self, group: Group) -> Recipe:
        return "adadelta", {"square_avg": 0.0, "acc_delta": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        state["step"] = state["step"] + 1
        return {"l2": group["weight_decay"], "lr": group["lr"], "eps": group["eps"],
                "rho": group["rho"], "fresh": 1.0 - group["rho"]}
