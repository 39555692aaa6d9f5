"""The numbers of schedules by hand: defaults, edges of counts, cycles, momenta, a metric, compositions."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from optimlite.lr_scheduler.arguments import Hyperparameter
from support.helpers import SCHEDULES, rates, sgd, stepped


def assert_walk(scheduler: ls.LRScheduler, optimizer: ol.Optimizer, expected: list[list[float]]) -> None:
    """The same rates count by count, by the closed form and by steps."""
    assert [scheduler.at(t) for t in range(len(expected))] == [pytest.approx(row) for row in expected]
    for row in expected[1:]:
        scheduler.step()
        assert rates(optimizer) == pytest.approx(row)


def test_the_defaults_are_torchs() -> None:
    def defaults(schedule: Any) -> dict[str, Any]:
        return {name: p.default for name, p in inspect.signature(schedule).parameters.items()
                if p.default is not p.empty and name not in ("last_epoch", "key")}

    assert defaults(ls.StepLR) == defaults(ls.MultiStepLR) == {"gamma": 0.1}
    assert defaults(ls.ConstantLR) == {"factor": 1 / 3, "total_iters": 5}
    assert defaults(ls.LinearLR) == {"start_factor": 1 / 3, "end_factor": 1.0, "total_iters": 5}
    assert defaults(ls.PolynomialLR) == {"total_iters": 5, "power": 1.0}
    assert defaults(ls.ReduceLROnPlateau) == {
        "mode": "min", "factor": 0.1, "patience": 10, "threshold": 1e-4, "threshold_mode": "rel", "cooldown": 0,
        "min_lr": 0.0, "eps": 1e-8}
    assert defaults(ls.SWALR) == {"anneal_epochs": 10, "anneal_strategy": "cos"}


def test_least_arguments_are_taken() -> None:
    """The smallest that each rule allows."""
    assert ls.WarmupStableDecayLR(sgd(), 0, 0, 1).at(1) == [0.0]
    assert ls.WarmupCosineLR(sgd(), 0, 1).at(1) == [0.0]
    assert ls.StepLR(sgd(), 1).at(1) == [pytest.approx(0.01)]
    assert ls.PolynomialLR(sgd(), 1).at(1) == [0.0]
    assert ls.CosineAnnealingLR(sgd(), 1).at(1) == [0.0]
    assert ls.CosineAnnealingWarmRestarts(sgd(), 1, 1).at(1) == [0.1]
    assert ls.OneCycleLR(sgd(), 0.1, 1, cycle_momentum=False).at(0) == [pytest.approx(0.1 / 25 / 1e4)]
    assert ls.OneCycleLR(sgd(), 0.1, epochs=1, steps_per_epoch=1, cycle_momentum=False).total_steps == 1
    assert ls.CyclicLR(sgd(), 0.1, 0.2, 1, 1, cycle_momentum=False).at(1) == [0.2]
    assert ls.WarmupStableDecayLR(sgd(), 4, 0, 1).at(0) == ls.WarmupCosineLR(sgd(), 4, 5).at(0) == [0.0]
    for divisor in (0.5, 1):
        assert ls.OneCycleLR(sgd(), 0.1, 9, div_factor=divisor, cycle_momentum=False).at(0) == [
            pytest.approx(0.1 / divisor)]


def test_values_at_the_edges_of_counts() -> None:
    """Each formula by hand, at its first and last counts."""
    def values(name: str, *counts: float, **arguments: Any) -> list[float]:
        scheduler = getattr(ls, name)(sgd(0.5), **{**SCHEDULES[name], **arguments})
        return [scheduler.at(t)[0] for t in counts]

    assert values("ConstantLR", 0, 4, 5, 6) == [0.5 / 3, 0.5 / 3, 0.5, 0.5]
    assert values("ConstantLR", 0, 1, total_iters=0) == [0.5, 0.5]
    assert values("LinearLR", 0, 5, 6, start_factor=0.5) == [0.25, 0.5, 0.5]
    assert values("LinearLR", 0, total_iters=0, end_factor=0.25) == [0.125]
    assert values("PolynomialLR", 0, 4, 5, 6) == [0.5, 0.5 * (1 - 4 / 5), 0.0, 0.0]
    assert values("CosineAnnealingLR", 0, 2, 4, 8, eta_min=0.1) == [0.5, pytest.approx(0.3), 0.1, 0.5]
    assert values("CosineAnnealingWarmRestarts", 0, 4, 11, 12, T_mult=2) == [0.5, 0.5, values(
        "CosineAnnealingWarmRestarts", 7, T_0=8)[0], 0.5]
    assert values("CosineAnnealingWarmRestarts", 2, 8) == [pytest.approx(0.25), 0.5]
    assert values("SWALR", 0, 5, 10, 11) == [0.5, pytest.approx(0.255), 0.01, 0.01]
    assert values("SWALR", 3) == [pytest.approx(0.5 - 0.49 * (1 - math.cos(0.3 * math.pi)) / 2)]
    assert values("SWALR", 0, 4, anneal_strategy="linear") == [0.5, pytest.approx(0.304)]
    assert values("SWALR", 0, anneal_epochs=0) == [0.01]
    assert values("WarmupCosineLR", 0, 1, 2, 4, 6, 7, min_factor=0.1) == [
        0.25, 0.375, 0.5, pytest.approx(0.5 * 0.55), 0.05, 0.05]
    assert values("WarmupStableDecayLR", 0, 1, 2, 4, 5, 7, 8, min_factor=0.25) == [
        0.25, 0.375, 0.5, 0.5, pytest.approx(0.5 * 0.75), 0.125, 0.125]
    assert values("WarmupStableDecayLR", 5, 7, decay="sqrt") == [pytest.approx(0.5 * (1 - math.sqrt(1 / 3))), 0.0]
    assert values("WarmupStableDecayLR", 5, 7, decay="cosine") == [pytest.approx(0.5 * 0.75), 0.0]
    assert values("CyclicLR", 0, 1000, 2000, 3000, 4000) == [0.1, pytest.approx(0.15), 0.2, pytest.approx(0.15), 0.1]
    assert values("CyclicLR", 6, step_size_up=4, step_size_down=8, mode="triangular2") == [pytest.approx(0.175)]
    assert values("CyclicLR", 16, step_size_up=4, step_size_down=8, mode="triangular2") == [pytest.approx(0.15)]
    assert values("OneCycleLR", 0, 8, 9) == [0.1 / 25, pytest.approx(0.1 / 25 / 1e4), pytest.approx(0.1 / 25 / 1e4)]


def test_the_shapes_of_cycles() -> None:
    def cyclic(*counts: int, **options: Any) -> list[float]:
        scheduler = ls.CyclicLR(sgd(), 0.0, 1.0, cycle_momentum=False, **options)
        return [scheduler.at(t)[0] for t in counts]

    assert cyclic(0, 1, 2, 3, step_size_up=1) == [0, 1, 0, 1]
    assert cyclic(4, 1, 7, 8, 0, step_size_up=4) == [1, 0.25, 0.25, 0, 0]              # in any order
    assert cyclic(1, 2, 3, 4, step_size_up=2, step_size_down=1, mode="exp_range", gamma=0.5) == [0.25, 0.25, 0, 1 / 32]
    assert cyclic(1, 2, 3, 4, step_size_up=2, gamma=0.5) == [0.5, 1, 0.5, 0]           # no decay without "exp_range"
    assert cyclic(2, 6, step_size_up=2, scale_fn=lambda c: 1 / c) == [1, 0.5]          # of the cycle, from 1
    assert cyclic(2, 6, step_size_up=2, scale_fn=lambda t: 1 + t, scale_mode="iterations") == [3, 7]
    assert cyclic(2, step_size_up=2, scale_fn=lambda c: 1.0, mode="of one's own") == [1]
    assert cyclic(1000, mode="exp_range") == [0.5]

    def once(*counts: int, **options: Any) -> list[float]:
        scheduler = ls.OneCycleLR(sgd(), 1.0, 10, div_factor=4, final_div_factor=2, cycle_momentum=False,
                                  anneal_strategy="linear", **options)
        return [scheduler.at(t)[0] for t in counts]

    assert once(0, 2, 9, 10) == [0.25, 1, 0.125, 0.125]
    assert once(1) == [0.625]
    assert once(3) == [pytest.approx(0.875)]
    assert once(0, 2, 4, 9, three_phase=True) == [0.25, 1, 0.25, 0.125]
    assert once(3, three_phase=True) == [0.625]
    assert once(0, 4, 9, pct_start=0.5, three_phase=True) == [0.25, 1, pytest.approx(0.125)]
    optimizer = sgd()
    assert ls.OneCycleLR(optimizer, 1.0, 10, div_factor=4, cycle_momentum=False).base_lrs == [0.25]
    assert rates(optimizer, "initial_lr") == [0.1]


# The metric's schedule, epoch by epoch: (options, metrics, rates after each)
PLATEAUS = [
    ({}, [1] * 12, [1] * 11 + [0.1]),
    ({"patience": 0}, [1, 1, 0.9, 0.9], [1, 0.1, 0.1, 0.01]),
    ({"patience": 2, "factor": 0.5}, [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
    ({"patience": 0, "cooldown": 2, "factor": 0.5}, [1, 1, 1, 1, 1], [1, 0.5, 0.5, 0.5, 0.25]),
    ({"patience": 0, "min_lr": 0.2}, [1, 1, 1], [1, 0.2, 0.2]),
    ({"patience": 0, "factor": 0.5, "eps": 0.5}, [1, 1, 1], [1, 1, 1]),
    ({"patience": 0, "factor": 0.5, "eps": 0.49}, [1, 1, 1], [1, 0.5, 0.5]),
    ({"patience": 0, "threshold": 0.1}, [1, 0.9, 0.8], [1, 0.1, 0.1]),
    ({"patience": 0, "threshold": 0.5}, [-1, -1.5, -1.6], [1, 0.1, 0.1]),
    ({"patience": 0, "threshold": 0.5, "threshold_mode": "abs"}, [4, 3.5, 3.4], [1, 0.1, 0.1]),
    ({"patience": 0, "threshold": 0.5, "threshold_mode": "abs", "mode": "max"}, [4, 4.5, 4.6], [1, 0.1, 0.1]),
    ({"patience": 0, "threshold": 0.5, "mode": "max"}, [4, 6, 6.1], [1, 0.1, 0.1]),
    ({"patience": 0, "threshold": 0.5, "mode": "max"}, [-4, -2, -1.9], [1, 0.1, 0.1]),
    ({"patience": 0}, [math.nan, 1, math.inf, -math.inf], [0.1, 0.1, 0.01, 0.001]),
    ({"patience": 0, "threshold": 0.5, "threshold_mode": "rel"}, [0, 0, -1], [1, 0.1, 0.1]),
]


@pytest.mark.parametrize(("options", "metrics", "expected"), PLATEAUS)
def test_a_plateau_epoch_by_epoch(options: Any, metrics: list[float], expected: list[float]) -> None:
    optimizer = sgd(1.0)
    scheduler = ls.ReduceLROnPlateau(optimizer, **options)
    assert (scheduler.last_epoch, scheduler.get_last_lr(), scheduler.state_dict()["best"]) == (0, [1.0], None)
    seen = []
    for metric in metrics:
        scheduler.step(metric)
        seen += rates(optimizer)
        assert scheduler.get_last_lr() == rates(optimizer)
    assert seen == pytest.approx(expected, rel=1e-12)
    assert scheduler.last_epoch == len(metrics)


# Other hyper-parameters ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [*SCHEDULES, "ReduceLROnPlateau"])
def test_another_key_is_scheduled_and_the_rate_left(name: str) -> None:
    optimizer = sgd(0.1, 0.2, weight_decay=0.04)
    scheduler = getattr(ls, name)(optimizer, **SCHEDULES.get(name, {"patience": 0}), key="weight_decay")
    seen = scheduler.get_last_lr()
    for k in range(5):
        scheduler.step(*([float(k)] if name == "ReduceLROnPlateau" else []))
        seen += rates(optimizer, "weight_decay")
    assert len(set(seen)) > 1
    assert rates(optimizer) == [0.1, 0.2]
    assert rates(optimizer, "weight_decay") == scheduler.get_last_lr()
    assert scheduler.state_dict()["key"] == "weight_decay"
    assert list(scheduler.state_dict()["values"]) == ["weight_decay"]
    assert "initial_lr" not in optimizer.param_groups[0]
    assert ("initial_weight_decay" in optimizer.param_groups[1]) == (name != "ReduceLROnPlateau")


@pytest.mark.parametrize("build", [lambda o: ls.CyclicLR(o, 0.1, 0.2, 4), lambda o: ls.OneCycleLR(o, 0.1, 9)])
def test_only_the_first_beta_is_cycled(build: Any) -> None:
    optimizer = ol.Adam([np.ones(2)], betas=(0.7, 0.99))
    optimizer.steps_taken = 1
    scheduler = build(optimizer)
    seen = []
    for _ in range(6):
        scheduler.step()
        seen.append(optimizer.param_groups[0]["betas"])
    assert {second for _, second in seen} == {0.99}
    assert len({first for first, _ in seen}) > 2
    assert list(scheduler.state_dict()["values"]) == ["lr", "betas[0]"]
    assert Hyperparameter("betas[0]", optimizer).index == 0
    slot = Hyperparameter("betas[1]", optimizer)
    slot.set(optimizer.param_groups[0], 0.5)
    assert slot.get(optimizer.param_groups[0]) == 0.5
    assert optimizer.param_groups[0]["betas"] == (seen[-1][0], 0.5)


@pytest.mark.parametrize(("build", "low", "high"), [
    (lambda o, **m: ls.CyclicLR(o, 0.1, 0.2, 4, **m), 0.8, 0.9),
    (lambda o, **m: ls.OneCycleLR(o, 0.1, 20, **m), 0.85, 0.95)])
def test_the_momentum_goes_the_other_way_between_its_ends(build: Any, low: float, high: float) -> None:
    for ends in ({}, {"base_momentum": 0.5, "max_momentum": 0.6}):
        optimizer = sgd(0.1, 0.2, momentum=0.3)
        scheduler = build(optimizer, **ends)
        seen, seen_rates = [rates(optimizer, "momentum")[1]], [rates(optimizer)[1]]
        for _ in range(8):
            scheduler.step()
            seen.append(rates(optimizer, "momentum")[1])
            seen_rates.append(rates(optimizer)[1])
        least, most = ends.get("base_momentum", low), ends.get("max_momentum", high)
        assert seen[0] == most
        assert min(seen) == pytest.approx(least, rel=1e-12)
        top = int(np.argmax(seen_rates))
        assert int(np.argmin(seen)) == top
        assert seen[top] < seen[top + 1] < seen[top + 2] < most


# Compositions --------------------------------------------------------------------------------------------------------

def test_a_chain_of_rates_that_are_zero() -> None:
    optimizer = sgd(0.0, 0.2)
    chain = ls.ChainedScheduler([ls.LambdaLR(optimizer, lambda t: 1.0 if t < 2 else 0.0),
                                 ls.ExponentialLR(optimizer, 0.5)])
    assert rates(optimizer) == [0.0, 0.2]
    stepped(chain)
    assert rates(optimizer) == [0.0, pytest.approx(0.1)]
    stepped(chain, 2)                                # from zero on only the closed form says what comes
    assert rates(optimizer) == [0.0, 0.0]
    assert chain.at(1) == [0.0, pytest.approx(0.1)]


def test_a_chain_of_scaling_schedules_and_no_initial_rate() -> None:
    """Factors are found on 1 where the initial rate is 0; one schedule here, whichever it is, doesn't come from it."""
    optimizer = sgd(0.0, 0.0)
    chain = ls.ChainedScheduler([ls.LambdaLR(optimizer, [lambda t: 1.0 + t, lambda t: 2.0]),
                                 ls.CyclicLR(optimizer, 0.1, 0.3, 2, cycle_momentum=False),
                                 ls.CosineAnnealingWarmRestarts(optimizer, 4, eta_min=0.5),
                                 ls.CosineAnnealingLR(optimizer, 8, eta_min=0.2)])
    wave = [0.1, 0.2, 0.3, 0.2]
    for t in range(4):
        factor = (0.75 + 0.25 * math.cos(math.pi * t / 4)) * (0.6 + 0.4 * math.cos(math.pi * t / 8))
        expected = [wave[t] * (1 + t) * factor, wave[t] * 2 * factor]
        assert chain.at(t) == pytest.approx(expected, rel=1e-12)
        assert rates(optimizer) == pytest.approx(expected, rel=1e-12)
        chain.step()


