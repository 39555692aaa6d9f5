"""LARS: SGD whose step is as large, relative to each tensor, as its rate says."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Unpack

from ..checks import flag, nonnegative, number
from ..engine.method import Group, Recipe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage


class LARS(RuleOptimizer):
    """LARS (You, Gitman & Ginsburg 2017): SGD with momentum, each tensor's gradient scaled to the tensor's own norm.

        ratio = trust_coefficient * |p| / (|grad| + weight_decay * |p| + eps)      (1 where |p| or |grad| is 0)
        g = ratio * (grad + weight_decay * p)
        b = momentum * b + (1 - dampening) * g          (first step: b = g)
        p = p - lr * b                                  (nesterov: p - lr * (g + momentum * b))

    Norms are those of a whole tensor.  `lr_in_momentum=True` is optax's form, which differs when lr changes:

        u = grad + weight_decay * p;  ratio = trust_coefficient * |p| / (|u| + eps)     (1 where |p| or |u| is 0)
        b = momentum * b + lr * ratio * u;  p = p - b

    `trust_clip` bounds the ratio by lr, so that no tensor moves further than in SGD (LARC).  `always_adapt=False`
    leaves the ratio out where `weight_decay` is 0, as timm does by default.  Where a gradient is all zeros the ratio is
    1, as everywhere: such a step decays by the whole lr * weight_decay.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    momentum: the share of the last step that is kept.    trust_coefficient, eps: see above.
    weight_decay: added to the gradient (L2).    dampening, nesterov: as in SGD.    maximize: ascends.
    trust_clip, always_adapt, lr_in_momentum: see above.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `momentum_buffer` (b), with momentum.
    Raises ValueError for hyper-parameters that are negative (`dampening` may be), NaN or infinite, for Nesterov's
    momentum without momentum or with dampening, and with `lr_in_momentum` for dampening, `trust_clip` and
    `always_adapt=False`.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.LARS([w], lr=1.0)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.999, -1.998])
    """

    checks = {"lr": nonnegative, "momentum": nonnegative, "dampening": number, "weight_decay": nonnegative,
              "nesterov": flag, "trust_coefficient": nonnegative, "eps": nonnegative, "trust_clip": flag,
              "always_adapt": flag, "lr_in_momentum": flag, "maximize": flag}
    state_names = ("momentum_buffer",)

    def __init__(self, params: Any, lr: float = 1.0, momentum: float = 0.9, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False, trust_coefficient: float = 0.001,
                 eps: float = 1e-8, *, trust_clip: bool = False, always_adapt: bool = True,
                 lr_in_momentum: bool = False, maximize: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                                      nesterov=nesterov, trust_coefficient=trust_coefficient, eps=eps,
                                      trust_clip=trust_clip, always_adapt=always_adapt,
                                      lr_in_momentum=lr_in_momentum, maximize=maximize), **storage)

    def check_together(self, group: Mapping[str, Any]) -> None:
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(f"Nesterov's momentum needs `momentum` > 0 and `dampening` = 0, "
                             f"got {group['momentum']} and {group['dampening']}")
        if group["lr_in_momentum"] and (group["dampening"] != 0 or group["trust_clip"] or not group["always_adapt"]):
            raise ValueError(f"`lr_in_momentum` goes with `dampening` = 0, `trust_clip` = False and `always_adapt` = "
                             f"True, got {group['dampening']}, {group['trust_clip']} and {group['always_adapt']}")

    def rule(self, group: Group) -> Recipe:
        if not group["momentum"]:
            return "lars", {}
        return "lars_nesterov" if group["nesterov"] else "lars_momentum", {"momentum_buffer": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        lr, decay, inside = group["lr"], group["weight_decay"], group["lr_in_momentum"]
        clips = group["trust_clip"] and lr > 0
        return {
            "ratio": 1.0, "decay": decay, "measured_decay": decay if inside else 0.0,
            "momentum": group["momentum"], "fresh": 1.0 if first else 1.0 - group["dampening"],
            "lr": 1.0 if inside else lr,
            "trust": group["trust_coefficient"], "denominator_decay": 0.0 if inside else decay, "eps": group["eps"],
            "most": lr if clips else inf, "factor": lr if inside else 1.0 / lr if clips else 1.0,
            "adapts": float(group["always_adapt"] or decay != 0),
        }
