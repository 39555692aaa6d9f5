"""RMSprop, centered and with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from ..checks import flag, interval, nonnegative
from ..engine.method import Group, Recipe
from ..engine.modifiers import OF_UPDATES
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage


class RMSprop(RuleOptimizer):
    """RMSprop (Tieleman & Hinton 2012): gradients divided by their running root mean square.

        g = grad + weight_decay * p
        v = alpha * v + (1 - alpha) * g^2
        p = p - lr * g / (sqrt(v) + eps)                (momentum: b = momentum * b + g / (sqrt(v) + eps),
                                                         p = p - lr * b)

    `centered` (Graves 2013) divides by the standard deviation instead: sqrt(v - a^2), a = alpha * a + (1 - alpha) * g.
    `momentum` and `centered` may be switched at any time; their averages then start at 0.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    alpha: how much of v is kept in a step.    eps: keeps the division finite.
    weight_decay: added to the gradient (L2).    momentum, centered: see above.    maximize: ascends.
    cautious, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `square_avg` (v), with momentum `momentum_buffer` (b), if centered `grad_avg` (a).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for `alpha` above 1 (which torch
    accepts, and which makes v negative).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.RMSprop([w], lr=0.01)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.9, -1.9])
    """

    checks = {"lr": nonnegative, "alpha": interval(0, 1), "eps": nonnegative, "weight_decay": nonnegative,
              "momentum": nonnegative, "centered": flag, "maximize": flag, **OF_UPDATES}
    scalars = {"step": 0}
    state_names = ("step", "square_avg", "grad_avg", "momentum_buffer")

    def __init__(self, params: Any, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
                 momentum: float = 0, centered: bool = False, *, maximize: bool = False, cautious: bool = False,
                 max_update_rms: float | None = None, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                                      centered=centered, maximize=maximize, cautious=cautious,
                                      max_update_rms=max_update_rms), **storage)

    def check_together(self, group: Mapping[str, Any]) -> None:
        if group["centered"] and group.get("state_dtype"):
            raise ValueError(f"`state_dtype` can't be had with `centered`, which subtracts means that must be exact, "
                             f"got {group['state_dtype']!r}; leave one of them out")

    def rule(self, group: Group) -> Recipe:
        name, slots = "rmsprop", {"square_avg": 0.0}
        if group["centered"]:
            name, slots["grad_avg"] = name + "_centered", 0.0
        if group["momentum"]:
            name, slots["momentum_buffer"] = name + "_momentum", 0.0
        return name, slots

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        state["step"] = state["step"] + 1
        return {"l2": group["weight_decay"], "lr": group["lr"], "eps": group["eps"], "momentum": group["momentum"],
                "alpha": group["alpha"], "fresh": 1.0 - group["alpha"]}
