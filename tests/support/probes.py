"""Optimizers over the rules that exist for tests: they keep what was measured over a tensor, a group, everything."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest

from optimlite.engine.method import Group, Recipe
from optimlite.engine.rule_optimizer import RuleOptimizer
from optimlite.native import dispatch

if "probe_tensor" not in dispatch.kernels(np.dtype(np.float32), dispatch.level):
    pytest.skip("the rules for tests are in builds of a clone alone, not in wheels", allow_module_level=True)


class Probe(RuleOptimizer):
    """Keeps what was measured; the last pass takes place where the sum of the gradients is at least `least`."""

    scope: ClassVar[str] = "tensor"
    scalars = {"step": 0}
    state_names = ("step", "sum", "squares", "products", "largest")

    def __init__(self, params: Any, least: float = -math.inf, cautious: bool = False) -> None:
        super().__init__(params, {"least": least, "cautious": cautious})

    def rule(self, group: Group) -> Recipe:
        return f"probe_{self.scope}", dict.fromkeys(self.state_names[1:], 0.0)

    def totals(self, group: Group) -> dict[str, float]:
        return {"total": 0.0}

    def leaves_zero_rows_unchanged(self, group: Group) -> bool:
        return True

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        return {"keep": 1.0 - 0.1 / t, "least": group["least"], **{f"number{k}": 0.0 for k in range(4)}}


class OfGroup(Probe):
    scope = "group"


class OfEverything(Probe):
    scope = "everything"


PROBES: dict[str, type[Probe]] = {"tensor": Probe, "group": OfGroup, "everything": OfEverything}
