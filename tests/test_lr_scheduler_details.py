"""The details of schedules that a small slip would change: whole messages, defaults, names, and who notes what."""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from optimlite.lr_scheduler._arguments import Hyperparameter, PerGroup, an_optimizer, choice, count, function
from optimlite.lr_scheduler.base import Walk


def sgd(*rates: float, **options: Any) -> ol.SGD:
    optimizer = ol.SGD([{"params": [ol.Parameter(np.ones(2))], "lr": lr} for lr in rates or (0.1,)], **options)
    optimizer.steps_taken = 1
    return optimizer


def rates(optimizer: ol.Optimizer, key: str = "lr") -> list[float]:
    return [group[key] for group in optimizer.param_groups]


class Plain(ol.Optimizer):
    """An optimizer of one's own with nothing but a rate."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.1})


class Unfinished(ls.LRScheduler):
    """A schedule without its formula."""


def saved(**changes: Any) -> dict[str, Any]:
    return {**ls.StepLR(sgd(0.1, 0.2), 3).state_dict(), **changes}


def stepped(scheduler: ls.LRScheduler, steps: int = 1) -> ls.LRScheduler:
    for _ in range(steps):
        scheduler.step()
    return scheduler


def late_group(build: Any) -> ls.LRScheduler:
    optimizer = sgd(0.1, 0.2)
    scheduler = build(optimizer)
    optimizer.add_param_group({"params": [np.ones(2)], "lr": 0.3})
    return scheduler


def without_trace(optimizer: ol.Optimizer) -> ol.Optimizer:
    optimizer.param_groups[0]["initial_lr"] = 0.1
    return optimizer


# What is refused, and the whole message.
MESSAGES = [
    (lambda: count(1)("T", 0), ValueError, "`T` must be a whole number >= 1, got 0"),
    (lambda: count(0)("T", 0.5), ValueError, "`T` must be a whole number >= 0, got 0.5"),
    (lambda: choice("a", "b")("mode", "c"), ValueError, "`mode` must be one of 'a', 'b', got 'c'"),
    (lambda: function("f", 3), TypeError, "`f` must be a function, got int"),
    (lambda: an_optimizer(3), TypeError, "`optimizer` must be an optimlite.Optimizer, got int"),
    (lambda: PerGroup("rate", [1, 2, 3], sgd(0.1, 0.2), count(0)), ValueError,
     "`rate` must have one entry per group: 2, got 3"),
    (lambda: late_group(lambda o: ls.SWALR(o, [0.01, 0.02], 5)).step(), ValueError,
     "`swa_lr` lists 2 groups, but the optimizer has more by now; "
     "add the new group's entry with `scheduler.swa_lr.append(...)`"),
    (lambda: Hyperparameter("a b", sgd()), ValueError, "`key` must be a name such as 'lr' or 'betas[0]', got 'a b'"),
    (lambda: Hyperparameter(3, sgd()), ValueError, "`key` must be a name such as 'lr' or 'betas[0]', got 3"),  # type: ignore[arg-type]
    (lambda: Hyperparameter("rate", Plain([np.ones(2)])), ValueError,
     "`key` must name a number in every group, got 'rate', which group 0 doesn't have; its hyper-parameters are lr"),
    (lambda: Hyperparameter("lr[0]", sgd()), ValueError,
     "`key` must name a number in every group, got 'lr[0]', which group 0 doesn't have; "
     "its hyper-parameters are dampening, lr, maximize, momentum, nesterov, weight_decay"),
    (lambda: Hyperparameter("betas[2]", ol.Adam([np.ones(2)])), ValueError,
     "`key` must name a number in every group, got 'betas[2]', which group 0 doesn't have; "
     "its hyper-parameters are amsgrad, betas, decoupled_weight_decay, eps, lr, maximize, weight_decay"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3, last_epoch=4), KeyError,
     "`last_epoch` >= 0 needs 'initial_lr' in every group; group 0 has none"),
    (lambda: ls.StepLR(without_trace(sgd(0.1, 0.2)), 3, last_epoch=0), KeyError,
     "`last_epoch` >= 0 needs 'initial_lr' in every group; group 1 has none"),
    (lambda: Unfinished(sgd()), NotImplementedError, "Unfinished must define closed_form(base, t, i)"),
    (lambda: ls.StepLR(sgd(), 3).at(-1), ValueError, "`t` must be a whole number >= 0, got -1"),
    (lambda: ls.StepLR(sgd(), 3).at(1.5), ValueError, "`t` must be a whole number >= 0, got 1.5"),  # type: ignore[arg-type]
    (lambda: ls.CosineAnnealingWarmRestarts(sgd(), 3).at(-1), ValueError, "`t` must be >= 0, got -1"),
    (lambda: ls.CosineAnnealingWarmRestarts(sgd(), 3).step(-1), ValueError, "`epoch` must be >= 0, got -1"),
    (lambda: ls.StepLR(sgd(), 3, last_epoch=-2), ValueError, "`last_epoch` must be a whole number >= -1, got -2"),
    (lambda: ls.StepLR(sgd(), 3).load_state_dict([]), TypeError, "`state_dict` must be a dict, got list"),  # type: ignore[arg-type]
    (lambda: ls.StepLR(sgd(), 3).load_state_dict({}), ValueError,
     "`state_dict` must come from StepLR.state_dict(); it lacks 'type'"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(gamma=0.1)), ValueError,
     "`state_dict` must come from StepLR.state_dict(); it has an unknown 'gamma'"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(type="Other")), ValueError,
     "`state_dict` must have the type 'StepLR', got 'Other'"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(key="eps")), ValueError,
     "`state_dict` must have the key 'lr', got 'eps'"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(last_epoch=1.5)), ValueError,
     "`last_epoch` must be a whole number >= 0, got 1.5"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(values={"eps": [], "mu": []})), ValueError,
     "`state_dict` must have values of lr, got eps, mu"),
    (lambda: ls.CyclicLR(sgd(momentum=0.9), 0.1, 0.2).load_state_dict(
        {**ls.CyclicLR(sgd(momentum=0.9), 0.1, 0.2).state_dict(), "values": {"eps": []}}), ValueError,
     "`state_dict` must have values of lr, momentum, got eps"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(_path=[0.1])), ValueError,
     "`state_dict` must have one entry per group in '_path': 2, got 1"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(values={"lr": [0.1, "x"]})), TypeError,
     "`lr` must be a number, got 'x'"),
    (lambda: ls.SequentialLR(sgd(), [], []), ValueError, "`schedulers` must have at least one scheduler, got none"),
    (lambda: ls.SequentialLR(sgd(), [3], []), TypeError, "`schedulers[0]` must be a scheduler, got int"),  # type: ignore[list-item]
    (lambda: ls.ChainedScheduler([ls.ReduceLROnPlateau(sgd())]), ValueError,
     "`schedulers[0]` must be a function of the count, got ReduceLROnPlateau, "
     "which needs a metric in every step; step it beside the ChainedScheduler"),
    (lambda: ls.SequentialLR(sgd(), [ls.StepLR(sgd(), 3)], []), ValueError,
     "`schedulers[0]` must belong to the SequentialLR's optimizer, got one of another"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)], [], key="momentum"))(sgd(momentum=0.9)), ValueError,
     "`schedulers[0]` must have the key 'momentum', got 'lr'; step schedulers of different keys side by side"),
    (lambda: (lambda o: ls.ChainedScheduler([ls.StepLR(o, 3), ls.StepLR(o, 3, key="momentum")]))(sgd(momentum=0.9)),
     ValueError,
     "`schedulers[1]` must have the key 'lr', got 'momentum'; step schedulers of different keys side by side"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)] * 2, []))(sgd()), ValueError,
     "`milestones` must have one entry less than `schedulers`: 1, got 0"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)] * 3, [4, 2]))(sgd()), ValueError,
     "`milestones` must rise, got [4, 2]"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)] * 2, [-1]))(sgd()), ValueError,
     "`milestones` must be a whole number >= 0, got -1"),
    (lambda: (lambda o: ls.ChainedScheduler([stepped(ls.StepLR(o, 3)), ls.StepLR(o, 3)]))(sgd()), ValueError,
     "`schedulers` must stand at the same count, got 0, 1"),
    (lambda: (lambda o: ls.ChainedScheduler([ls.CyclicLR(o, 0.1, 0.2)] * 2))(sgd(momentum=0.9)), ValueError,
     "`schedulers` may have one with values of its own (CyclicLR, OneCycleLR), got several"),
    (lambda: (lambda o: ls.ChainedScheduler([ls.StepLR(o, 3), ls.LinearLR(o)]).load_state_dict(
        ls.ChainedScheduler([ls.LinearLR(o), ls.ExponentialLR(o, 0.5)]).state_dict()))(sgd()), ValueError,
     "`state_dict` must come from the schedulers StepLR, LinearLR, got LinearLR, ExponentialLR"),
    (lambda: (lambda o: ls.LambdaLR(o, [abs, abs]).load_state_dict(
        {**ls.LambdaLR(o, abs).state_dict()}))(sgd(0.1, 0.2)), ValueError,
     "`state_dict` must have 2 entries in 'lr_lambda', got 1"),
    (lambda: ls.CyclicLR(sgd(momentum=0.9), 0.1, 0.2, key="weight_decay"), ValueError,
     "`cycle_momentum` must be False where `key` isn't 'lr', got `key`='weight_decay'"),
    (lambda: ls.OneCycleLR(Plain([np.ones(2)]), 0.1, 9), ValueError,
     "`cycle_momentum` must be False for Plain, which has neither `momentum` nor `betas`"),
    (lambda: ls.CyclicLR(sgd(momentum=0.9), 0.1, 0.2).load_state_dict(
        {**ls.CyclicLR(sgd(momentum=0.9), 0.1, 0.2).state_dict(), "scale_fn": {}}), ValueError,
     "`state_dict` must have None as 'scale_fn' for a CyclicLR without `scale_fn`"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1), ValueError,
     "`total_steps` must be given, or both `epochs` and `steps_per_epoch`"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, epochs=3), ValueError,
     "`total_steps` must be given, or both `epochs` and `steps_per_epoch`"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, steps_per_epoch=3), ValueError,
     "`total_steps` must be given, or both `epochs` and `steps_per_epoch`"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, epochs=0, steps_per_epoch=3), ValueError,
     "`epochs` must be a whole number >= 1, got 0"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, epochs=3, steps_per_epoch=0), ValueError,
     "`steps_per_epoch` must be a whole number >= 1, got 0"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, 9, pct_start=0.51, three_phase=True), ValueError,
     "`pct_start` must be >= 0 and <= 0.5, got 0.51"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, 9, pct_start=1.1), ValueError,
     "`pct_start` must be >= 0 and <= 1, got 1.1"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, 9, div_factor=0), ValueError, "`div_factor` must be > 0, got 0"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, 9, final_div_factor=0), ValueError,
     "`final_div_factor` must be > 0, got 0"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, 9).at(10), ValueError, "`total_steps` is 9; there is no step 10"),
    (lambda: ls.ReduceLROnPlateau(sgd()).at(1), NotImplementedError,
     "ReduceLROnPlateau has no at(): its values follow the metrics, not the count"),
    (lambda: ls.ReduceLROnPlateau(sgd(), factor=1), ValueError, "`factor` must be >= 0 and < 1, got 1"),
    (lambda: ls.WarmupCosineLR(sgd(), 9, 9), ValueError, "`warmup_steps` must be < total_steps = 9, got 9"),
    (lambda: ls.LinearLR(sgd(), 0), ValueError, "`start_factor` must be > 0 and <= 1, got 0"),
]


@pytest.mark.parametrize(("act", "error", "message"), MESSAGES, ids=[message[:60] for _, _, message in MESSAGES])
def test_the_whole_message(act: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        act()
    assert caught.value.args == (message,)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ == ("`key` must name a number" in message)


# Every checked argument, with a value that it refuses: the message calls it by its name.
NAMES = [
    (ls.StepLR, {"step_size": 0, "gamma": -1}, {"step_size": 3}), (ls.MultiStepLR, {"gamma": -1}, {"milestones": [1]}),
    (ls.ConstantLR, {"factor": 2, "total_iters": -1}, {}),
    (ls.LinearLR, {"start_factor": 2, "end_factor": 2, "total_iters": -1}, {}),
    (ls.ExponentialLR, {"gamma": -1}, {}), (ls.PolynomialLR, {"total_iters": 0, "power": -1}, {}),
    (ls.CosineAnnealingLR, {"T_max": 0, "eta_min": -1}, {"T_max": 3}),
    (ls.CosineAnnealingWarmRestarts, {"T_0": 0, "T_mult": 0, "eta_min": -1}, {"T_0": 3}),
    (ls.CyclicLR, {"base_lr": -1, "max_lr": -1, "step_size_up": 0, "step_size_down": 0, "gamma": -1, "base_momentum": 1,
                   "max_momentum": 1}, {"base_lr": 0.1, "max_lr": 0.2}),
    (ls.OneCycleLR, {"max_lr": -1, "total_steps": 0, "pct_start": 2, "div_factor": 0, "final_div_factor": 0,
                     "base_momentum": 1, "max_momentum": 1}, {"max_lr": 0.2, "total_steps": 9}),
    (ls.ReduceLROnPlateau, {"factor": 1, "patience": -1, "threshold": -1, "cooldown": -1, "min_lr": -1, "eps": -1}, {}),
    (ls.SWALR, {"swa_lr": -1, "anneal_epochs": -1}, {"swa_lr": 0.1}),
    (ls.WarmupCosineLR, {"warmup_steps": -1, "total_steps": 0, "min_factor": 2, "start_factor": 2},
     {"warmup_steps": 1, "total_steps": 9}),
    (ls.WarmupStableDecayLR, {"warmup_steps": -1, "stable_steps": -1, "decay_steps": 0, "min_factor": 2,
                              "start_factor": 2}, {"warmup_steps": 1, "stable_steps": 2, "decay_steps": 3}),
]


@pytest.mark.parametrize(("schedule", "bad", "good"), NAMES)
def test_a_refusal_begins_with_the_name_and_ends_with_the_value(schedule: Any, bad: Any, good: Any) -> None:
    for name, value in bad.items():
        with pytest.raises(ValueError, match=f"^`{name}` must be .* got {value}$"):
            schedule(sgd(momentum=0.9), **{**good, name: value})


CHOICES = [
    (ls.CyclicLR, "mode", {"base_lr": 0.1, "max_lr": 0.2}, "'triangular', 'triangular2', 'exp_range'"),
    (ls.CyclicLR, "scale_mode", {"base_lr": 0.1, "max_lr": 0.2}, "'cycle', 'iterations'"),
    (ls.OneCycleLR, "anneal_strategy", {"max_lr": 0.1, "total_steps": 9}, "'cos', 'linear'"),
    (ls.ReduceLROnPlateau, "mode", {}, "'min', 'max'"),
    (ls.ReduceLROnPlateau, "threshold_mode", {}, "'rel', 'abs'"),
    (ls.SWALR, "anneal_strategy", {"swa_lr": 0.1}, "'cos', 'linear'"),
    (ls.WarmupStableDecayLR, "decay", {"warmup_steps": 1, "stable_steps": 2, "decay_steps": 3},
     "'linear', 'cosine', 'sqrt'"),
]


@pytest.mark.parametrize(("schedule", "name", "arguments", "words"), CHOICES)
def test_a_choice_lists_what_it_takes_and_takes_it(schedule: Any, name: str, arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^`{name}` must be one of {words}, got 'x'$"):
        schedule(sgd(momentum=0.9), **arguments, **{name: "x"})
    for word in words.split(", "):
        assert getattr(schedule(sgd(momentum=0.9), **arguments, **{name: word[1:-1]}), name) == word[1:-1]


PLAIN = {"StepLR": {"step_size": 3}, "MultiStepLR": {"milestones": [2]}, "ConstantLR": {}, "LinearLR": {},
         "ExponentialLR": {"gamma": 0.5}, "PolynomialLR": {}, "CosineAnnealingLR": {"T_max": 4},
         "CosineAnnealingWarmRestarts": {"T_0": 4}, "LambdaLR": {"lr_lambda": lambda t: 1 / (t + 1)},
         "MultiplicativeLR": {"lr_lambda": lambda t: 0.5}, "SWALR": {"swa_lr": 0.01},
         "WarmupCosineLR": {"warmup_steps": 2, "total_steps": 6, "start_factor": 0.5},
         "WarmupStableDecayLR": {"warmup_steps": 2, "stable_steps": 2, "decay_steps": 3, "start_factor": 0.5},
         "CyclicLR": {"base_lr": 0.1, "max_lr": 0.2, "cycle_momentum": False},
         "OneCycleLR": {"max_lr": 0.1, "total_steps": 9, "cycle_momentum": False}}


@pytest.mark.parametrize("name", [*PLAIN, "ReduceLROnPlateau"])
def test_another_key_is_scheduled_and_the_rate_left(name: str) -> None:
    optimizer = sgd(0.1, 0.2, weight_decay=0.04)
    scheduler = getattr(ls, name)(optimizer, **PLAIN.get(name, {"patience": 0}), key="weight_decay")
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


@pytest.mark.parametrize("name", PLAIN)
def test_a_count_given_at_the_start_is_the_count_before(name: str) -> None:
    reference, optimizer = getattr(ls, name)(sgd(), **PLAIN[name]), sgd()
    optimizer.param_groups[0].update(initial_lr=0.1, lr=reference.at(2)[0])
    resumed = getattr(ls, name)(optimizer, **PLAIN[name], last_epoch=2)
    assert resumed.last_epoch == 3
    assert resumed.get_last_lr() == rates(optimizer) == reference.at(3)
    assert [resumed.at(t) for t in range(8)] == [reference.at(t) for t in range(8)]


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


# What the schedulers note and when they speak

def test_the_order_warning_is_whole_and_comes_once() -> None:
    optimizer = sgd()
    optimizer.steps_taken = 0
    scheduler = ls.StepLR(optimizer, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler.step()
        scheduler.step()
    assert [str(warning.message) for warning in caught] == [
        "StepLR.step() came before optimizer.step(), so the first value was never used; call optimizer.step() first"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = ls.StepLR(optimizer, 3)
        loaded.load_state_dict(scheduler.state_dict())
        loaded.step()                                # a loaded scheduler is in the middle of its work


def test_turning_on_a_momentum_warns_in_whole() -> None:
    with pytest.warns(UserWarning, match="CyclicLR") as caught:
        ls.CyclicLR(sgd(), 0.1, 0.2)
    assert [str(warning.message) for warning in caught] == [
        "CyclicLR turns on the momentum of SGD, which was 0; pass cycle_momentum=False to leave it off"]
    with pytest.warns(UserWarning, match=r"^OneCycleLR turns on the betas\[0\] of Adam, which was 0; pass"):
        ls.OneCycleLR(ol.Adam([np.ones(2)], betas=(0.0, 0.9)), 0.1, 9)


@pytest.mark.parametrize("build", [lambda o: ls.CyclicLR(o, 0.1, 0.2, 4), lambda o: ls.OneCycleLR(o, 0.1, 9)])
def test_only_the_first_beta_is_cycled(build: Any) -> None:
    optimizer = ol.Adam([np.ones(2)], betas=(0.7, 0.99))
    optimizer.steps_taken = 1
    scheduler = build(optimizer)
    seen = []
    for _ in range(6):
        seen.append(optimizer.param_groups[0]["betas"])
        scheduler.step()
    assert {second for _, second in seen} == {0.99}
    assert len({first for first, _ in seen}) > 2
    assert list(scheduler.state_dict()["values"]) == ["lr", "betas[0]"]
    assert Hyperparameter("betas[0]", optimizer).index == 0
    slot = Hyperparameter("betas[1]", optimizer)
    slot.set(optimizer.param_groups[0], 0.5)
    assert optimizer.param_groups[0]["betas"][1] == slot.get(optimizer.param_groups[0]) == 0.5


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
        assert int(np.argmin(seen)) == int(np.argmax(seen_rates))


def test_a_new_group_joins_at_its_value_and_is_noted() -> None:
    optimizer = sgd(0.1)
    scheduler = stepped(ls.ExponentialLR(optimizer, 0.5))
    optimizer.add_param_group({"params": [np.ones(2)], "lr": 0.4})
    assert scheduler.at(2) == [0.1 * 0.25, 0.4 * 0.25]
    assert scheduler.base_lrs == [0.1]               # `at` changes nothing
    state = scheduler.state_dict()
    assert (state["base_lrs"], state["_path"], state["_last_lr"]) == ([0.1, 0.4], [0.05, 0.2], [0.05, 0.4])
    assert optimizer.param_groups[1]["initial_lr"] == 0.4
    scheduler.step()
    assert rates(optimizer) == [0.025, 0.2]


def test_a_state_dict_is_a_snapshot_and_loading_copies_it() -> None:
    optimizer = sgd(0.1, 0.2)
    scheduler = stepped(ls.ExponentialLR(optimizer, 0.5), 2)
    state = scheduler.state_dict()
    assert state == {"type": "ExponentialLR", "key": "lr", "last_epoch": 2, "base_lrs": [0.1, 0.2],
                     "_path": [0.025, 0.05], "_last_lr": [0.025, 0.05], "values": {"lr": [0.025, 0.05]}}
    stepped(scheduler, 2)
    assert state["last_epoch"], state["base_lrs"] == (2, [0.1, 0.2])
    fresh = ls.ExponentialLR(sgd(0.3, 0.3), 0.5)
    fresh.load_state_dict(state)
    state["base_lrs"][0] = state["_path"][0] = state["_last_lr"][0] = 7.0
    assert (fresh.base_lrs, fresh.get_last_lr()) == ([0.1, 0.2], [0.025, 0.05])
    fresh.get_last_lr()[0] = 9.0
    assert fresh.get_last_lr() == [0.025, 0.05]
    fresh.step()
    assert rates(fresh.optimizer) == [0.0125, 0.025]


def test_a_walk_goes_on_from_where_it_was_and_starts_over_for_another() -> None:
    calls = []

    def doubled(value: float, base: float, t: int, i: int) -> float:
        calls.append(t)
        return value + base * t

    walk = Walk()
    assert walk(doubled, 2.0, 3, 0) == 2.0 + 2.0 * (0 + 1 + 2 + 3)
    assert calls == [0, 1, 2, 3]
    assert walk(doubled, 2.0, 5, 0) == 2.0 + 2.0 * 15
    assert calls == [0, 1, 2, 3, 4, 5]
    assert walk(doubled, 2.0, 5, 0) == 2.0 + 2.0 * 15     # there already
    assert calls == [0, 1, 2, 3, 4, 5]
    assert walk(doubled, 2.0, 1, 0) == 2.0 + 2.0 * 1      # back: from the start
    assert calls[6:] == [0, 1]
    assert walk(doubled, 3.0, 1, 0) == 3.0 + 3.0 * 1      # another initial value
    assert walk(doubled, 2.0, 0, 1) == 2.0                # another group
    assert walk(doubled, 3.0, 2, 0) == 3.0 + 3.0 * 3
    assert calls[8:] == [0, 1, 0, 2]


def test_values_at_the_edges_of_counts() -> None:
    """Each formula by hand, at its first and last counts."""
    def values(name: str, *counts: float, **arguments: Any) -> list[float]:
        scheduler = getattr(ls, name)(sgd(0.5), **{**PLAIN[name], **arguments})
        return [scheduler.at(t)[0] for t in counts]

    assert values("ConstantLR", 0, 4, 5, 6) == [0.5 / 3, 0.5 / 3, 0.5, 0.5]
    assert values("ConstantLR", 0, 1, total_iters=0) == [0.5, 0.5]
    assert values("LinearLR", 0, 5, 6, start_factor=0.5) == [0.25, 0.5, 0.5]
    assert values("LinearLR", 0, total_iters=0, end_factor=0.25) == [0.125]
    assert values("PolynomialLR", 0, 4, 5, 6) == [0.5, 0.5 * (1 - 4 / 5), 0.0, 0.0]
    assert values("CosineAnnealingLR", 0, 2, 4, 8, eta_min=0.1) == [0.5, pytest.approx(0.3), 0.1, 0.5]
    assert values("CosineAnnealingWarmRestarts", 0, 4, 11, 12, T_mult=2) == [0.5, 0.5, values(
        "CosineAnnealingWarmRestarts", 7, T_0=8)[0], 0.5]
    assert values("SWALR", 0, 5, 10, 11) == [0.5, pytest.approx(0.255), 0.01, 0.01]
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


# The metric's schedule, epoch by epoch: (options, metrics, rates after each)
PLATEAUS = [
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


def test_the_state_of_a_plateau() -> None:
    optimizer = sgd(1.0)
    scheduler = ls.ReduceLROnPlateau(optimizer, patience=1, cooldown=3)
    for metric in (1, 2, 2, 2):
        scheduler.step(metric)
    assert scheduler.state_dict() == {
        "type": "ReduceLROnPlateau", "key": "lr", "last_epoch": 4, "_last_lr": [0.1], "values": {"lr": [0.1]},
        "best": 1.0, "num_bad_epochs": 0, "cooldown_counter": 2}
    optimizer.add_param_group({"params": [np.ones(2)], "lr": 0.3})
    assert scheduler.state_dict()["_last_lr"] == [0.1, 0.3]
    for metric in (2, 2, 2):
        scheduler.step(metric)
    assert scheduler.state_dict()["num_bad_epochs"] == 1
    fresh = ls.ReduceLROnPlateau(sgd(1.0, 1.0), patience=1, cooldown=3)
    fresh.load_state_dict(scheduler.state_dict())
    assert fresh.state_dict() == scheduler.state_dict()
    fresh.step(2)
    assert rates(fresh.optimizer) == pytest.approx([0.01, 0.03])


def test_states_of_compositions_name_their_parts() -> None:
    optimizer = sgd(0.1)
    chain = ls.ChainedScheduler([ls.ChainedScheduler([ls.StepLR(optimizer, 2)]), ls.LambdaLR(optimizer, abs)])
    assert chain.state_dict()["schedulers"] == [{"type": "StepLR"}, {"type": "LambdaLR", "lr_lambda": [None]}]
    restarts = ls.CosineAnnealingWarmRestarts(optimizer, 4)
    sequence = ls.SequentialLR(optimizer, iter([ls.LinearLR(optimizer), restarts]), iter([3]))
    assert sequence.state_dict()["schedulers"] == [{"type": "LinearLR"}, {"type": "CosineAnnealingWarmRestarts",
                                                                          "fraction": 0}]
    stepped(sequence, 4)
    other = sgd(0.1)
    fresh = ls.SequentialLR(other, [ls.LinearLR(other), ls.CosineAnnealingWarmRestarts(other, 4)], [3])
    fresh.load_state_dict(sequence.state_dict())
    assert fresh.state_dict() == sequence.state_dict()
    stepped(fresh, 2), stepped(sequence, 2)
    assert rates(other) == rates(optimizer)


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


def test_attributes_of_callables_are_copied_both_ways() -> None:
    class Decay:
        def __init__(self) -> None:
            self.history = [1.0]

        def __call__(self, t: float) -> float:
            return 0.5

    for build in (lambda o, f: ls.LambdaLR(o, f), lambda o, f: ls.CyclicLR(o, 0.1, 0.2, 4, scale_fn=f,
                                                                           cycle_momentum=False)):
        first, second = Decay(), Decay()
        scheduler = build(sgd(), first)
        state = scheduler.state_dict()
        extra = state["lr_lambda"][0] if "lr_lambda" in state else state["scale_fn"]
        assert extra == {"history": [1.0]}
        first.history.append(2.0)
        assert extra == {"history": [1.0]}
        build(sgd(), second).load_state_dict(scheduler.state_dict())
        assert second.history == [1.0, 2.0]
        second.history.append(3.0)
        assert first.history == [1.0, 2.0]


def test_fractions_of_epochs_are_kept() -> None:
    scheduler = ls.CosineAnnealingWarmRestarts(sgd(), 4)
    scheduler.step(1.25)
    assert (scheduler.last_epoch, scheduler.state_dict()["fraction"], scheduler.get_last_lr()) == (
        1, 0.25, scheduler.at(1.25))  # type: ignore[arg-type]
    fresh = ls.CosineAnnealingWarmRestarts(sgd(), 4)
    fresh.load_state_dict(scheduler.state_dict())
    fresh.step()
    assert (fresh.last_epoch, fresh.state_dict()["fraction"]) == (2, 0.25)
    assert fresh.get_last_lr() == fresh.at(2.25)  # type: ignore[arg-type]
    fresh.step(0)
    assert fresh.get_last_lr() == [0.1]


# Rates that somebody changed by hand: the recurrences, in proportion to what was found.

def after_hands(name: str, steps: int, changed: int, hand: float = 0.5, **arguments: Any) -> tuple[Any, list[Any]]:
    """The scheduler, and the rates of two groups after each count, the second group changed by hand at one of them."""
    optimizer = sgd(0.5, 0.5)
    scheduler = getattr(ls, name)(optimizer, **{**PLAIN[name], **arguments})
    seen = []
    for t in range(steps):
        if t == changed:
            optimizer.param_groups[1]["lr"] *= hand
        scheduler.step()
        seen.append(rates(optimizer))
    return scheduler, seen


PROPORTIONAL = [("StepLR", {}), ("MultiStepLR", {"milestones": [2, 4, 4, 6]}), ("ConstantLR", {}),
                ("LinearLR", {"start_factor": 0.25}), ("LinearLR", {"start_factor": 1.0, "end_factor": 0.5}),
                ("ExponentialLR", {}), ("PolynomialLR", {"power": 2.0}), ("MultiplicativeLR", {}),
                ("WarmupCosineLR", {"min_factor": 0.1}), ("WarmupStableDecayLR", {"min_factor": 0.1})]


@pytest.mark.parametrize("changed", [0, 1, 2, 4])
@pytest.mark.parametrize(("name", "arguments"), PROPORTIONAL)
def test_a_rate_changed_by_hand_goes_on_in_proportion(name: str, arguments: Any, changed: int) -> None:
    _, seen = after_hands(name, 9, changed, **arguments)
    for t, (left, touched) in enumerate(seen):
        assert touched == pytest.approx(left * (0.5 if t >= changed else 1.0), rel=1e-12), t


@pytest.mark.parametrize(("name", "arguments", "factor"), [
    ("LinearLR", {"start_factor": 0.25}, 0.25), ("ConstantLR", {"factor": 0.25}, 0.25), ("ExponentialLR", {}, 1.0),
    ("MultiStepLR", {"milestones": [0, 0, 3]}, 0.01), ("StepLR", {}, 1.0), ("PolynomialLR", {}, 1.0),
    ("CosineAnnealingLR", {}, 1.0), ("WarmupCosineLR", {}, 0.5), ("WarmupStableDecayLR", {}, 0.5)])
def test_a_schedule_enters_where_it_finds_the_rate(name: str, arguments: Any, factor: float) -> None:
    """A rate that isn't the initial one was put there by somebody, so the first value is that times the factor."""
    optimizer = sgd(0.3)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    getattr(ls, name)(optimizer, **{**PLAIN[name], **arguments})
    assert rates(optimizer) == pytest.approx([0.3 * factor], rel=1e-12)


