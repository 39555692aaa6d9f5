"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from math import sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import power, real_power


class NAdam(RuleOptimizer):
    """NAdam (Dozat 2016): Adam with Nesterov's momentum, whose weight warms up.

        g = grad + weight_decay * p                     (decoupled: p = (1 - lr * weight_decay) * p instead)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2),   P_t = mu_1 * ... * mu_t
        p = p - lr * ((1 - mu_t) / (1 - P_t) * g + mu_(t+1) / (1 - P_(t+1)) * m) / (sqrt(v / (1 - beta2^t)) + eps)

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of the two means is kept in a step.    eps: keeps the division finite.
    weight_decay: added to the gradient (L2), unless decoupled_weight_decay.
    momentum_decay: how quickly mu_t rises from beta1 / 2 to beta1.    maximize: ascends.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `mu_product` (P_t, kept in float64), `exp_avg` (m), `exp_avg_sq` (v).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.NAdam([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.89435482, -1.89435482])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "momentum_decay": nonnegative, "decoupled_weight_decay": flag, "maximize": flag, **MODIFIERS}
    scalars = {"step": 0, "mu_product": 1.0}
    state_names = ("step", "mu_product", "exp_avg", "exp_avg_sq")

    def __init__(self, params: Any, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
                 maximize: bool = False, cautious: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False, max_update_rms: float | None = None,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                                      momentum_decay=momentum_decay, decoupled_weight_decay=decoupled_weight_decay,
                                      maximize=maximize, cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay,
                                      max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "nadam", {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        decoupled = group["decoupled_weight_decay"]
        mu = beta1 * (1.0 - 0.5 * real_power(0.96, t * group["momentum_decay"]))
        mu_next = beta1 * (1.0 - 0.5 * real_power(0.96, (t + 1) * group["momentum_decay"]))
        product = state["mu_product"] = state["mu_product"] * mu
        return {
            "l2": 0.0 if decoupled else decay,
            "keep": 1.0 - lr * decay_of(group) if decoupled else 1.0,
            "beta1": beta1, "fresh1": 1.0 - beta1,
            "beta2": beta2, "fresh2": 1.0 - beta2,
            "step_grad": lr * (1.0 - mu) / (1.0 - product),
            "step_mean": lr * mu_next / (1.0 - product * mu_next),
            "inv_root_bias2": 1.0 / sqrt(1.0 - power(beta2, t)),
            "eps": group["eps"],
        }
