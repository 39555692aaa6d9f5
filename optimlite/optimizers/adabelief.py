"""AdaBelief: Adam whose steps are large where gradients are as expected."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import moments


class AdaBelief(RuleOptimizer):
    """AdaBelief (Zhuang et al. 2020): Adam with the mean of (grad - m)^2 in the place of grad^2's.

        m = beta1 * m + (1 - beta1) * grad
        s = beta2 * s + (1 - beta2) * (grad - m)^2 + eps
        p = (1 - lr * weight_decay) * p - lr / (1 - beta1^t) * m / (sqrt(s) / sqrt(1 - beta2^t) + eps)

    `eps` is added twice, and stays in s: it is much smaller than Adam's.  Steps are not rectified: timm's with
    `rectify=False`, and optax's, are the same.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of m and of s is kept in a step.    eps: see above.
    weight_decay: a step multiplies p by 1 - lr * weight_decay, beside the rest.    maximize: ascends.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_var` (s).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.AdaBelief([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.88888889, -1.88888889])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "maximize": flag, **MODIFIERS}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_var")

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-16,
                 weight_decay: float = 0, *, maximize: bool = False, cautious: bool = False,
                 cautious_weight_decay: bool = False, corrected_weight_decay: bool | float = False,
                 max_update_rms: float | None = None, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay,
                                      max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "adabelief", {"exp_avg": 0.0, "exp_avg_var": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        return {**moments(group["lr"], group["betas"], t), "keep": 1.0 - group["lr"] * decay_of(group),
                "eps": group["eps"]}
