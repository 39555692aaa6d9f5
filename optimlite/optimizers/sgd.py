"""SGD: gradient descent, with momentum, Nesterov's momentum, dampening and weight decay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from ..checks import flag, nonnegative, number
from ..engine.method import Group, Recipe
from ..engine.modifiers import OF_UPDATES
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage


class SGD(RuleOptimizer):
    """Stochastic gradient descent (Robbins & Monro 1951), with momentum (Polyak 1964; Sutskever et al. 2013).

        g = grad + weight_decay * p
        b = momentum * b + (1 - dampening) * g          (first step: b = g)
        p = p - lr * b                                  (nesterov: p - lr * (g + momentum * b))

    Without momentum, p = p - lr * g and there is no state.
    A SparseGrad is taken without weight decay; with momentum, where rows go on moving that a gradient doesn't touch, it
    is made dense, and a step costs the whole table.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    momentum: the share of the last step that is kept, usually 0.9.
    dampening, weight_decay, nesterov: see above.    maximize: ascends, as if grad were negated.
    cautious, max_update_rms: modifiers, as in Adam.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `momentum_buffer` (momentum only).  As in torch, dampening doesn't touch the first step.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for `nesterov` without momentum or
    with dampening; TypeError for what isn't a number.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.SGD([w], lr=0.1, momentum=0.9)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.8, -1.6])
    """

    checks = {"lr": nonnegative, "momentum": nonnegative, "dampening": number, "weight_decay": nonnegative,
              "nesterov": flag, "maximize": flag, **OF_UPDATES}
    state_names = ("momentum_buffer",)

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False, cautious: bool = False,
                 max_update_rms: float | None = None, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                                      nesterov=nesterov, maximize=maximize, cautious=cautious,
                                      max_update_rms=max_update_rms), **storage)

    def check_together(self, group: Mapping[str, Any]) -> None:
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(f"`nesterov` needs `momentum` > 0 and `dampening` = 0, "
                             f"got momentum={group['momentum']} and dampening={group['dampening']}")

    def rule(self, group: Group) -> Recipe:
        if not group["momentum"]:
            return "sgd", {}
        return "nesterov" if group["nesterov"] else "momentum", {"momentum_buffer": 0.0}

    def leaves_zero_rows_unchanged(self, group: Group) -> bool:
        if group["weight_decay"]:
            raise ValueError(f"`weight_decay` must be 0 for sparse gradients, got {group['weight_decay']}")
        return not group["momentum"]

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        if not group["momentum"]:
            return {"l2": group["weight_decay"], "lr": group["lr"]}
        return {"l2": group["weight_decay"], "lr": group["lr"], "momentum": group["momentum"],
                "fresh": 1.0 if first else 1.0 - group["dampening"]}
