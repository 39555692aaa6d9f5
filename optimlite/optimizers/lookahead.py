"""Lookahead: slow weights that follow an optimizer's."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from ..checks import count, interval
from ..engine.follower import Follower
from ..engine.method import Group
from ..engine.optimizer import Optimizer
from ..engine.parameter import Parameter
from ..engine.wrapper import Wrapper

alpha_within = interval(0, 1, closed="right")


class Lookahead(Wrapper):
    """Lookahead (Zhang et al. 2019): every k steps of another optimizer, its parameters go back to slow weights.

        after steps k, 2 k, ...:    p = slow = p + (1 - alpha) * (slow - p)

    The slow weights begin as the parameters before their first step.  They are brought up to date within the step of
    the optimizer, which is whole or hasn't happened.  The optimizer itself is changed by it: stepped directly, it
    looks ahead, too.  Its moments stay as they are.

    optimizer: any but LBFGS, ConjugateGradient, NewtonCG and those of one's own; `opt.optimizer` afterwards.
    k: the steps from one meeting to the next.    alpha: how far the slow weights go towards the parameters, up to 1.

    Groups, hooks, schedulers and checkpoints are the optimizer's: they may be made with either.  State dicts hold the
    state of both: beside the optimizer's `slow` for each parameter, and in each group the steps since the last meeting,
    `lookahead_step`.  `replace` lets the slow weights of the new array begin anew.
    Raises TypeError for what can't be wrapped, ValueError for an optimizer that looks ahead already, for `k` below 1,
    and for `alpha` outside (0, 1].

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.Lookahead(ol.SGD([w], lr=0.25), k=2, alpha=0.5)
        >>> for _ in range(2):
        ...     opt.step(grads=[2 * w])
        >>> w                                            # half way back from [0.25, -0.5]
        array([ 0.625, -1.25 ])
    """

    own, own_state = ("k", "alpha", "_follower"), ("slow",)

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(optimizer)
        follower = Follower(count("k", k), float(alpha_within("alpha", alpha)))
        if self.base.follower is not None:
            raise ValueError("`optimizer` must be one that doesn't look ahead already; wrap it once")
        for group in self.param_groups:
            self.check_group(group)
        self._follow(follower)

    def _follow(self, follower: Follower) -> None:
        self._follower = self.base.follower = follower

    @property
    def k(self) -> int:
        return self._follower.k

    @k.setter
    def k(self, k: int) -> None:
        self._follow(Follower(count("k", k), self.alpha))

    @property
    def alpha(self) -> float:
        return self._follower.alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        self._follow(Follower(self.k, float(alpha_within("alpha", alpha))))

    def add_param_group(self, param_group: Any) -> None:
        super().add_param_group(param_group)
        self.check_group(self.param_groups[-1])

    def replace(self, parameter: Parameter | np.ndarray | str, new: Parameter | np.ndarray, rows: Any = None,
                ) -> Parameter:
        made = super().replace(parameter, new, rows)
        self.state[made].pop("slow", None)
        return made

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        group["lookahead_step"] = checks.total("lookahead_step", group.get("lookahead_step", 0.0))

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        return {**super().state_shapes(group, parameter), "slow": parameter.shape}

    def totals(self, group: Group) -> dict[str, float]:
        return {**super().totals(group), "lookahead_step": 0.0}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        super().__setstate__(saved)
        self._follow(self._follower)

    def __repr__(self) -> str:
        return f"Lookahead(k={self.k}, alpha={self.alpha}) of {self.optimizer!r}"
