"""Adagrad."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, nonnegative
from ..engine.method import Group, Recipe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage


class Adagrad(RuleOptimizer):
    """Adagrad (Duchi, Hazan & Singer 2011): steps shrink with the sum of squared gradients.

        g = grad + weight_decay * p
        s = s + g^2                                     (before the first step: s = initial_accumulator_value)
        p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    A SparseGrad is taken without weight decay, and costs the rows it touches.
    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate, the size of the first step of each element.    lr_decay: lets lr fall as above.
    weight_decay: added to the gradient (L2).    eps: keeps the division finite.    maximize: ascends.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `sum` (s), which exists from a parameter's first step on.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Adagrad([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.9, -1.9])
    """

    checks = {"lr": nonnegative, "lr_decay": nonnegative, "weight_decay": nonnegative,
              "initial_accumulator_value": nonnegative, "eps": nonnegative, "maximize": flag}
    scalars = {"step": 0}
    state_names = ("step", "sum")

    def __init__(self, params: Any, lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, *, maximize: bool = False,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
                                      initial_accumulator_value=initial_accumulator_value, eps=eps,
                                      maximize=maximize), **storage)

    def rule(self, group: Group) -> Recipe:
        return "adagrad", {"sum": group["initial_accumulator_value"]}

    def leaves_zero_rows_unchanged(self, group: Group) -> bool:
        if group["weight_decay"]:
            raise ValueError(f"`weight_decay` must be 0 for sparse gradients, got {group['weight_decay']}")
        return True

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        return {"l2": group["weight_decay"], "eps": group["eps"],
                "step_size": group["lr"] / (1.0 + (t - 1) * group["lr_decay"])}
