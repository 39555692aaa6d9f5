"""Lion: every element moves by the learning rate."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage


class Lion(RuleOptimizer):
    """Lion (Chen et al. 2023): the sign of a momentum, so that every element moves by lr, whatever the gradient's size.

        u = sign(beta1 * m + (1 - beta1) * grad)        (0 where that is 0)
        m = beta2 * m + (1 - beta2) * grad
        p = (1 - lr * weight_decay) * p - lr * u

    The paper advises an `lr` that is 3 to 10 times smaller than AdamW's, and a `weight_decay` as much larger.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: what every element moves by.    betas: how much of m is kept in u, and in m.
    weight_decay: a step multiplies p by 1 - lr * weight_decay.    maximize: ascends.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `exp_avg` (m), half of Adam's.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Lion([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.9, -1.9])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "weight_decay": nonnegative, "maximize": flag, **MODIFIERS}
    state_names = ("exp_avg",)

    def __init__(self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0,
                 *, maximize: bool = False, cautious: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False, max_update_rms: float | None = None,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize,
                                      cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay,
                                      max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "lion", {"exp_avg": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        return {"keep": 1.0 - lr * decay_of(group), "beta1": beta1, "fresh1": 1.0 - beta1,
                "beta2": beta2, "fresh2": 1.0 - beta2, "lr": lr}
