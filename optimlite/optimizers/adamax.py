"""Adamax: Adam by the infinity norm."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import OF_UPDATES
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import power


class Adamax(RuleOptimizer):
    """Adamax (Kingma & Ba 2015, section 7.1): Adam with a decaying maximum in place of the root mean square.

        g = grad + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, abs(g) + eps)
        p = p - lr / (1 - beta1^t) * m / u

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of the mean and of the maximum is kept in a step.
    eps: keeps the division finite.    weight_decay: added to the gradient (L2).    maximize: ascends.
    cautious, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_inf` (u).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Adamax([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.9, -1.9])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "maximize": flag, **OF_UPDATES}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_inf")

    def __init__(self, params: Any, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, *, maximize: bool = False, cautious: bool = False,
                 max_update_rms: float | None = None, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      cautious=cautious, max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "adamax", {"exp_avg": 0.0, "exp_inf": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        beta1, beta2 = group["betas"]
        return {"l2": group["weight_decay"], "eps": group["eps"],
                "beta1": beta1, "fresh1": 1.0 - beta1, "beta2": beta2,
                "step_size": group["lr"] / (1.0 - power(beta1, t))}