def test_a_cosine_changed_by_hand_scales_what_is_above_its_floor() -> None:
    scheduler, seen = after_hands("CosineAnnealingLR", 9, 1, eta_min=0.1)
    half = (0.5 * seen[0][0] - 0.1) / (seen[0][0] - 0.1)
    for t in (1, 2, 3):
        assert seen[t][1] - 0.1 == pytest.approx(half * (seen[t][0] - 0.1), rel=1e-12, abs=1e-15)
    assert seen[3] == [pytest.approx(0.1), pytest.approx(0.1)]
    # Above the bottom it rises as the closed form does.
    for t in (4, 5, 6, 7):
        assert seen[t][1] == pytest.approx(scheduler.at(t + 1)[1], rel=1e-9)
    _, seen = after_hands("CosineAnnealingLR", 6, 4, hand=2.0, eta_min=0.1)      # in the bottom itself
    assert seen[4][1] == pytest.approx(0.2 + 0.4 * (1 - math.cos(math.pi / 4)) / 2, rel=1e-12)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_an_annealing_changed_by_hand_still_ends_at_its_constant(strategy: str) -> None:
    _, seen = after_hands("SWALR", 12, 4, anneal_strategy=strategy, swa_lr=0.1)
    left = [(value - 0.1) for value, _ in seen]
    off = (0.5 * (left[3] + 0.1) - 0.1) / left[3]
    for t in range(4, 9):
        assert seen[t][1] - 0.1 == pytest.approx(off * left[t], rel=1e-9)
    assert seen[9:] == [[0.1, 0.1]] * 3
    _, seen = after_hands("SWALR", 12, 11, swa_lr=0.1)                             # after the end it is put back
    assert seen[-1] == [0.1, 0.1]
    optimizer = sgd(0.3)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    ls.SWALR(optimizer, 0.1)
    assert rates(optimizer) == [0.3]


