"""ADOPT: Adam that divides by the second moments of the steps before."""

from __future__ import annotations

from math import inf
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, optional, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import real_power


class ADOPT(RuleOptimizer):
    """ADOPT (Taniguchi et al. 2024): Adam that converges for every beta2, since a gradient is not divided by itself.

        g = grad + weight_decay * p                     (decoupled: p = (1 - lr * weight_decay) * p instead)
        u = g / max(sqrt(v), eps), between -n^clip_exp and n^clip_exp   (n: steps before this one)
        m = beta1 * m + (1 - beta1) * u
        v = beta2 * v + (1 - beta2) * g^2
        p = p - lr * m

    The first step has no v to divide by: it sets v = g^2, and neither moves nor decays p.  `clip_exp=None` clips
    nothing.  The rule and the defaults are those of the authors' torch-adopt; timm's `clip_exp` is 0.333 by default.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of m and of v is kept in a step.    eps: the least that divides.
    clip_exp, decoupled_weight_decay: see above.    maximize: ascends.
    weight_decay: added to the gradient (L2), unless decoupled_weight_decay.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (v).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.ADOPT([w], lr=0.1)
        >>> for _ in range(2):
        ...     opt.step(grads=[2 * w])
        >>> w
        array([ 0.99, -1.99])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "clip_exp": optional(nonnegative),
              "weight_decay": nonnegative, "decoupled_weight_decay": flag, "maximize": flag, **MODIFIERS}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.9999), eps: float = 1e-6,
                 clip_exp: float | None = 0.25, weight_decay: float = 0, decoupled_weight_decay: bool = False, *,
                 maximize: bool = False, cautious: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False, max_update_rms: float | None = None,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, clip_exp=clip_exp, weight_decay=weight_decay,
                                      decoupled_weight_decay=decoupled_weight_decay, maximize=maximize,
                                      cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay,
                                      max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "adopt", {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def first_rule(self, group: Group) -> str | None:
        return "adopt_first"

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        before, limit = state["step"], group["clip_exp"]
        state["step"] = before + 1
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        decoupled = group["decoupled_weight_decay"]
        return {
            "l2": 0.0 if decoupled else decay,
            "keep": 1.0 - lr * decay_of(group) if decoupled and not first else 1.0,
            "beta1": beta1, "fresh1": 1.0 - beta1,
            "beta2": beta2, "fresh2": 1.0 - beta2,
            "lr": lr, "eps": group["eps"],
            "most": inf if limit is None else real_power(before, limit) if before else 0.0,
        }
