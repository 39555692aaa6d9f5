"""DoG and L-DoG: SGD whose rate is distance over gradients."""

from __future__ import annotations

from typing import Any, Unpack

from ..checks import flag, nonnegative, optional, positive
from ..engine.method import Group, Recipe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import COPIES, Storage


class DistanceOverGradients(RuleOptimizer):
    """What DoG and L-DoG have in common."""

    checks = {"lr": nonnegative, "reps_rel": positive, "weight_decay": nonnegative, "eps": nonnegative,
              "init_eta": optional(positive), "maximize": flag}
    options = COPIES

    def __init__(self, params: Any, lr: float = 1.0, reps_rel: float = 1e-6, weight_decay: float = 0,
                 eps: float = 1e-8, init_eta: float | None = None, *, maximize: bool = False,
                 **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, reps_rel=reps_rel, weight_decay=weight_decay, eps=eps, init_eta=init_eta,
                                      maximize=maximize), **storage)

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        return {"l2": group["weight_decay"], "first": float(first), "lr": group["lr"], "reps_rel": group["reps_rel"],
                "eps": group["eps"], "init_eta": group["init_eta"] or 0.0}


class DoG(DistanceOverGradients):
    """DoG (Ivgi, Hinder & Carmon 2023): SGD whose rate is the distance gone over the gradients met.

        g = grad + weight_decay * p
        r = max(r, |p - p0|)                 (norms of a whole group; at first reps_rel * (1 + |p0|))
        G = G + |g|^2                        (at first + eps)
        p = p - lr * r / sqrt(G) * g

    Leave `lr` at 1.  `reps_rel` decides on the first steps alone: 1e-4 for models with batch normalization; `init_eta`
    is the first rate itself, in its place.  The rate doesn't decay: evaluate an average of the parameters, as
    `ol.Average(params, function=lambda a, p, n: a + 9 / (n + 9) * (p - a))`, which is that of the paper (gamma = 8).
    `maximize` ascends.  dog-optimizer's rule and defaults; a parameter without a gradient, which that refuses, counts
    in no norm, and its p0 is where it is in its own first step.  A first step without any gradient, with `eps=0`, moves
    nothing.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: a factor of the rate.    reps_rel, init_eta: see above.    weight_decay: see g.    eps: what G begins with.
    maximize: ascends, as if grad were negated.
    storage: `master`, `rounding`, `seed`, `cast_grads`: see docs/memory.md.  `state_dtype` is refused: rounded to
        bfloat16, p0 is off by 2,000 times the first r.

    State: `init_buffer` (p0); in a group `rbar` (r) and `G`.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for `reps_rel` or `init_eta` of 0.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.DoG([w])
        >>> for _ in range(200):
        ...     opt.step(grads=[2 * w])
        >>> w.round(2)
        array([ 0., -0.])
    """

    state_names = ("init_buffer",)

    def rule(self, group: Group) -> Recipe:
        return "dog", {"init_buffer": 0.0}

    def totals(self, group: Group) -> dict[str, float]:
        return {"rbar": 0.0, "G": 0.0}


class LDoG(DistanceOverGradients):
    """L-DoG (Ivgi, Hinder & Carmon 2023): DoG with norms, and so a rate, of each tensor by itself.

    Everything else as in DoG.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: a factor of the rate.    reps_rel, init_eta: as in DoG.    weight_decay: as in DoG.    eps: what G begins with.
    maximize: ascends, as if grad were negated.
    storage: `master`, `rounding`, `seed`, `cast_grads`: see docs/memory.md.  `state_dtype` is refused: rounded to
        bfloat16, p0 is off by 2,000 times the first r.

    State: `init_buffer` (p0), `rbar` (r), `G`.
    Raises ValueError for hyper-parameters that DoG refuses.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.LDoG([w])
        >>> for _ in range(200):
        ...     opt.step(grads=[2 * w])
        >>> w.round(2)
        array([ 0., -0.])
    """

    scalars = {"rbar": 0.0, "G": 0.0}
    state_names = ("init_buffer", "rbar", "G")

    def rule(self, group: Group) -> Recipe:
        return "ldog", {"init_buffer": 0.0}