@pytest.mark.parametrize("name", ["LambdaLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"])
def test_a_schedule_without_a_recurrence_writes_over_what_it_finds(name: str) -> None:
    _, seen = after_hands(name, 4, 1)
    assert all(one == other for one, other in seen)


def test_factors_of_zero_start_again_from_the_initial_rate() -> None:
    _, seen = after_hands("WarmupCosineLR", 3, 0, start_factor=0.0)
    assert seen[0] == [0.25, 0.25]                   # nothing to be in proportion to
    _, seen = after_hands("ConstantLR", 7, 1, factor=0.0)
    assert [row[1] for row in seen] == [0, 0, 0, 0, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("found", [0.5, 0.2, 0.05])
def test_a_resumed_group_moves_only_from_where_the_schedule_left_it(found: float) -> None:
    """At the initial value or at that of the count before; any other was put there by somebody."""
    optimizer = sgd(found)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    scheduler = ls.ExponentialLR(optimizer, 0.1, last_epoch=0)
    assert scheduler.last_epoch == 1
    assert rates(optimizer) == [pytest.approx({0.5: 0.05, 0.2: 0.2, 0.05: 0.05}[found])]
    optimizer = sgd(found)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    ls.ExponentialLR(optimizer, 0.1, last_epoch=1)
    assert rates(optimizer) == [pytest.approx({0.5: 0.005, 0.2: 0.2, 0.05: 0.005}[found])]


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
    assert [sequence.at(t) for t in range(5)] == [pytest.approx(row) for row in expected]
    for t in range(1, 5):
        sequence.step()
        assert rates(optimizer) == pytest.approx(expected[t])


def test_a_sequence_changed_by_hand_goes_on_in_proportion_until_the_next_takes_over() -> None:
    optimizer = sgd(0.5, 0.5)
    sequence = ls.SequentialLR(optimizer, [ls.LinearLR(optimizer, 0.2), ls.ExponentialLR(optimizer, 0.5)], [3])
    seen = []
    for t in range(6):
        if t in (1, 4):
            optimizer.param_groups[1]["lr"] *= 0.5
        sequence.step()
        left, touched = rates(optimizer)
        seen.append(touched / left)
    assert seen == pytest.approx([1, 0.5, 1, 1, 0.5, 0.5])


def test_a_chain_of_two_scaling_schedules_and_no_initial_rate() -> None:
    """Factors are found on 1 where the initial rate is 0; the first schedule here doesn't come from that rate."""
    optimizer = sgd(0.0, 0.0)
    optimizer.param_groups[1]["lr"] = 0.0
    chain = ls.ChainedScheduler([ls.CyclicLR(optimizer, 0.1, 0.3, 2, cycle_momentum=False),
                                 ls.LambdaLR(optimizer, [lambda t: 1.0 + t, lambda t: 2.0]),
                                 ls.ExponentialLR(optimizer, 0.5)])
    wave = [0.1, 0.2, 0.3, 0.2]
    for t in range(4):
        expected = [wave[t] * (1 + t) * 0.5 ** t, wave[t] * 2 * 0.5 ** t]
        assert chain.at(t) == pytest.approx(expected, rel=1e-12)
        assert rates(optimizer) == pytest.approx(expected, rel=1e-12)
        chain.step()


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


def test_the_shapes_of_cycles() -> None:
    def cyclic(*counts: int, **options: Any) -> list[float]:
        scheduler = ls.CyclicLR(sgd(), 0.0, 1.0, cycle_momentum=False, **options)
        return [scheduler.at(t)[0] for t in counts]

    assert cyclic(0, 1, 2, 3, step_size_up=1) == [0, 1, 0, 1]
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
    assert once(0, 2, 4, 9, three_phase=True) == [0.25, 1, 0.25, 0.125]
    assert once(3, three_phase=True) == [0.625]
    assert once(0, 4, 9, pct_start=0.5, three_phase=True) == [0.25, 1, pytest.approx(0.125)]


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
