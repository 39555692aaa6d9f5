"""Adafactor."""

from __future__ import annotations

from math import sqrt
from typing import Any, Unpack

from ..checks import exactly, flag, interval, nonnegative
from ..engine.method import Group, Recipe
from ..engine.parameter import Parameter
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import Storage
from ..native.runtime import real_power


def epsilons(name: str, value: Any) -> tuple[float | None, float]:
    first, second = exactly(2, "a pair of a number or None and a number", name, value)
    return None if first is None else nonnegative(f"{name}[0]", first), nonnegative(f"{name}[1]", second)


class Adafactor(RuleOptimizer):
    """Adafactor (Shazeer & Stern 2018), as torch has it: second moments as an outer product of row and column means.

        w = t^beta2_decay                               (of the squares of the last two axes' matrices)
        r = r + w * (mean of each row of grad^2 - r)
        c = c + w * (mean of each column of grad^2 - c)
        u = grad / sqrt(max(r c / max(mean(r), eps1), eps1^2))
        p = (1 - lr * weight_decay) * p - max(eps2, rms(p)) * min(lr, 1 / sqrt(t)) * u / max(1, rms(u) / d)

    A parameter with fewer than two axes has a variance for each element instead: v = v + w * (grad^2 - v).

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the largest step, relative to the root mean square of the parameter.    beta2_decay: see above.
    eps: (eps1, eps2); eps1 = None is the machine epsilon of the parameter's dtype.    maximize: ascends.
    d: the largest root mean square of an update.    weight_decay: a step multiplies p by 1 - lr * weight_decay.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `row_var` (r) of shape (..., n, 1) and `col_var` (c) of shape (..., 1, m), or `variance`.
    A step needs no memory of a parameter's size beside it, but for F-ordered parameters of more than two axes, which
    are copied.
    Raises ValueError for `beta2_decay` above 0, `d` below 1, and for other hyper-parameters that are negative, NaN or
    infinite.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Adafactor([w], lr=0.1)
        >>> opt.step(grads=[2 * w])
        >>> w
        array([ 0.84188612, -1.84188612])
    """

    checks = {"lr": nonnegative, "beta2_decay": interval(high=0), "eps": epsilons, "d": interval(low=1),
              "weight_decay": nonnegative, "maximize": flag}
    scalars = {"step": 0}
    state_names = ("step", "row_var", "col_var", "variance")
    line_states = ("row_var", "col_var")
    by_element = False

    def __init__(self, params: Any, lr: float = 1e-2, beta2_decay: float = -0.8,
                 eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0, *,
                 maximize: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay,
                                      maximize=maximize), **storage)

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        if parameter.ndim < 2:
            return {"variance": parameter.shape}
        *batch, n, m = parameter.shape
        return {"row_var": (*batch, n, 1), "col_var": (*batch, 1, m)}

    def rules(self, group: Group) -> tuple[Recipe, ...]:
        return ("adafactor", {"row_var": 0.0, "col_var": 0.0}), ("adafactor_vector", {"variance": 0.0})

    def which_rule(self, parameter: Parameter) -> int:
        return 0 if parameter.ndim > 1 else 1

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        weight, (eps1, eps2) = real_power(float(t), group["beta2_decay"]), group["eps"]
        return {"keep": 1.0 - group["lr"] * group["weight_decay"],
                "weight": weight, "newest": weight,
                "eps1": -1.0 if eps1 is None else eps1, "least": -1.0 if eps1 is None else eps1,
                "lr": min(group["lr"], 1.0 / sqrt(t)), "relative": eps2, "clip": group["d"]}