def test_groups_of_compositions_keep_to_their_own_functions() -> None:
    """Every group has its own function: an index that got lost would take another's, or none."""
    def build(optimizer: Any, *, first: bool) -> list[Any]:
        by_group = ls.LambdaLR(optimizer, [lambda t: 1.0 + t, lambda t: 2.0 + t])
        scaled = ls.MultiplicativeLR(optimizer, [lambda t: 0.5, lambda t: 0.25])
        return [by_group, scaled] if first else [scaled, by_group]

    for first in (True, False):
        optimizer = sgd(0.1, 0.2)
        chain = ls.ChainedScheduler(build(optimizer, first=first))
        expected = [[0.1 * (1 + t) * 0.5 ** t, 0.2 * (2 + t) * 0.25 ** t] for t in range(6)]
        assert [chain.at(t) for t in range(6)] == [pytest.approx(row, rel=1e-12) for row in expected]
        for t in range(1, 4):
            chain.step()
            assert rates(optimizer) == pytest.approx(expected[t], rel=1e-12)
        optimizer.param_groups[1]["lr"] *= 0.5
        stepped(chain, 2)
        assert rates(optimizer) == pytest.approx([expected[5][0], 0.5 * expected[5][1]], rel=1e-12)
    optimizer = sgd(0.1, 0.2)
    sequence = ls.SequentialLR(optimizer, build(optimizer, first=False), [2])
    expected = [[0.1, 0.2], [0.05, 0.05], [0.1, 0.4], [0.2, 0.6], [0.3, 0.8]]
    assert_walk(sequence, optimizer, expected)


