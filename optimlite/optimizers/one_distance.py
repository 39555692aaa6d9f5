"""What Prodigy and D-Adaptation have in common: one estimate of the distance to the solution, d, for all groups."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar

from ..checks import interval, or_infinite
from ..engine.method import Group
from ..engine.rule_optimizer import RuleOptimizer
from ..native.runtime import power

growth_limit = or_infinite(interval(1))

# The coefficients of a group whose lr is 0: no moment moves, and no sum counts it.
STILL = {"beta1": 1.0, "fresh1": 0.0, "beta2": 1.0, "fresh2": 0.0, "beta3": 1.0, "fresh3": 0.0, "counts": 0.0}


class OneDistance(RuleOptimizer):
    """An optimizer whose rate is lr * d, with one d of all groups: they share its arrays."""

    of_all: ClassVar[tuple[str, ...]]            # the hyper-parameters on which d depends

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        super().add_param_group(param_group)
        first, added = self.param_groups[0], self.param_groups[-1]
        added.update({name: first[name] for name in self.totals(first)})

    def distance(self, group: Group) -> float:
        """The present d; raises ValueError where groups don't agree on it."""
        first = self.param_groups[0]
        for name in self.of_all:
            if group[name] != first[name]:
                raise ValueError(f"`{name}` must be the same in all groups of {type(self).__name__}, which estimates "
                                 f"one d for all, got {first[name]} and {group[name]}")
        for name in self.totals(group):
            if group[name] is not first[name]:
                raise ValueError(f"`{name}` is one number of all groups; assign it in place: "
                                 f"opt.param_groups[0][\"{name}\"][...] = value")
        lr = next((other["lr"] for other in self.param_groups if other["lr"]), 0.0)
        if group["lr"] not in (0, lr):
            raise ValueError(f"`lr` must be the same in all groups of {type(self).__name__}, or 0, which holds a group "
                             f"still, got {lr} and {group['lr']}")
        return float(first["d"])


def bias_correction(group: Group, t: int) -> float:
    if not group["use_bias_correction"]:
        return 1.0
    beta1, beta2 = group["betas"]
    return sqrt(1.0 - power(beta2, t)) / (1.0 - power(beta1, t))
