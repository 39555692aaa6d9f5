"""AdamP: Adam for weights whose scale has no effect."""

from __future__ import annotations

from math import sqrt
from typing import Any

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import OF_DECAY, decay_of
from ..engine.parameter import Parameter
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import EXACT
from ..native.runtime import power


class AdamP(RuleOptimizer):
    """AdamP (Heo et al. 2021): AdamW that doesn't let weights grow where a norm layer behind them undoes their scale.

        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * grad^2
        u = m / (sqrt(v) / sqrt(1 - beta2^t) + eps)     (nesterov: beta1 * m + (1 - beta1) * grad in place of m)
        if every row of p has |cos(p, grad)| < delta / sqrt(size of the row), or else p as a whole:
            q = p / (|p| + eps);  u = u - q * sum(q * u);  weight_decay = weight_decay * wd_ratio
        p = (1 - lr * weight_decay) * p - lr / (1 - beta1^t) * u

    Rows are those of the first axis: a layer's output channels.  Each has its own norm, sum and cosine; if one of them
    isn't nearly at right angles to its gradient, the whole tensor is tried.  Parameters with fewer than two axes are
    stepped as by AdamW.  The authors' rule, and timm's.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of the two means is kept in a step.
    eps: keeps the divisions finite.    weight_decay: see above.    delta: how near to a right angle; 0 never projects.
    wd_ratio: the share of the decay that a projected tensor has.    nesterov: see above.    maximize: ascends.
    cautious_weight_decay, corrected_weight_decay: modifiers, as in Adam.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (v).  A step takes two passes over the arrays, and some 200 bytes for
    each row.  Parameters whose rows don't lie side by side, such as F-ordered ones, are stepped in a copy.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> W = np.array([[1.0, 1.0], [2.0, 0.0]])
        >>> opt = ol.AdamP([W], lr=0.1)
        >>> opt.step(grads=[np.array([[1.0, -1.0], [0.0, 3.0]])])
        >>> W                                    # at right angles to what it was
        array([[ 0.9,  1.1],
               [ 2. , -0.1]])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "delta": nonnegative, "wd_ratio": nonnegative, "nesterov": flag, "maximize": flag, **OF_DECAY}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq")
    options = EXACT
    by_element = False
    line_states = ("exp_avg", "exp_avg_sq")      # laid out as rows are

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, delta: float = 0.1, wd_ratio: float = 0.1, nesterov: bool = False, *,
                 maximize: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, delta=delta,
                                      wd_ratio=wd_ratio, nesterov=nesterov, maximize=maximize,
                                      cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay))

    def rules(self, group: Group) -> tuple[Recipe, ...]:
        state = {"exp_avg": 0.0, "exp_avg_sq": 0.0}
        return ("adamp", state), ("adamp_vector", state)

    def which_rule(self, parameter: Parameter) -> int:
        return 0 if parameter.ndim > 1 else 1

    def rows_of(self, group: Group, parameter: Parameter) -> int:
        return len(parameter.data) if parameter.ndim > 1 else 1

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        lr, (beta1, beta2), decay = group["lr"], group["betas"], decay_of(group)
        rate = lr / (1.0 - power(beta1, t))
        return {
            "keep": 1.0 - lr * decay, "keep_projected": 1.0 - lr * decay * group["wd_ratio"],
            "along": 0.0, "delta": group["delta"], "least": group["eps"],
            "beta1": beta1, "fresh1": 1.0 - beta1,
            "beta2": beta2, "fresh2": 1.0 - beta2,
            "step_grad": rate * (1.0 - beta1) if group["nesterov"] else 0.0,
            "step_mean": rate * beta1 if group["nesterov"] else rate,
            "inv_root_bias2": 1.0 / sqrt(1.0 - power(beta2, t)),
            "eps": group["eps"],
        }
