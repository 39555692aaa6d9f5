"""LAMB: Adam whose step is as large, relative to each tensor, as its rate says."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, optional, pair, positive
from ..engine.method import Group, Recipe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import power


class LAMB(RuleOptimizer):
    """LAMB (You et al. 2020), for large batches: each tensor moves by lr times its own norm.

        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * grad^2
        u = m / (1 - beta1^t) / (sqrt(v) / sqrt(1 - beta2^t) + eps) + weight_decay * p
        p = p - lr * |p| / |u| * u                      (norms of a whole tensor; 1 where either is 0)

    `always_adapt=False` leaves out |p| / |u| where `weight_decay` is 0, as timm does by default (for biases and norms
    in a group without decay).  `max_trust_ratio` bounds it (1: LAMBC).  `grad_averaging=False` adds grad itself to m.
    `bias_correction=False` leaves out the two powers.  Gradients are not clipped: the paper's and timm's clip to a
    global norm of 1 is `step(max_grad_norm=1.0)`.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate, the share of its norm by which a tensor moves.
    betas: how much of the two means is kept in a step.    eps: keeps the division finite.    weight_decay: see above.
    always_adapt, max_trust_ratio, grad_averaging, bias_correction: see above.    maximize: ascends.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (v).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, for betas outside [0, 1), and for a
    `max_trust_ratio` of 0.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.LAMB([w], lr=0.1, weight_decay=0)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.84188614, -1.8418861 ])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "always_adapt": flag, "max_trust_ratio": optional(positive), "grad_averaging": flag,
              "bias_correction": flag, "maximize": flag}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
                 weight_decay: float = 0.01, *, always_adapt: bool = True, max_trust_ratio: float | None = None,
                 grad_averaging: bool = True, bias_correction: bool = True, maximize: bool = False,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                                      always_adapt=always_adapt, max_trust_ratio=max_trust_ratio,
                                      grad_averaging=grad_averaging, bias_correction=bias_correction,
                                      maximize=maximize), **storage)

    def rule(self, group: Group) -> Recipe:
        return "lamb", {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        (beta1, beta2), decay, most = group["betas"], group["weight_decay"], group["max_trust_ratio"]
        corrected = group["bias_correction"]
        return {
            "beta1": beta1, "fresh1": 1.0 - beta1 if group["grad_averaging"] else 1.0,
            "beta2": beta2, "fresh2": 1.0 - beta2,
            "inv_bias1": 1.0 / (1.0 - power(beta1, t)) if corrected else 1.0,
            "inv_root_bias2": 1.0 / sqrt(1.0 - power(beta2, t)) if corrected else 1.0,
            "eps": group["eps"], "decay": decay,
            "lr": group["lr"], "most": inf if most is None else most,
            "adapts": float(group["always_adapt"] or decay != 0),
        }
