"""LaProp: momentum of adapted gradients."""

from __future__ import annotations

from math import sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import power


class LaProp(RuleOptimizer):
    """LaProp (Ziyin, Wang & Ueda 2020): Adam with momentum of what it divides, rather than of the gradient.

        v = beta2 * v + (1 - beta2) * grad^2
        m = beta1 * m + (1 - beta1) * lr * grad / (sqrt(v) / sqrt(1 - beta2^t) + eps)
        l = beta1 * l + (1 - beta1) * lr                (lr * (1 - beta1^t), as long as lr stays the same)
        p = (1 - lr * weight_decay) * (p - lr / l * m)

    timm's rule, and the authors': a learning rate enters the momentum with its gradient, and p decays after its step.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of m and of v is kept in a step.    eps: keeps the division finite.
    weight_decay: a step multiplies p by 1 - lr * weight_decay.    maximize: ascends.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam; cautious decay
        comes before the step.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (v), `exp_avg_lr_1` (l).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.LaProp([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.9, -1.9])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "maximize": flag, **MODIFIERS}
    scalars = {"step": 0, "exp_avg_lr_1": 0.0}
    state_names = ("step", "exp_avg", "exp_avg_sq", "exp_avg_lr_1")

    def __init__(self, params: Any, lr: float = 4e-4, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-15,
                 weight_decay: float = 0, *, maximize: bool = False, cautious: bool = False,
                 cautious_weight_decay: bool = False, corrected_weight_decay: bool | float = False,
                 max_update_rms: float | None = None, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay,
                                      max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "laprop", {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        lr, (beta1, beta2) = group["lr"], group["betas"]
        fresh1, keep = (1.0 - beta1) * lr, 1.0 - lr * decay_of(group)
        average = state["exp_avg_lr_1"] = beta1 * state["exp_avg_lr_1"] + fresh1
        return {
            "keep": keep,
            "beta1": beta1, "fresh1": fresh1,
            "beta2": beta2, "fresh2": 1.0 - beta2,
            "inv_root_bias2": 1.0 / sqrt(1.0 - power(beta2, t)),
            "eps": group["eps"],
            "size": (1.0 if group["cautious_weight_decay"] else keep) * (lr / average) if average else 0.0,
        }