def test_a_chain_of_recurrences_alone_walks_each_group_by_its_own_functions() -> None:
    optimizer = sgd(0.1, 0.2)
    chain = ls.ChainedScheduler([ls.CosineAnnealingLR(optimizer, 2),             # halves, ends, rises by half, doubles
                                 ls.MultiplicativeLR(optimizer, [lambda t: 0.5, lambda t: 0.25])])
    expected = [[0.1, 0.2], [0.025, 0.025], [0, 0], [0.025, 0.025], [0.025, 0.0125]]
    assert_walk(chain, optimizer, expected)


def test_every_part_of_a_sequence_counts_from_its_own_milestone() -> None:
    optimizer = sgd(1.0)
    sequence = ls.SequentialLR(optimizer, [ls.ExponentialLR(optimizer, 0.5) for _ in range(3)], [2, 5])
    assert [sequence.at(t)[0] for t in range(8)] == [1, 0.5, 1, 0.5, 0.25, 1, 0.5, 0.25]


def test_a_chain_has_the_key_and_the_count_of_its_schedulers() -> None:
    optimizer = sgd(0.1, weight_decay=0.04)
    optimizer.param_groups[0]["initial_weight_decay"] = 0.04
    chain = ls.ChainedScheduler([ls.ExponentialLR(optimizer, 0.5, last_epoch=2, key="weight_decay")])
    assert (chain.last_epoch, rates(optimizer, "weight_decay")) == (3, [0.04 * 0.5 ** 3])
    chain.step()
    assert (chain.last_epoch, rates(optimizer, "weight_decay")) == (4, [0.04 * 0.5 ** 4])
    assert rates(optimizer) == [0.1]


def test_momenta_of_compositions_are_those_of_the_group() -> None:
    for wrap in (lambda o, c: ls.ChainedScheduler([c, ls.ExponentialLR(o, 0.9)]),
                 lambda o, c: ls.SequentialLR(o, [c, ls.ExponentialLR(o, 0.9)], [8])):
        alone, composed = sgd(0.1, 0.1, momentum=0.9), sgd(0.1, 0.1, momentum=0.9)
        options = {"base_momentum": [0.5, 0.6], "max_momentum": [0.8, 0.9]}
        one = ls.CyclicLR(alone, 0.1, 0.3, 2, **options)
        other = wrap(composed, ls.CyclicLR(composed, 0.1, 0.3, 2, **options))
        for _ in range(5):
            one.step(), other.step()
            assert rates(composed, "momentum") == rates(alone, "momentum")
            assert rates(alone, "momentum")[0] != rates(alone, "momentum")[1]
