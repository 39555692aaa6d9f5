"""SparseAdam: Adam for tables of which each step touches few rows."""

from __future__ import annotations

from math import sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, pair, positive
from ..engine.method import Group, Recipe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import power


class SparseAdam(RuleOptimizer):
    """Adam on the rows that a sparse gradient touches (PyTorch's "lazy" variant of Kingma & Ba 2015).

        m = beta1 * m + (1 - beta1) * grad              in the touched rows; all others keep their moments
        v = beta2 * v + (1 - beta2) * grad^2
        p = p - lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)

    Gradients are SparseGrads; a step costs the rows touched, whatever the size of the table.  t counts the steps of the
    whole table, those with an empty gradient too.  `eps` stands beside sqrt(v) without bias correction: its effect is
    larger than in Adam during the first steps.

    params: the tables to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of the two means is kept in a step.    eps: see above.
    maximize: ascends.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (v), which have the table's shape.
    Raises ValueError for `lr` or `eps` that isn't above 0 and betas outside [0, 1), TypeError for a dense gradient.

        >>> table = np.zeros((4, 2))
        >>> opt = ol.SparseAdam([table], lr=0.1)
        >>> opt.step(grads=[ol.SparseGrad([2], np.ones((1, 2)))])
        >>> table[2]
        array([-0.09999997, -0.09999997])
    """

    checks = {"lr": positive, "betas": pair(fraction), "eps": positive, "maximize": flag}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq")
    accepts_dense = takes_halves = False

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 maximize: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, maximize=maximize), **storage)

    def rule(self, group: Group) -> Recipe:
        return "adam", {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def leaves_zero_rows_unchanged(self, group: Group) -> bool:
        return True

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        beta1, beta2 = group["betas"]
        return {
            "keep": 1.0,
            "beta1": beta1, "fresh1": 1.0 - beta1,
            "beta2": beta2, "fresh2": 1.0 - beta2,
            "step_size": group["lr"] * sqrt(1.0 - power(beta2, t)) / (1.0 - power(beta1, t)),
            "inv_root_bias2": 1.0,
            "eps": group["eps"], "eps_root": 0.0,
        }
