"""AdEMAMix: Adam with a second, much slower momentum."""

from __future__ import annotations

from math import sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, optional_count, triple
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import power, real_log, real_power


class AdEMAMix(RuleOptimizer):
    """AdEMAMix (Pagliardini, Ablin & Grangier 2024): AdamW with a fast and a slow momentum, mixed.

        m1 = beta1 * m1 + (1 - beta1) * grad
        m2 = b * m2 + (1 - b) * grad                    (b: beta3, or on its way there)
        v = beta2 * v + (1 - beta2) * grad^2
        u = (m1 / (1 - beta1^t) + a * m2) / (sqrt(v) / sqrt(1 - beta2^t) + eps)        (a: alpha, or on its way there)
        p = (1 - lr * weight_decay) * p - lr * u

    m2 is without bias correction.  Both warm-ups are numbers of steps, or None for none: a grows from 0, and the
    half-life of b, log(1/2) / log(b), from that of beta1, both linearly in t.  These are the paper's formulas, as in
    pytorch-optimizer; the authors' code adds 1e-8 to a beta within its logarithm.  `alpha` is 2 as in the authors'
    code, where optax and pytorch-optimizer have 5.  A beta3 of 0.9999 forgets in 10,000 steps: short runs want a
    smaller one.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of m1, v and m2 is kept in a step.    eps: keeps the division finite.
    alpha: the weight of m2.    beta3_warmup, alpha_warmup: see above.    maximize: ascends.
    weight_decay: a step multiplies p by 1 - lr * weight_decay.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg_fast` (m1), `exp_avg_slow` (m2), `exp_avg_sq` (v).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, for betas outside [0, 1), and for a
    warm-up below 1.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.AdEMAMix([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.89998, -1.89998])
    """

    checks = {"lr": nonnegative, "betas": triple(fraction), "alpha": nonnegative, "beta3_warmup": optional_count,
              "alpha_warmup": optional_count, "eps": nonnegative, "weight_decay": nonnegative, "maximize": flag,
              **MODIFIERS}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg_fast", "exp_avg_slow", "exp_avg_sq")

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
                 alpha: float = 2.0, beta3_warmup: int | None = None, alpha_warmup: int | None = None,
                 eps: float = 1e-8, weight_decay: float = 0, *, maximize: bool = False, cautious: bool = False,
                 cautious_weight_decay: bool = False, corrected_weight_decay: bool | float = False,
                 max_update_rms: float | None = None, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, alpha=alpha, beta3_warmup=beta3_warmup,
                                      alpha_warmup=alpha_warmup, eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay,
                                      max_update_rms=max_update_rms), **storage)

    def rule(self, group: Group) -> Recipe:
        return "ademamix", {"exp_avg_fast": 0.0, "exp_avg_slow": 0.0, "exp_avg_sq": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        lr, (beta1, beta2, last) = group["lr"], group["betas"]
        beta3 = beta_on_its_way(beta1, last, share(t, group["beta3_warmup"]))
        return {
            "keep": 1.0 - lr * decay_of(group),
            "beta1": beta1, "fresh1": 1.0 - beta1,
            "beta2": beta2, "fresh2": 1.0 - beta2,
            "beta3": beta3, "fresh3": 1.0 - beta3,
            "step_fast": lr / (1.0 - power(beta1, t)),
            "step_slow": lr * (group["alpha"] * share(t, group["alpha_warmup"])),
            "inv_root_bias2": 1.0 / sqrt(1.0 - power(beta2, t)),
            "eps": group["eps"],
        }


def share(t: int, warmup: int | None) -> float:
    """How much of a warm-up is done."""
    return 1.0 if warmup is None else min(t / warmup, 1.0)


def beta_on_its_way(start: float, end: float, share: float) -> float:
    """The beta whose half-life is the mean of those of `start` and `end`, weighted by `share` > 0; at most `end`."""
    if share == 1.0 or start >= end:
        return end
    if start == 0.0:                             # a half-life of 0
        return real_power(end, 1.0 / share)
    first, last = real_log(start), real_log(end)
    return real_power(end, first / ((1.0 - share) * last + share * first))
