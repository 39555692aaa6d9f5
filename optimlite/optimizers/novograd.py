"""NovoGrad: momentum over gradients that are divided by the size of their whole tensor."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import OF_UPDATES
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage


class NovoGrad(RuleOptimizer):
    """NovoGrad (Ginsburg et al. 2019): Adam's second moments as one number for each tensor.

        v = beta2 * v + (1 - beta2) * |grad|^2          (norm of the whole tensor; while v is 0: v = |grad|^2)
        u = grad / (sqrt(v) + eps) + weight_decay * p   (grad_averaging: (1 - beta1) times as much)
        m = beta1 * m + u
        p = p - lr * m

    A tensor has half of Adam's state.  Without `grad_averaging` m is up to 1 / (1 - beta1) times as large as u, so a
    beta1 nearer to 1 acts as a larger lr.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of m and of v is kept in a step.    eps: keeps the division finite.
    weight_decay, grad_averaging: see above.    maximize: ascends.
    cautious, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `exp_avg` (m), `exp_avg_sq` (v, kept in float64).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for betas outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.NovoGrad([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.95527864, -1.91055728])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "grad_averaging": flag, "maximize": flag, **OF_UPDATES}
    scalars = {"exp_avg_sq": 0.0}                # which the rule moves
    state_names = ("exp_avg", "exp_avg_sq")

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.95, 0.98), eps: float = 1e-8,
                 weight_decay: float = 0, grad_averaging: bool = False, *, maximize: bool = False,
                 cautious: bool = False, max_update_rms: float | None = None, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                                      grad_averaging=grad_averaging, maximize=maximize, cautious=cautious,
                                      max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "novograd", {"exp_avg": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        beta1, beta2 = group["betas"]
        return {"size": 1.0, "decay": group["weight_decay"], "beta1": beta1,
                "fresh": 1.0 - beta1 if group["grad_averaging"] else 1.0, "lr": group["lr"],
                "beta2": beta2, "fresh2": 1.0 - beta2, "eps": group["eps"]}
