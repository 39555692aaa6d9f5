"""StableAdamW: AdamW without loss spikes."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import OF_DECAY, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import power


class StableAdamW(RuleOptimizer):
    """StableAdamW (Wortsman et al. 2023): AdamW whose step shrinks where gradients outgrow their second moments.

        m = beta1 * m + (1 - beta1) * grad;   m' = m / (1 - beta1^t)
        v = beta2 * v + (1 - beta2) * grad^2; v' = v / (1 - beta2^t)
        lr' = lr / max(1, sqrt(mean(grad^2 / max(v', eps^2))))          (the mean over a tensor, as in Adafactor)
        p = (1 - lr' * weight_decay) * p - lr' * m' / (sqrt(v') + eps)

    Takes the place of clipping gradients.  torch-optimi's rule; its `exp_avg` and `exp_avg_sq` are m' and v'.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of the two means is kept in a step.    eps: keeps the division finite.
    weight_decay: a step multiplies p by 1 - lr' * weight_decay, beside the rest.    maximize: ascends.
    cautious, cautious_weight_decay, corrected_weight_decay: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (v), as AdamW's.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.StableAdamW([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.89900005, -1.89800002])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "maximize": flag, "cautious": flag, **OF_DECAY}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-6,
                 weight_decay: float = 0.01, *, maximize: bool = False, cautious: bool = False,
                 cautious_weight_decay: bool = False, corrected_weight_decay: bool | float = False,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay), **storage)

    def rule(self, group: Group) -> Recipe:
        return "stable_adamw", {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        (beta1, beta2), eps = group["betas"], group["eps"]
        return {
            "beta1": beta1, "fresh1": 1.0 - beta1, "beta2": beta2, "fresh2": 1.0 - beta2,
            "inv_bias1": 1.0 / (1.0 - power(beta1, t)), "inv_bias2": 1.0 / (1.0 - power(beta2, t)),
            "eps": eps, "eps_squared": eps * eps,
            "lr": group["lr"], "decay": decay_of(group),
        }
