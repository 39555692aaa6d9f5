"""Adan: Adam with Nesterov's momentum, by differences of gradients."""

from __future__ import annotations

from math import sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, triple
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import power


class Adan(RuleOptimizer):
    """Adan (Xie et al. 2022): Adam that looks ahead by the change of the gradient, as Nesterov's momentum does.

        c = grad - (grad of the step before)            (0 in the first step)
        m = beta1 * m + (1 - beta1) * grad
        d = beta2 * d + (1 - beta2) * c
        n = beta3 * n + (1 - beta3) * (grad + beta2 * c)^2
        u = (m / (1 - beta1^t) + beta2 * d / (1 - beta2^t)) / (sqrt(n) / sqrt(1 - beta3^t) + eps)
        p = (p - lr * u) / (1 + lr * weight_decay)      (no_prox: (1 - lr * weight_decay) * p - lr * u)

    The authors' rule, and timm's: optax 0.2.8 multiplies c and d by 1 - beta2 instead, and so looks ahead by 0.08 of
    the change (the paper's own betas are 1 - these).  t counts the steps of each parameter, where the others count
    those of a group.  Gradients are not clipped: the authors' `max_grad_norm` is `step(max_grad_norm=...)`.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of m, d and n is kept in a step.    eps: keeps the division finite.
    weight_decay: a step divides p by 1 + lr * weight_decay.    no_prox: see above.    maximize: ascends.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam; cautious decay
        doesn't divide lr * u.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (n), `exp_avg_diff` (d), and `neg_pre_grad`, the gradient of the step
    before, negated.  Together twice Adam's.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Adan([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.9, -1.9])
    """

    checks = {"lr": nonnegative, "betas": triple(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "no_prox": flag, "maximize": flag, **MODIFIERS}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq", "exp_avg_diff", "neg_pre_grad")
    fine_states = ("neg_pre_grad",)

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
                 eps: float = 1e-8, weight_decay: float = 0, no_prox: bool = False, *, maximize: bool = False,
                 cautious: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False, max_update_rms: float | None = None,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, no_prox=no_prox,
                                      maximize=maximize, cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay,
                                      max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "adan", {"exp_avg": 0.0, "exp_avg_sq": 0.0, "exp_avg_diff": 0.0, "neg_pre_grad": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        (beta1, beta2, beta3), shrink = group["betas"], group["lr"] * decay_of(group)
        keep = 1.0 - shrink if group["no_prox"] else 1.0 / (1.0 + shrink)
        lr = group["lr"] if group["no_prox"] or group["cautious_weight_decay"] else group["lr"] * keep
        return {
            "keep": keep,
            "beta1": beta1, "fresh1": 1.0 - beta1,
            "beta2": beta2, "fresh2": 1.0 - beta2,
            "beta3": beta3, "fresh3": 1.0 - beta3,
            "step_mean": lr / (1.0 - power(beta1, t)),
            "step_change": lr * beta2 / (1.0 - power(beta2, t)),
            "inv_root_bias3": 1.0 / sqrt(1.0 - power(beta3, t)),
            "eps": group["eps"],
            "seen": float(not first),
        }
