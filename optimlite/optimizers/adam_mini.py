"""Adam-mini: Adam with one second moment for each block."""

from __future__ import annotations

from typing import Any

from ..checks import flag, fraction, nonnegative, one_of, optional_count, pair
from ..engine.method import Group, Recipe
from ..engine.modifiers import MODIFIERS, decay_of
from ..engine.parameter import Parameter, describe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import EXACT
from ..native.runtime import moments


class AdamMini(RuleOptimizer):
    """Adam-mini (Zhang et al. 2024): AdamW with one second moment for each block of a parameter, so half of its state.

        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * mean(grad^2)      (of each block)
        p = (1 - lr * weight_decay) * p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    `block`, of a group, says what a block is: a "row" of the first axis (the authors' choice for embeddings, the output
    layer, values, projections and MLPs), a "head" of the first axis (queries and keys: `heads` blocks of neighbouring
    rows), the whole "tensor", or "none", where each element is one, as in Adam.  Parameters with fewer than two axes
    have no rows: theirs are single elements.  The authors choose by names, which a transformer's groups do here:

        params = ol.group_by_name(model, {("*.wq", "*.wk"): {"block": "head", "heads": 8},
                                          ("*.bias", "*norm*"): {"block": "none", "weight_decay": 0}})

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: how much of the two means is kept in a step.    eps: keeps the division finite.
    weight_decay: a step multiplies p by 1 - lr * weight_decay.    block, heads: see above.    maximize: ascends.
    cautious, cautious_weight_decay, corrected_weight_decay, max_update_rms: modifiers, as in Adam.

    State: `step`, `exp_avg` (m), and `exp_avg_sq_mean` (v, of shape (blocks, 1, ...)), or `exp_avg_sq` where elements
    are blocks.  Parameters whose rows don't lie side by side, such as F-ordered ones, are stepped in a copy.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, for betas outside [0, 1), and where
    `heads` is missing or doesn't divide the number of rows.

        >>> W = np.array([[1.0, 1.0], [2.0, 0.0]])
        >>> opt = ol.AdamMini({"W": W}, lr=0.1)
        >>> opt.step(grads={"W": np.array([[3.0, 4.0], [1.0, 0.0]])})
        >>> W.round(3)
        array([[0.915, 0.887],
               [1.859, 0.   ]])
        >>> opt.state["W"]["exp_avg_sq_mean"].shape
        (2, 1)
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "eps": nonnegative, "weight_decay": nonnegative,
              "block": one_of("row", "head", "tensor", "none"), "heads": optional_count, "maximize": flag, **MODIFIERS}
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq_mean", "exp_avg_sq")
    options = EXACT
    by_element = False
    line_states = ("exp_avg", "exp_avg_sq_mean", "exp_avg_sq")   # laid out as rows are

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, block: str = "row", heads: int | None = None, *, maximize: bool = False,
                 cautious: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False, max_update_rms: float | None = None) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, block=block, heads=heads,
                                      maximize=maximize, cautious=cautious, cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay, max_update_rms=max_update_rms))

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        if group["block"] != "head":
            return
        if group["heads"] is None:
            raise ValueError("`heads` must be the number of heads where `block` is 'head', got None")
        for parameter in group["params"]:
            if parameter.ndim > 1 and len(parameter.data) % group["heads"]:
                raise ValueError(f"`heads` must divide the rows of every parameter in its group, got "
                                 f"heads={group['heads']} and {describe(parameter.name, parameter.shape)}; "
                                 f"put it into a group of another `block`")

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        shapes = super().state_shapes(group, parameter)
        if "exp_avg_sq_mean" in shapes:
            shapes["exp_avg_sq_mean"] = (self.rows_of(group, parameter), *(1,) * (parameter.ndim - 1))[:parameter.ndim]
        return shapes

    def rules(self, group: Group) -> tuple[Recipe, ...]:
        blocks: Recipe = "adam_mini", {"exp_avg": 0.0, "exp_avg_sq_mean": 0.0}
        elements: Recipe = "adam_mini_elements", {"exp_avg": 0.0, "exp_avg_sq": 0.0}
        return (elements if group["block"] == "none" else blocks), (blocks if group["block"] == "tensor" else elements)

    def which_rule(self, parameter: Parameter) -> int:
        return 0 if parameter.ndim > 1 else 1

    def rows_of(self, group: Group, parameter: Parameter) -> int:
        if parameter.ndim < 2:
            return 1
        return {"row": len(parameter.data), "head": group["heads"] or 1}.get(group["block"], 1)

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        return {**moments(group["lr"], group["betas"], t), "keep": 1.0 - group["lr"] * decay_of(group),
                "eps": group["eps"], "eps_root": 0.0}
