"""Rates, factors and metrics are numbers of any type; one beyond all numbers is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from support.helpers import rates
from support.rates import sgd, values

NUMBERS = {"one element": lambda v: np.array([v]), "no axis": np.array, "a matrix": lambda v: np.array([[v]]),
           "float32": np.float32, "float64": np.float64}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("where", ["lr", "initial_lr", "both"])
def test_a_rate_may_be_a_number_of_any_type(number, where):
    """`param_groups[0]["lr"] = np.array([.1])` works in `step`, so it works in schedulers."""
    names = ["lr", "initial_lr"] if where == "both" else [where]
    for make in (lambda o: ls.StepLR(o, 1, 0.5), lambda o: ls.ChainedScheduler([ls.StepLR(o, 1, 0.5)]),
                 lambda o: ls.SequentialLR(o, [ls.StepLR(o, 1, 0.5)], [])):
        opt = sgd(0.5)
        opt.param_groups[0].update(dict.fromkeys(names, number(0.5)))
        scheduler = make(opt)
        assert (scheduler.base_lrs, scheduler.at(1)) == ([0.5], [0.25])
        opt.steps_taken = 1
        opt.param_groups[0]["lr"] = number(0.25)                 # off the schedule, which goes on from there
        assert values(scheduler, 1)[1] == 0.125
        assert type(opt.param_groups[0]["lr"]) is float
        json.dumps(scheduler.state_dict())
        opt.param_groups[0]["lr"] = number(0.75)
        assert scheduler.state_dict()["values"] == {"lr": [0.75]}


@pytest.mark.parametrize("number", [*NUMBERS.values(), np.int64], ids=[*NUMBERS, "int64"])
def test_metrics_and_factors_may_be_numbers_of_any_type(number):
    opt = sgd(1.0)
    plateau = ls.ReduceLROnPlateau(opt, factor=0.5, patience=0)
    for metric in (2, 1, 1):
        plateau.step(number(metric))
    assert (plateau.best, rates(opt)) == (1.0, [0.5])
    json.dumps(plateau.state_dict())
    assert ls.LambdaLR(sgd(0.5), lambda t: number(1 + t)).at(2) == [1.5]
    assert ls.MultiplicativeLR(sgd(0.5), lambda t: number(2)).at(2) == [2.0]
    assert ls.CyclicLR(sgd(0.1), 0, 1, 2, scale_fn=lambda c: number(3), cycle_momentum=False).at(2) == [3.0]


def test_a_pair_may_be_an_array():
    opt = ol.Adam([np.ones(2)])
    opt.param_groups[0]["betas"] = np.array([0.8, 0.99])
    scheduler = ls.StepLR(opt, 1, 0.5, key="betas[0]")
    assert scheduler.at(1) == [0.4]
    scheduler.optimizer.steps_taken = 1
    scheduler.step()
    assert opt.param_groups[0]["betas"] == (0.4, 0.99)


# The documentation

@pytest.mark.parametrize("make", [
    lambda o: ls.ExponentialLR(o, 1e300), lambda o: ls.StepLR(o, 1, 1e300),
    lambda o: ls.MultiStepLR(o, [1, 2], 1e300),
    lambda o: ls.CyclicLR(o, 0.1, 1, 2, mode="exp_range", gamma=1e300, cycle_momentum=False)],
    ids=["exponential", "step", "milestones", "cyclic"])
def test_a_rate_beyond_all_numbers_is_refused_by_name(make: Callable[[ol.Optimizer], ls.LRScheduler]) -> None:
    """Powers that overflow raised an OverflowError that named nothing; products of torch's recurrences are infinite."""
    p = ol.Parameter(np.ones(2))
    p.grad = np.ones(2)
    sgd = ol.SGD([p], lr=0.1)
    scheduler = make(sgd)
    for _ in range(3):
        sgd.param_groups[0]["lr"], rate = 0.1, sgd.param_groups[0]["lr"]
        sgd.step()
        sgd.param_groups[0]["lr"] = rate
        scheduler.step()
    assert scheduler.at(3) == [np.inf]
    sgd.param_groups[0]["lr"] = np.inf
    before = p.data.copy()
    with pytest.raises(ValueError, match="`lr` must be finite, got inf"):
        sgd.step()
    assert np.array_equal(p.data, before)
