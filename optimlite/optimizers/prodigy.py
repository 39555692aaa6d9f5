"""Prodigy: Adam that finds its rate."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, optional, pair, positive
from ..engine.method import Group, Recipe
from ..engine.storage import Storage
from .one_distance import STILL, OneDistance, bias_correction, growth_limit


class Prodigy(OneDistance):
    """Prodigy (Mishchenko & Defazio 2023): Adam whose rate is d, the distance to the solution, as far as it shows.

        rate = lr * d                        (use_bias_correction: times sqrt(1 - beta2^t) / (1 - beta1^t))
        m = beta1 * m + (1 - beta1) * d * grad
        v = beta2 * v + (1 - beta2) * (d * grad)^2
        s = beta3 * s + d / d0 * rate * grad                (safeguard_warmup: d / d0 * d * grad)
        n = beta3 * n + d / d0 * rate * <grad, p0 - p>      (a sum over all groups; p0: the parameters at the start)
        d' = the largest d_coef * n / |s|_1 so far; the first above d0 at once, then at most d * growth_rate
        p = (1 - rate * weight_decay) * p - rate * m / (sqrt(v) + d' * eps)

    Leave `lr` at 1, or let a schedule multiply it; it must be the same in all groups, or 0, which holds a group still.
    Tune `d_coef` instead.  A step whose |s|_1 is 0, as where all gradients have been, moves no parameter.
    `beta3=None` is sqrt(beta2).  `safeguard_warmup` is for warm-ups of `lr`.  `decouple=False` adds the decay to the
    gradient.  `maximize` ascends.

    prodigyopt's rule and defaults, with `slice_p=1` alone.  There, a group whose lr is 0 decays, and goes on with its
    old moments; and the groups count steps.  A sum over all tensors rounds as the order of its terms.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: a factor of d.    betas, beta3: how much of m, of v, and of s and n is kept in a step.    eps: see above.
    weight_decay, decouple: see above.    use_bias_correction, safeguard_warmup: see rate and s.
    d0, d_coef, growth_rate: the first d, a factor of those found, and how much d may grow in a step.
    maximize: ascends, as if grad were negated.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `s`, `p0`, `exp_avg` (m), `exp_avg_sq` (v); in every group `d`, `d_numerator` (n), `d_max`.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, for betas outside [0, 1), a `growth_rate`
    below 1, a `d0` or a `d_coef` of 0, and in a step for groups that differ in betas, beta3, d0, d_coef or growth_rate.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Prodigy([w])
        >>> for _ in range(100):
        ...     opt.step(grads=[2 * w])
        >>> w.round(2)
        array([0.01, 0.01])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "beta3": optional(fraction), "eps": nonnegative,
              "weight_decay": nonnegative, "decouple": flag, "use_bias_correction": flag, "safeguard_warmup": flag,
              "d0": positive, "d_coef": positive, "growth_rate": growth_limit, "maximize": flag}
    scalars = {"step": 0}
    state_names = ("step", "s", "p0", "exp_avg", "exp_avg_sq")
    exact_states = ("p0",)
    of_all = ("betas", "beta3", "d0", "d_coef", "growth_rate")

    def __init__(self, params: Any, lr: float = 1.0, betas: tuple[float, float] = (0.9, 0.999),
                 beta3: float | None = None, eps: float = 1e-8, weight_decay: float = 0, decouple: bool = True,
                 use_bias_correction: bool = False, safeguard_warmup: bool = False, d0: float = 1e-6,
                 d_coef: float = 1.0, growth_rate: float = inf, *, maximize: bool = False,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, beta3=beta3, eps=eps, weight_decay=weight_decay,
                                      decouple=decouple, use_bias_correction=use_bias_correction,
                                      safeguard_warmup=safeguard_warmup, d0=d0, d_coef=d_coef,
                                      growth_rate=growth_rate, maximize=maximize), **storage)

    def rule(self, group: Group) -> Recipe:
        return "prodigy", {"s": 0.0, "p0": 0.0, "exp_avg": 0.0, "exp_avg_sq": 0.0}

    def totals(self, group: Group) -> dict[str, float]:
        return {"d": group["d0"], "d_numerator": 0.0, "d_max": group["d0"]}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        d, decay = self.distance(group), group["weight_decay"]
        t = state["step"] = state["step"] + 1
        beta1, beta2 = group["betas"]
        beta3 = sqrt(beta2) if group["beta3"] is None else group["beta3"]
        rate = d * group["lr"] * bias_correction(group, t)
        gain = d / group["d0"] * rate
        found = {
            "l2": 0.0 if group["decouple"] else decay, "keep": 1.0 - rate * decay if group["decouple"] else 1.0,
            "d_eps": 0.0, "first": float(first), "rate": rate, "gain": gain, "counts": 1.0,
            "beta1": beta1, "fresh1": d * (1.0 - beta1), "beta2": beta2, "fresh2": d * d * (1.0 - beta2),
            "beta3": beta3, "fresh3": d / group["d0"] * d if group["safeguard_warmup"] else gain,
            "keep_numerator": beta3, "d0": group["d0"], "d_coef": group["d_coef"],
            "growth_rate": group["growth_rate"], "eps": group["eps"],
        }
        return found if group["lr"] else {**found, **STILL}
