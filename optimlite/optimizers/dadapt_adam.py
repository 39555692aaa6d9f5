"""Adam with D-Adaptation."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, pair, positive
from ..engine.method import Group, Recipe
from ..engine.storage import Storage
from .one_distance import STILL, OneDistance, bias_correction, growth_limit


class DAdaptAdam(OneDistance):
    """Adam with D-Adaptation (Defazio & Mishchenko 2023): its rate is d, a lower bound of the distance to the solution.

        rate = lr * d                        (use_bias_correction: times sqrt(1 - beta2^t) / (1 - beta1^t))
        n = beta3 * n + (1 - beta3) * rate * <grad, s / (sqrt(v) + eps)>    (over all groups; beta3 = sqrt(beta2))
        m = beta1 * m + (1 - beta1) * rate * grad
        v = beta2 * v + (1 - beta2) * grad^2
        s = beta3 * s + (1 - beta3) * rate * grad
        p = (1 - rate * weight_decay) * p - m / (sqrt(v) + eps)
        d = max(d, min(n / ((1 - beta3) * |s|_1), growth_rate * d))         (for the next step)

    Leave `lr` at 1, or let a schedule multiply it; it must be the same in all groups, or 0, which holds a group still.
    `layer_scale` may differ: it multiplies rate in n and m, and a group's |s|_1, but neither s nor the decay.  A step
    whose |s|_1 is 0 moves no parameter.  `decouple=False` adds the decay to the gradient.  `maximize` ascends.

    dadaptation's rule and defaults.  There, a group whose lr is 0 decays, and goes on with its old moments; and the
    groups count steps.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: a factor of d.    betas: how much of m and of v is kept in a step.    eps: keeps divisions finite.
    weight_decay, decouple: see above.    use_bias_correction: see rate.    layer_scale: see above.
    d0, growth_rate: the first d, and how much it may grow in a step.    maximize: ascends.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `s`, `exp_avg` (m), `exp_avg_sq` (v); in every group `d`, `numerator_weighted` (n).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, for betas outside [0, 1), a `growth_rate`
    below 1, a `d0` or a `layer_scale` of 0, and in a step for groups that differ in what moves d.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.DAdaptAdam([w])
        >>> for _ in range(100):
        ...     opt.step(grads=[2 * w])
        >>> w.round(2)
        array([-0.  , -0.01])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "decouple": flag, "use_bias_correction": flag, "d0": positive, "growth_rate": growth_limit,
              "layer_scale": positive, "maximize": flag}
    scalars = {"step": 0}
    state_names = ("step", "s", "exp_avg", "exp_avg_sq")
    of_all = ("betas", "d0", "growth_rate")

    def __init__(self, params: Any, lr: float = 1.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, decouple: bool = False, use_bias_correction: bool = False,
                 d0: float = 1e-6, growth_rate: float = inf, *, layer_scale: float = 1.0,
                 maximize: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, decouple=decouple,
                                      use_bias_correction=use_bias_correction, d0=d0, growth_rate=growth_rate,
                                      layer_scale=layer_scale, maximize=maximize), **storage)

    def rule(self, group: Group) -> Recipe:
        return "dadapt_adam", {"s": 0.0, "exp_avg": 0.0, "exp_avg_sq": 0.0}

    def totals(self, group: Group) -> dict[str, float]:
        return {"d": group["d0"], "numerator_weighted": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        d, decay, scale = self.distance(group), group["weight_decay"], group["layer_scale"]
        t = state["step"] = state["step"] + 1
        beta1, beta2 = group["betas"]
        beta3 = sqrt(beta2)
        rate = d * group["lr"] * bias_correction(group, t)
        found = {
            "l2": 0.0 if group["decouple"] else decay, "keep": 1.0 - rate * decay if group["decouple"] else 1.0,
            "eps": group["eps"], "gain": scale * rate, "counts": scale, "moves": 1.0,
            "beta1": beta1, "fresh1": scale * rate * (1.0 - beta1), "beta2": beta2, "fresh2": 1.0 - beta2,
            "beta3": beta3, "fresh3": rate * (1.0 - beta3),
            "keep_numerator": beta3, "fresh_numerator": 1.0 - beta3, "growth_rate": group["growth_rate"],
        }
        return found if group["lr"] else {**found, **STILL, "moves": 0.0}
