"""What schedulers say: the whole message of every refusal and warning, by the name of what was wrong."""

from __future__ import annotations

import inspect
import re
import warnings
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from optimlite.checks import at_least, one_of
from optimlite.lr_scheduler.arguments import Hyperparameter, PerGroup, an_optimizer, function
from support.helpers import refusal, run_examples, sgd, stepped, whole_messages


class Plain(ol.Optimizer):
    """An optimizer of one's own with nothing but a rate."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.1})


class Unfinished(ls.LRScheduler):
    """A schedule without its formula."""


def saved(**changes: Any) -> dict[str, Any]:
    return {**ls.StepLR(sgd(0.1, 0.2), 3).state_dict(), **changes}


def late_group(build: Any) -> ls.LRScheduler:
    optimizer = sgd(0.1, 0.2)
    scheduler = build(optimizer)
    optimizer.add_param_group({"params": [np.ones(2)], "lr": 0.3})
    return scheduler


def without_trace(optimizer: ol.Optimizer) -> ol.Optimizer:
    optimizer.param_groups[0]["initial_lr"] = 0.1
    return optimizer


def load_extra(build: Any, **changes: Any) -> None:
    optimizer = sgd(momentum=0.9)
    build(optimizer).load_state_dict({**build(optimizer).state_dict(), **changes})


def holding(**values: Any) -> None:
    scheduler = ls.StepLR(sgd(), 3)
    scheduler.optimizer.param_groups[0].update(values)
    scheduler.step()


def in_chain(optimizer: ol.Optimizer) -> ls.LRScheduler:
    return ls.ChainedScheduler([ls.StepLR(optimizer, 3), ls.LambdaLR(optimizer, abs)])


# What is refused, and the whole message.
MESSAGES: list[tuple[Any, type[Exception], str]] = [
    (lambda: at_least(1)("T", 0), ValueError, "`T` must be an integer >= 1, got 0"),
    (lambda: at_least(0)("T", 0.5), ValueError, "`T` must be an integer >= 0, got 0.5"),
    (lambda: one_of("a", "b")("mode", "c"), ValueError, "`mode` must be 'a' or 'b', got 'c'"),
    (lambda: function("f", 3), TypeError, "`f` must be a function, got int"),
    (lambda: an_optimizer(3), TypeError, "`optimizer` must be an optimlite.Optimizer, got int"),
    (lambda: PerGroup("rate", [1, 2, 3], sgd(0.1, 0.2), at_least(0)), ValueError,
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
     "its hyper-parameters are cautious, dampening, lr, max_update_rms, maximize, momentum, nesterov, weight_decay"),
    (lambda: Hyperparameter("betas[2]", ol.Adam([np.ones(2)])), ValueError,
     "`key` must name a number in every group, got 'betas[2]', which group 0 doesn't have; "
     "its hyper-parameters are amsgrad, betas, cautious, cautious_weight_decay, corrected_weight_decay, "
     "decoupled_weight_decay, eps, eps_root, lr, max_update_rms, maximize, uncorrected_eps, weight_decay"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3, last_epoch=4), KeyError,
     "`last_epoch` >= 0 needs 'initial_lr' in every group; group 0 has none"),
    (lambda: ls.StepLR(without_trace(sgd(0.1, 0.2)), 3, last_epoch=0), KeyError,
     "`last_epoch` >= 0 needs 'initial_lr' in every group; group 1 has none"),
    (lambda: Unfinished(sgd()), NotImplementedError, "Unfinished must define closed_form(base, t, i)"),
    (lambda: ls.StepLR(sgd(), 3).at(-1), ValueError, "`t` must be an integer >= 0, got -1"),
    (lambda: ls.StepLR(sgd(), 3).at(1.5), ValueError, "`t` must be an integer >= 0, got 1.5"),
    (lambda: ls.CosineAnnealingWarmRestarts(sgd(), 3).at(-1), ValueError, "`t` must be >= 0, got -1"),
    (lambda: ls.CosineAnnealingWarmRestarts(sgd(), 3).step(-1), ValueError, "`epoch` must be >= 0, got -1"),
    (lambda: ls.StepLR(sgd(), 3, last_epoch=-2), ValueError, "`last_epoch` must be an integer >= -1, got -2"),
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
     "`last_epoch` must be an integer >= 0, got 1.5"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(values={"eps": [], "mu": []})), ValueError,
     "`state_dict` must have values of lr, got eps, mu"),
    (lambda: ls.CyclicLR(sgd(momentum=0.9), 0.1, 0.2).load_state_dict(
        {**ls.CyclicLR(sgd(momentum=0.9), 0.1, 0.2).state_dict(), "values": {"eps": []}}), ValueError,
     "`state_dict` must have values of lr, momentum, got eps"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(values=["lr"])), TypeError,
     "`state_dict` must have a dict of values, got list"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(_path="ab")), TypeError,
     "`state_dict` must have a list in '_path', got str"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(_path=[0.1])), ValueError,
     "`state_dict` must have one entry per group in '_path': 2, got 1"),
    (lambda: ls.StepLR(sgd(0.1, 0.2), 3).load_state_dict(saved(values={"lr": [0.1, "x"]})), TypeError,
     "`lr` must be a number, got 'x'"),
    (lambda: ls.SequentialLR(sgd(), [], []), ValueError, "`schedulers` must have at least one scheduler, got none"),
    (lambda: ls.ChainedScheduler([]), ValueError, "`schedulers` must have at least one scheduler, got none"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3), 3], [1]))(sgd()), TypeError,  # type: ignore[list-item]
     "`schedulers[1]` must be a scheduler, got int"),
    (lambda: ls.ChainedScheduler([sgd()]), TypeError, "`schedulers[0]` must be a scheduler, got SGD"),  # type: ignore[list-item]
    (lambda: ls.ChainedScheduler([ls.ReduceLROnPlateau(sgd())]), ValueError,
     "`schedulers[0]` must be a function of the count, got ReduceLROnPlateau, "
     "which needs a metric in every step; step it beside the ChainedScheduler"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3), ls.ReduceLROnPlateau(o)], [2]))(sgd()), ValueError,
     "`schedulers[1]` must be a function of the count, got ReduceLROnPlateau, "
     "which needs a metric in every step; step it beside the SequentialLR"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3), ls.StepLR(sgd(), 3)], [2]))(sgd()), ValueError,
     "`schedulers[1]` must belong to the SequentialLR's optimizer, got one of another"),
    (lambda: ls.ChainedScheduler([ls.StepLR(sgd(), 3), ls.StepLR(sgd(), 3)]), ValueError,
     "`schedulers[1]` must belong to the ChainedScheduler's optimizer, got one of another"),
    (lambda: ls.ChainedScheduler([ls.StepLR(sgd(), 3)], sgd()), ValueError,
     "`schedulers[0]` must belong to the ChainedScheduler's optimizer, got one of another"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)], [], key="momentum"))(sgd(momentum=0.9)), ValueError,
     "`schedulers[0]` must have the key 'momentum', got 'lr'; step schedulers of different keys side by side"),
    (lambda: (lambda o: ls.ChainedScheduler([ls.StepLR(o, 3), ls.StepLR(o, 3, key="momentum")]))(sgd(momentum=0.9)),
     ValueError,
     "`schedulers[1]` must have the key 'lr', got 'momentum'; step schedulers of different keys side by side"),
    (lambda: (lambda o: ls.ChainedScheduler([ls.StepLR(o, 3)], key="momentum"))(sgd(momentum=0.9)), ValueError,
     "`schedulers[0]` must have the key 'momentum', got 'lr'; step schedulers of different keys side by side"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)] * 2, []))(sgd()), ValueError,
     "`milestones` must have one entry less than `schedulers`: 1, got 0"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)], [1]))(sgd()), ValueError,
     "`milestones` must have one entry less than `schedulers`: 0, got 1"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)] * 3, [4, 2]))(sgd()), ValueError,
     "`milestones` must rise, got [4, 2]"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)] * 2, [-1]))(sgd()), ValueError,
     "`milestones` must be an integer >= 0, got -1"),
    (lambda: (lambda o: ls.ChainedScheduler([stepped(ls.StepLR(o, 3)), ls.StepLR(o, 3)]))(sgd()), ValueError,
     "`schedulers` must stand at the same count, got 0, 1"),
    (lambda: (lambda o: ls.ChainedScheduler([ls.OneCycleLR(o, 0.1, 9), ls.CyclicLR(o, 0.1, 0.2)]))(sgd(momentum=0.9)),
     ValueError, "`schedulers` may have one with values of its own (CyclicLR, OneCycleLR), got several"),
    (lambda: (lambda o: ls.ChainedScheduler(
        [ls.ChainedScheduler([ls.OneCycleLR(o, 0.1, 9)]), ls.CyclicLR(o, 0.1, 0.2)]))(sgd(momentum=0.9)), ValueError,
     "`schedulers` may have one with values of its own (CyclicLR, OneCycleLR), got several"),
    (lambda: (lambda o: ls.ChainedScheduler([ls.StepLR(o, 3), ls.LinearLR(o)]).load_state_dict(
        ls.ChainedScheduler([ls.LinearLR(o), ls.ExponentialLR(o, 0.5)]).state_dict()))(sgd()), ValueError,
     "`state_dict` must come from the schedulers StepLR, LinearLR, got LinearLR, ExponentialLR"),
    (lambda: load_extra(in_chain, schedulers=[3]), TypeError,
     "`state_dict` must have a list of dicts in 'schedulers', got [3]"),
    (lambda: load_extra(in_chain, schedulers=[{"type": "StepLR"}, {"type": "LambdaLR"}]), ValueError,
     "`state_dict` must come from the schedulers StepLR, LambdaLR; that of LambdaLR lacks 'lr_lambda'"),
    (lambda: (lambda o: ls.LambdaLR(o, [abs, abs]).load_state_dict(
        {**ls.LambdaLR(o, abs).state_dict()}))(sgd(0.1, 0.2)), ValueError,
     "`state_dict` must have 2 entries in 'lr_lambda', got 1"),
    (lambda: load_extra(lambda o: ls.LambdaLR(o, abs), lr_lambda=2), TypeError,
     "`state_dict` must have a list in 'lr_lambda', got int"),
    (lambda: load_extra(lambda o: ls.LambdaLR(o, abs), lr_lambda=[3]), TypeError,
     "`state_dict` must have None or the attributes of an object in 'lr_lambda', got 3"),
    (lambda: load_extra(lambda o: ls.LambdaLR(o, abs), lr_lambda=[{"rate": 1}]), ValueError,
     "`state_dict` must have None in 'lr_lambda' for a function without attributes, got {'rate': 1}"),
    (lambda: load_extra(lambda o: ls.CyclicLR(o, 0.1, 0.2, scale_fn=abs), scale_fn={3: 1}), TypeError,
     "`state_dict` must have None or the attributes of an object in 'scale_fn', got {3: 1}"),
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
     "`epochs` must be an integer >= 1, got 0"),
    (lambda: ls.OneCycleLR(sgd(momentum=0.9), 0.1, epochs=3, steps_per_epoch=0), ValueError,
     "`steps_per_epoch` must be an integer >= 1, got 0"),
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
    (lambda: ls.WarmupCosineLR(sgd(), 10, 9), ValueError, "`warmup_steps` must be <= total_steps = 9, got 10"),
    (lambda: ls.LinearLR(sgd(), 0), ValueError, "`start_factor` must be > 0 and <= 1, got 0"),
    (lambda: ls.StepLR(sgd(), 3).plot(0), ValueError, "`steps` must be an integer >= 1, got 0"),
    (lambda: ls.CyclicLR(ol.Adam([np.ones(2)]), 0.1, 0.2, max_momentum=1), ValueError,
     "`max_momentum` must be >= 0 and < 1, got 1"),
    # A list where one number, scheduler or optimizer was given.
    (lambda: ls.MultiStepLR(sgd(), 30), TypeError,  # type: ignore[arg-type]
     "`milestones` must be a list of integers, such as [30, 80], got 30"),
    (lambda: ls.MultiStepLR(sgd(), "30"), TypeError,  # type: ignore[arg-type]
     "`milestones` must be a list of integers, such as [30, 80], got '30'"),
    (lambda: (lambda o: ls.SequentialLR(o, [ls.StepLR(o, 3)] * 2, 5))(sgd()), TypeError,  # type: ignore[arg-type]
     "`milestones` must be a list of integers, such as [30, 80], got 5"),
    (lambda: ls.ChainedScheduler(ls.StepLR(sgd(), 3)), TypeError,  # type: ignore[arg-type]
     "`schedulers` must be a list of schedulers, such as [warmup, decay], "
     "got <StepLR(step_size=3, gamma=0.1) at count 0: lr [0.1]>"),
    (lambda: ls.SequentialLR(sgd(), 3, [1]), TypeError,  # type: ignore[arg-type]
     "`schedulers` must be a list of schedulers, such as [warmup, decay], got 3"),
    # What a group holds.
    (lambda: holding(lr="fast"), TypeError, "`lr` must be a number, got 'fast'"),
    (lambda: holding(lr=np.ones(2)), TypeError, "`lr` must be a single number, got an array of shape (2,)"),
    (lambda: (lambda o: o.param_groups[0].update(initial_lr="fast") or ls.StepLR(o, 3))(sgd()), TypeError,
     "`initial_lr` must be a number, got 'fast'"),
    # What a step is given.
    (lambda: ls.StepLR(sgd(), 3).step(0.5), TypeError,  # type: ignore[call-arg]
     "StepLR.step() takes no arguments, since it counts by itself, got 0.5; "
     "only ReduceLROnPlateau follows a metric, and at(t) gives the values of any count"),
    (lambda: in_chain(sgd()).step(metrics=0.5), TypeError,  # type: ignore[call-arg]
     "ChainedScheduler.step() takes no arguments, since it counts by itself, got metrics=0.5; "
     "only ReduceLROnPlateau follows a metric, and at(t) gives the values of any count"),
    (lambda: ls.ReduceLROnPlateau(sgd()).step(None), TypeError, "`metrics` must be a number, got None"),  # type: ignore[arg-type]
    (lambda: ls.ReduceLROnPlateau(sgd()).step("1"), TypeError, "`metrics` must be a number, got '1'"),  # type: ignore[arg-type]
    (lambda: ls.ReduceLROnPlateau(sgd()).step(np.ones(2)), TypeError,  # type: ignore[arg-type]
     "`metrics` must be a number, got array([1., 1.])"),
    # What a function returns.
    (lambda: ls.LambdaLR(sgd(), lambda t: None), TypeError,  # type: ignore[arg-type,return-value]
     "`lr_lambda` must return a number, got None for 0; does it lack a `return`?"),
    (lambda: ls.LambdaLR(sgd(), lambda t: 0.1 if t < 3 else None).at(3), TypeError,  # type: ignore[arg-type,return-value]
     "`lr_lambda` must return a number, got None for 3; does it lack a `return`?"),
    (lambda: ls.MultiplicativeLR(sgd(), str).at(1), TypeError,  # type: ignore[arg-type]
     "`lr_lambda` must return a number, got '1'"),
    (lambda: ls.LambdaLR(sgd(), lambda t: 10 ** 400 if t else 0).at(1), TypeError,
     "`lr_lambda` must return a number, got 1" + "0" * 199 + "..."),
    (lambda: ls.CyclicLR(sgd(), 0.1, 0.2, scale_fn=lambda c: [c], cycle_momentum=False), TypeError,  # type: ignore[arg-type,return-value]
     "`scale_fn` must return a number, got [1]"),
    # A name that isn't an argument.
    (lambda: ls.StepLR(sgd(), stepsize=3), TypeError,  # type: ignore[call-arg]
     "StepLR has no argument `stepsize`; did you mean `step_size`?"),
    (lambda: ls.CosineAnnealingLR(sgd(), t_max=3), TypeError,  # type: ignore[call-arg]
     "CosineAnnealingLR has no argument `t_max`; did you mean `T_max`?"),
    (lambda: ls.ExponentialLR(sgd(), 0.5, verbose=True), TypeError,  # type: ignore[call-arg]
     "ExponentialLR has no argument `verbose`; it has `optimizer`, `gamma`, `last_epoch`, `key`"),
    (lambda: ls.ReduceLROnPlateau(sgd(), patients=3), TypeError,  # type: ignore[call-arg]
     "ReduceLROnPlateau has no argument `patients`; did you mean `patience`?"),
    (lambda: ls.SequentialLR(sgd(), [], milestone=[]), TypeError,  # type: ignore[call-arg]
     "SequentialLR has no argument `milestone`; did you mean `milestones`?"),
    (lambda: Unfinished(sgd(), last_epoc=3), TypeError,  # type: ignore[call-arg]
     "Unfinished has no argument `last_epoc`; did you mean `last_epoch`?"),
]


@whole_messages(MESSAGES)
def test_the_whole_message(act: Any, error: type[Exception], message: str) -> None:
    refused = refusal(act, error, message)
    assert refused.__suppress_context__ == ("`key` must name a number" in message)


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
    rule = " or ".join(words.rsplit(", ", 1))
    with pytest.raises(ValueError, match=f"^`{name}` must be {rule}, got 'x'$"):
        schedule(sgd(momentum=0.9), **arguments, **{name: "x"})
    for word in words.split(", "):
        assert getattr(schedule(sgd(momentum=0.9), **arguments, **{name: word[1:-1]}), name) == word[1:-1]


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


# What schedulers show -------------------------------------------------------------------------------------------------

SHOWN = [
    (lambda o: stepped(ls.StepLR(o, 2, 0.5), 3), "<StepLR(step_size=2, gamma=0.5) at count 3: lr [0.25]>"),
    (lambda o: ls.MultiStepLR(o, (8, 3), key="weight_decay"),
     "<MultiStepLR(milestones=[3, 8], gamma=0.1) at count 0: weight_decay [0.0]>"),
    (lambda o: ls.LambdaLR(o, abs), "<LambdaLR(lr_lambda=<built-in function abs>) at count 0: lr [0.0]>"),
    (lambda o: ls.SWALR(o, [0.25], 4),
     "<SWALR(swa_lr=[0.25], anneal_epochs=4, anneal_strategy='cos') at count 0: lr [0.5]>"),
    (lambda o: ls.WarmupStableDecayLR(o, 2, 3, 4),
     "<WarmupStableDecayLR(warmup_steps=2, stable_steps=3, decay_steps=4, decay='linear', "
     "min_factor=0.0, start_factor=0.0) at count 0: lr [0.0]>"),
    (lambda o: ls.OneCycleLR(o, 0.5, epochs=2, steps_per_epoch=5, div_factor=2, cycle_momentum=False),
     "<OneCycleLR(max_lr=0.5, total_steps=10, anneal_strategy='cos', div_factor=2, final_div_factor=10000.0) "
     "at count 0: lr [0.25]>"),
    (lambda o: ls.SequentialLR(o, [ls.ChainedScheduler([ls.StepLR(o, 2)]), ls.ExponentialLR(o, 0.5)], [3]),
     "<SequentialLR([ChainedScheduler([StepLR(step_size=2, gamma=0.1)]), ExponentialLR(gamma=0.5)], [3]) "
     "at count 0: lr [0.5]>"),
]


@pytest.mark.parametrize(("build", "text"), SHOWN)
def test_a_scheduler_shows_its_arguments_and_where_it_stands(build: Any, text: str) -> None:
    assert repr(build(sgd(0.5))) == text


SCHEDULERS = [getattr(ls, name) for name in ls.__all__]


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_every_argument_is_explained_and_every_schedule_has_an_example_that_runs(schedule: Any) -> None:
    text = inspect.getdoc(schedule)
    assert text is not None
    explained = text if schedule is ls.LRScheduler else text[:text.index("    >>> ")]
    for name in inspect.signature(schedule).parameters:
        assert re.search(rf"(^|, |\.    |    ){name}(, \w+)*:|`{name}[`=]", explained, re.M), name
    names = {name: getattr(ls, name) for name in ls.__all__}
    assert (run_examples(schedule, **names, opt=sgd(1.0, momentum=0.9)) > 0) == (schedule is not ls.LRScheduler)


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_constructors_are_in_sight(schedule: Any) -> None:
    """Type checkers and completion read `__init__`: a `__new__` would hide it, and so would a bare `*args`."""
    assert schedule.__new__ is object.__new__
    assert type(schedule) is type
    kinds = {parameter.kind for parameter in inspect.signature(schedule).parameters.values()}
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    assert "optimizer" in inspect.signature(schedule).parameters
