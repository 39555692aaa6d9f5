"""A parameter's first step by another rule."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.method import Group, Recipe
from optimlite.engine.rule_optimizer import RuleOptimizer
from support.bits import THREADS, assert_same
from support.helpers import snapshot
from support.passes import both, give, grads, made, totals
from support.probes import OfGroup


class Opens(RuleOptimizer):
    """Nesterov's momentum, whose first step is plain momentum."""

    state_names = ("momentum_buffer",)
    opening: ClassVar[str] = "momentum"

    def __init__(self, params: Any, cautious: bool = False) -> None:
        super().__init__(params, {"lr": 0.1, "cautious": cautious})

    def rule(self, group: Group) -> Recipe:
        return "nesterov", {"momentum_buffer": 0.0}

    def first_rule(self, group: Group) -> str | None:
        return self.opening

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        return {"lr": group["lr"], "momentum": 0.9, "fresh": 1.0}


@pytest.mark.parametrize("cautious", [False, True])
def test_a_first_step_by_another_rule(cautious: bool, level: str, threads: None) -> None:
    for count in THREADS:
        ol.set_num_threads(count)
        one, other = (made(Opens, cautious=cautious) for _ in range(2))
        plain = made(lambda params: ol.SGD(params, lr=0.1, momentum=0.9))
        for step in range(4):                    # some begin later
            gradients = [g if step >= k % 3 else None for k, g in enumerate(grads(seed=step))]
            both(one, other, gradients)
            if step == 0 and not cautious:
                give(plain, gradients).step()
                assert_same(one, plain)


class OpensAlone(OfGroup):
    """A group's numbers, but in a parameter's first step its own."""

    def first_rule(self, group: Group) -> str | None:
        return "probe_tensor"


def test_a_group_is_measured_once_whatever_first_steps_stand_between() -> None:
    groups = [[(5, np.float32, True), (6, np.float32, True), (7, np.float64, True)]]
    one, other = (made(OpensAlone, groups) for _ in range(2))
    first, later = grads(groups), grads(groups, 2)
    both(one, other, [first[0], None, first[2]])
    assert totals(one) == [0.0]
    both(one, other, later)
    assert math.isclose(totals(one)[0], sum(float(later[k].astype(np.float64).sum()) for k in (0, 2)),  # type: ignore
                        rel_tol=1e-12)


def test_first_rules_that_do_not_fit_are_refused() -> None:
    class Writes(Opens):
        opening = "asgd"

    class Factors(Opens):
        opening = "probe_tensor"

    refused: list[Any] = [(Writes, {"cautious": True}, ValueError, "`cautious` can't be applied to Writes"),
                          (Factors, {}, TypeError, "the rule 'probe_tensor' has 4 state arrays")]
    for cls, options, error, message in refused:
        optimizer = give(made(cls, **options), grads())
        before = snapshot(optimizer)
        with pytest.raises(error, match=message):
            optimizer.step()
        assert snapshot(optimizer) == before
