"""RAdam: Adam with a rectified learning rate."""

from __future__ import annotations

from math import sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import power


class RAdam(RuleOptimizer):
    """RAdam (Liu et al. 2020): Adam whose first steps are plain momentum, until the variance of its rate is tractable.

        g = grad + weight_decay * p                     (decoupled: p = (1 - lr * weight_decay) * p instead)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        rho = r - 2 * t * beta2^t / (1 - beta2^t),  r = 2 / (1 - beta2) - 1
        p = p - lr / (1 - beta1^t) * m * [rho > 5: sqrt((rho - 4) * (rho - 2) * r / ((r - 4) * (r - 2) * rho))
                                                   * sqrt(1 - beta2^t) / (sqrt(v) + eps)]

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of the two means is kept in a step.    eps: keeps the division finite.
    weight_decay: added to the gradient (L2), unless decoupled_weight_decay.    maximize: ascends.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (v).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.RAdam([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.8, -1.6])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "decoupled_weight_decay": flag, "maximize": flag, **MODIFIERS}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, decoupled_weight_decay: bool = False, *, maximize: bool = False,
                 cautious: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False, max_update_rms: float | None = None,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                                      decoupled_weight_decay=decoupled_weight_decay, maximize=maximize,
                                      cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay,
                                      max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "radam", {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        decoupled = group["decoupled_weight_decay"]
        factor = sqrt(rectification(beta2, t) * (1.0 - power(beta2, t)))         # with v's bias correction
        return {
            "l2": 0.0 if decoupled else decay,
            "keep": 1.0 - lr * decay_of(group) if decoupled else 1.0,
            "beta1": beta1, "fresh1": 1.0 - beta1,
            "beta2": beta2, "fresh2": 1.0 - beta2,
            "step_size": lr / (1.0 - power(beta1, t)) * (factor or 1.0),
            "rectified": float(factor > 0.0),
            "eps": group["eps"],
        }


def rectification(beta2: float, t: int, tractable: float = 5.0) -> float:
    """The square of what multiplies the rate in step t; 0 while the variance is intractable.

    `tractable`: the length of the averaged past from which on the variance of 1 / sqrt(v) is used; torch's by default.
    """
    past = power(beta2, t)
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * t * past / (1.0 - past)
    if length <= tractable:
        return 0.0
    return (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
