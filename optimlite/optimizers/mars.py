"""MARS: AdamW on gradients of smaller variance."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.parameter import Parameter
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import moments


class MARS(RuleOptimizer):
    """MARS (Yuan et al. 2024), MARS-AdamW: AdamW on gradients that the change since the step before corrects.

        c = grad + gamma * beta1 / (1 - beta1) * (grad - last)          (first step: c = grad)
        c = c / max(1, |c|)                             (norm of the whole tensor)
        m = beta1 * m + (1 - beta1) * c
        v = beta2 * v + (1 - beta2) * c^2
        p = (1 - lr * weight_decay) * p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    A parameter with fewer than two axes is stepped by AdamW with `betas_1d`, unless `optimize_1d`; a group of its own
    gives it another `lr` or `weight_decay`.  timm's rule: in the authors' code the first c is grad times
    1 + gamma * beta1 / (1 - beta1), and only matrices are corrected, not tensors of more than two axes.  `last` is the
    gradient of the step before, on its own data (the paper's approximate form).

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of m and of v is kept in a step.    eps: keeps the division finite.
    weight_decay: a step multiplies p by 1 - lr * weight_decay.    gamma: how much is corrected; 0: nothing.
    optimize_1d, betas_1d: see above.    maximize: ascends.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (v), and where gradients are corrected `last_grad`.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.MARS([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.9, -1.9])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "gamma": nonnegative, "optimize_1d": flag, "betas_1d": pair(fraction), "maximize": flag, **MODIFIERS}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq", "last_grad")
    fine_states = ("last_grad",)

    def __init__(self, params: Any, lr: float = 3e-3, betas: tuple[float, float] = (0.95, 0.99), eps: float = 1e-8,
                 weight_decay: float = 0, gamma: float = 0.025, optimize_1d: bool = False,
                 betas_1d: tuple[float, float] = (0.9, 0.95), *, maximize: bool = False, cautious: bool = False,
                 cautious_weight_decay: bool = False, corrected_weight_decay: bool | float = False,
                 max_update_rms: float | None = None, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, gamma=gamma,
                                      optimize_1d=optimize_1d, betas_1d=betas_1d, maximize=maximize, cautious=cautious,
                                      cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay,
                                      max_update_rms=max_update_rms), **storage)

    def rules(self, group: Group) -> tuple[Recipe, ...]:
        corrected: Recipe = "mars", {"exp_avg": 0.0, "exp_avg_sq": 0.0, "last_grad": 0.0}
        return corrected, corrected if group["optimize_1d"] else ("mars_vector", {"exp_avg": 0.0, "exp_avg_sq": 0.0})

    def which_rule(self, parameter: Parameter) -> int:
        return 0 if parameter.ndim > 1 else 1

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        lr, beta1 = group["lr"], group["betas"][0]
        return {
            **moments(lr, group["betas"], t),
            **{f"{name}_1d": value for name, value in moments(lr, group["betas_1d"], t).items()},
            "keep": 1.0 - lr * decay_of(group), "eps": group["eps"],
            "norm": 1.0, "change": 0.0 if first else group["gamma"] * beta1 / (1.0 - beta1),
        }
