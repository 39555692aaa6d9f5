"""Adam and AdamW, with AMSGrad."""

from __future__ import annotations

from math import sqrt
from typing import Any, Unpack

from ..checks import flag, fraction, nonnegative, optional, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import moments, power


class Adam(RuleOptimizer):
    """Adam (Kingma & Ba 2015), with AMSGrad (Reddi et al. 2018) as an option.

        g = grad + weight_decay * p                     (decoupled: p = (1 - lr * weight_decay) * p instead)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2               (amsgrad: v below is the largest so far)
        p = p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    Modifiers, which many optimizers have.  The first and the last cost another pass over the arrays.

    - `cautious` (Liang et al. 2024) takes an element's update u only where it has the gradient's sign, and divides a
      tensor's updates by the share of such elements (at least 1e-3), as timm's `caution`.
    - `max_update_rms` = d divides a tensor's u by max(1, rms(u) / (lr * d)), as Adafactor does (Shazeer & Stern 2018)
      and PSGD; u is what a step subtracts, after `cautious`.  StableAdamW's limit is one of gradients.
    - `cautious_weight_decay` (Chen et al. 2025) lets only elements decay whose u * p > 0: those that u makes smaller.
    - `corrected_weight_decay` (Defazio 2025) decays by lr^2 / largest_lr * weight_decay, so that the norms that decay
      and steps balance at don't follow a schedule.  True: the group's `lr` at that moment is the largest one, and takes
      the place of True in the group; else a number.

    `eps_root` joins v within the root, sqrt(v / (1 - beta2^t) + eps_root), as in optax.  `uncorrected_eps` leaves eps
    out of the bias correction, as scikit-learn and older codes do (the paper's "epsilon hat"): the step is
    lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps), and eps counts for more in the first steps.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate, about the most that an element moves in a step.
    betas: how much of the two means is kept in a step.    eps: keeps the division finite.
    weight_decay: added to the gradient (L2), unless decoupled_weight_decay, as in AdamW.    amsgrad: see above.
    maximize: ascends, as if grad were negated.    eps_root, uncorrected_eps: see above.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: see above.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `exp_avg` (m), `exp_avg_sq` (v), and with amsgrad `max_exp_avg_sq`.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, for betas outside [0, 1), for a
    `max_update_rms` of 0, and for modifiers of a decay that isn't decoupled.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Adam([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.9, -1.9])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "amsgrad": flag, "maximize": flag, "decoupled_weight_decay": flag, "eps_root": optional(nonnegative),
              "uncorrected_eps": flag, **MODIFIERS}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False,
                 decoupled_weight_decay: bool = False, cautious: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False, max_update_rms: float | None = None,
                 eps_root: float | None = None, uncorrected_eps: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                                      maximize=maximize, decoupled_weight_decay=decoupled_weight_decay,
                                      cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay, max_update_rms=max_update_rms,
                                      eps_root=eps_root, uncorrected_eps=uncorrected_eps), **storage)

    def rule(self, group: Group) -> Recipe:
        root = "_root" if group["eps_root"] else ""
        if group["amsgrad"]:
            return f"amsgrad{root}", {"exp_avg": 0.0, "exp_avg_sq": 0.0, "max_exp_avg_sq": 0.0}
        return f"adam{root}", {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        found = moments(group["lr"], group["betas"], t)
        found["l2"], found["keep"], found["eps"], found["eps_root"] = 0.0, 1.0, group["eps"], 0.0
        if group["decoupled_weight_decay"]:
            found["keep"] = 1.0 - group["lr"] * decay_of(group)
        else:
            found["l2"] = group["weight_decay"]
        if group["eps_root"] or group["uncorrected_eps"]:
            bias2 = 1.0 - power(group["betas"][1], t)
            found["eps_root"] = (group["eps_root"] or 0.0) * bias2
            if group["uncorrected_eps"]:
                found["eps"] = group["eps"] / sqrt(bias2)
        return found


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): p shrinks by lr * weight_decay beside the moments.

    Adam with `decoupled_weight_decay=True` and `weight_decay=1e-2` by default; everything else as there.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas, eps, amsgrad, maximize, eps_root, uncorrected_eps: as in Adam.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam.
    weight_decay: a step multiplies p by 1 - lr * weight_decay, beside the rest.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    Raises ValueError for hyper-parameters that Adam refuses.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.AdamW([w], lr=0.1, weight_decay=0.01)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.899, -1.898])
    """

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, cautious: bool = False,
                 cautious_weight_decay: bool = False, corrected_weight_decay: bool | float = False,
                 max_update_rms: float | None = None, eps_root: float | None = None, uncorrected_eps: bool = False,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True,
                         cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                         corrected_weight_decay=corrected_weight_decay, max_update_rms=max_update_rms,
                         eps_root=eps_root, uncorrected_eps=uncorrected_eps, **storage)
