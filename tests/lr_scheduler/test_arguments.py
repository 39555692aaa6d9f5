"""Bad arguments and states are refused before anything changes, by name."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from support.rates import Rate, sgd

NAN, INF = float("nan"), float("inf")


WHOLE = [-1, 0.5, NAN, INF, "3", None, True]
POSITIVE = [*WHOLE, 0]
RATE = [-0.1, NAN, INF, "1", None, True]
FACTOR = [*RATE, 1.5]

# schedule, its valid arguments, the argument to spoil, the values to refuse
REFUSED = [
    ("LambdaLR", {"lr_lambda": abs}, "lr_lambda", [None, 0.5, [abs], [abs, 1]]),
    ("MultiplicativeLR", {"lr_lambda": abs}, "lr_lambda", [None, 0.5, [abs] * 3]),
    ("StepLR", {"step_size": 3}, "step_size", POSITIVE),
    ("StepLR", {"step_size": 3}, "gamma", RATE),
    ("MultiStepLR", {"milestones": [3]}, "milestones", [[-1], [2.5], ["a"], [3, None], 3, "33", {3: 1}, None]),
    ("MultiStepLR", {"milestones": [3]}, "gamma", RATE),
    ("ConstantLR", {}, "factor", FACTOR),
    ("ConstantLR", {}, "total_iters", WHOLE),
    ("LinearLR", {}, "start_factor", [*FACTOR, 0]),
    ("LinearLR", {}, "end_factor", FACTOR),
    ("LinearLR", {}, "total_iters", WHOLE),
    ("ExponentialLR", {}, "gamma", RATE),
    ("PolynomialLR", {}, "total_iters", POSITIVE),
    ("PolynomialLR", {}, "power", RATE),
    ("CosineAnnealingLR", {}, "T_max", POSITIVE),
    ("CosineAnnealingLR", {"T_max": 5}, "eta_min", RATE),
    ("CosineAnnealingWarmRestarts", {}, "T_0", POSITIVE),
    ("CosineAnnealingWarmRestarts", {"T_0": 5}, "T_mult", POSITIVE),
    ("CosineAnnealingWarmRestarts", {"T_0": 5}, "eta_min", RATE),
    ("CyclicLR", {"max_lr": 0.1}, "base_lr", [*RATE, [0.1], [0.1, -1]]),
    ("CyclicLR", {"base_lr": 0.1}, "max_lr", [*RATE, [0.1] * 3]),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}, "step_size_up", POSITIVE),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}, "step_size_down", [-1, 0, 0.5, NAN]),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}, "mode", ["square", None]),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}, "gamma", RATE),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}, "scale_fn", [0.5]),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}, "scale_mode", ["epochs"]),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}, "base_momentum", [-0.1, NAN, INF, [0.8]]),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}, "max_momentum", [-0.1, NAN, INF, [0.8]]),
    ("OneCycleLR", {"total_steps": 9}, "max_lr", [*RATE, [0.1]]),
    ("OneCycleLR", {"max_lr": 0.1}, "total_steps", POSITIVE),
    ("OneCycleLR", {"max_lr": 0.1, "steps_per_epoch": 3}, "epochs", [0, -1, 0.5]),
    ("OneCycleLR", {"max_lr": 0.1, "epochs": 3}, "steps_per_epoch", [0, -1, 0.5]),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}, "pct_start", FACTOR),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9, "three_phase": True}, "pct_start", [0.6]),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}, "anneal_strategy", ["exp", None]),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}, "div_factor", [*RATE, 0]),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}, "final_div_factor", [*RATE, 0]),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}, "base_momentum", [-0.1, NAN, INF, [0.8]]),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}, "max_momentum", [-0.1, NAN, INF, [0.8]]),
    ("ReduceLROnPlateau", {}, "mode", ["low", None]),
    ("ReduceLROnPlateau", {}, "factor", [-0.1, 1, 1.0, 2, NAN]),
    ("ReduceLROnPlateau", {}, "patience", WHOLE),
    ("ReduceLROnPlateau", {}, "threshold", RATE),
    ("ReduceLROnPlateau", {}, "threshold_mode", ["relative"]),
    ("ReduceLROnPlateau", {}, "cooldown", WHOLE),
    ("ReduceLROnPlateau", {}, "min_lr", [*RATE, [0.1]]),
    ("ReduceLROnPlateau", {}, "eps", RATE),
    ("SWALR", {}, "swa_lr", [*RATE, [0.1]]),
    ("SWALR", {"swa_lr": 0.1}, "anneal_epochs", WHOLE),
    ("SWALR", {"swa_lr": 0.1}, "anneal_strategy", ["cosine"]),
    ("WarmupCosineLR", {"total_steps": 9}, "warmup_steps", [*WHOLE, 10]),
    ("WarmupCosineLR", {"warmup_steps": 0}, "total_steps", POSITIVE),
    ("WarmupCosineLR", {"warmup_steps": 1, "total_steps": 9}, "min_factor", FACTOR),
    ("WarmupCosineLR", {"warmup_steps": 1, "total_steps": 9}, "start_factor", FACTOR),
    ("WarmupStableDecayLR", {"stable_steps": 2, "decay_steps": 3}, "warmup_steps", WHOLE),
    ("WarmupStableDecayLR", {"warmup_steps": 2, "decay_steps": 3}, "stable_steps", WHOLE),
    ("WarmupStableDecayLR", {"warmup_steps": 2, "stable_steps": 3}, "decay_steps", POSITIVE),
    ("WarmupStableDecayLR", {"warmup_steps": 2, "stable_steps": 3, "decay_steps": 4}, "decay", ["exp"]),
    *[("WarmupStableDecayLR", {"warmup_steps": 2, "stable_steps": 3, "decay_steps": 4}, name, FACTOR)
      for name in ("min_factor", "start_factor")],
    *[(name, arguments, "last_epoch", [-2, 0.5, None]) for name, arguments in [
        ("StepLR", {"step_size": 3}), ("LambdaLR", {"lr_lambda": abs}), ("CosineAnnealingWarmRestarts", {"T_0": 3})]],
    ("StepLR", {"step_size": 3}, "key", ["momentun", "betas[0]", "params", "nesterov", "lr[0]", "a b", "", 3, None]),
]


@pytest.mark.parametrize(("name", "arguments", "argument", "values"), REFUSED,
                         ids=[f"{row[0]}-{row[2]}{'-three' * ('three_phase' in row[1])}" for row in REFUSED])
def test_a_bad_argument_is_refused_by_name(name, arguments, argument, values):
    opt = sgd(0.1, 0.2, momentum=0.9)
    before = copy.deepcopy(opt.param_groups)
    for value in values:
        with pytest.raises((ValueError, TypeError), match=f"^`{argument}` must ") as caught:
            getattr(ls, name)(opt, **{**arguments, argument: value})
        if isinstance(value, (int, float)) and argument not in ("lr_lambda", "scale_fn"):
            assert str(caught.value).endswith(f", got {value!r}")
        assert opt.param_groups[0].keys() == before[0].keys()
        assert [group["lr"] for group in opt.param_groups] == [0.1, 0.2]


SCHEDULES = [
    ("LambdaLR", {"lr_lambda": abs}), ("MultiplicativeLR", {"lr_lambda": abs}), ("StepLR", {"step_size": 3}),
    ("MultiStepLR", {"milestones": [3]}), ("ConstantLR", {}), ("LinearLR", {}), ("ExponentialLR", {"gamma": 0.9}),
    ("PolynomialLR", {}), ("CosineAnnealingLR", {"T_max": 3}), ("CosineAnnealingWarmRestarts", {"T_0": 3}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}), ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}),
    ("ReduceLROnPlateau", {}), ("SWALR", {"swa_lr": 0.1}), ("WarmupCosineLR", {"warmup_steps": 1, "total_steps": 9}),
    ("WarmupStableDecayLR", {"warmup_steps": 2, "stable_steps": 3, "decay_steps": 4}),
]


@pytest.mark.parametrize(("name", "arguments"), SCHEDULES)
def test_only_optimizers_have_schedules(name, arguments):
    with pytest.raises(TypeError, match=r"`optimizer` must be an optimlite\.Optimizer, got list"):
        getattr(ls, name)([], **arguments)


@pytest.mark.parametrize(("name", "arguments"), SCHEDULES)
def test_a_misspelt_argument_is_refused_by_name(name, arguments):
    with pytest.raises(TypeError, match=f"^{name} has no argument `ky`; "):
        getattr(ls, name)(sgd(0.1, momentum=0.9), **arguments, ky="lr")


@pytest.mark.parametrize("value", [-1, 2.5, NAN, "3", None, True])
def test_a_bad_count_is_refused(value):
    with pytest.raises((ValueError, TypeError), match="`t` must be"):
        ls.StepLR(sgd(0.1), 3).at(value)


@pytest.mark.parametrize("value", [-1, NAN, "3", INF])
def test_a_bad_epoch_is_refused(value):
    scheduler = ls.CosineAnnealingWarmRestarts(sgd(0.1), 3)
    scheduler.optimizer.steps_taken = 1
    with pytest.raises((ValueError, TypeError), match="`epoch` must be"):
        scheduler.step(value)
    assert scheduler.last_epoch == 0


def test_cycling_needs_a_momentum():
    class Plain(ol.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1})

    opt = Plain([ol.Parameter(np.ones(2))])
    with pytest.raises(ValueError, match="`cycle_momentum` must be False for Plain, which has neither"):
        ls.CyclicLR(opt, 0.01, 0.1)
    ls.CyclicLR(opt, 0.01, 0.1, cycle_momentum=False)


def test_a_function_that_fails_changes_nothing():
    def factor(t):
        return 1 / (3 - t)

    opt = sgd(0.1)
    opt.steps_taken = 1
    scheduler = ls.LambdaLR(opt, factor)
    scheduler.step()
    scheduler.step()
    before = scheduler.state_dict()
    with pytest.raises(ZeroDivisionError):
        scheduler.step()
    assert (scheduler.state_dict(), opt.param_groups[0]["lr"]) == (before, 0.1)


# States


def changed(**changes):
    return lambda state: state.update(changes)


def dropped(name):
    return lambda state: state.pop(name)


STATES = [
    (changed(type="ExponentialLR"), "must have the type 'StepLR', got 'ExponentialLR'"),
    (changed(key="momentum"), "must have the key 'lr', got 'momentum'"),
    (changed(step_size=3), "has an unknown 'step_size'"),
    (dropped("_path"), "lacks '_path'"),
    (changed(base_lrs=[0.1]), "must have one entry per group in 'base_lrs': 2, got 1"),
    (changed(_last_lr=[0.1] * 3), "must have one entry per group in '_last_lr': 2, got 3"),
    (changed(values={"lr": [0.1]}), "must have one entry per group in 'lr': 2, got 1"),
    (changed(values={"momentum": [0.1, 0.1]}), "must have values of lr, got momentum"),
    (changed(_path=[0.1, NAN]), "`_path` must be finite, got nan"),
    (changed(last_epoch=-1), "`last_epoch` must be an integer >= 0, got -1"),
]


@pytest.mark.parametrize(("spoil", "message"), STATES)
def test_a_state_that_does_not_fit_changes_nothing(spoil, message):
    opt = sgd(0.1, 0.2)
    opt.steps_taken = 1
    scheduler = ls.StepLR(opt, 3)
    saved = scheduler.state_dict()
    for _ in range(4):
        scheduler.step()
    before = scheduler.state_dict()
    spoil(saved)
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(saved)
    assert scheduler.state_dict() == before


BUILDS = {
    "step": lambda o: ls.StepLR(o, 3),
    "lambda": lambda o: ls.LambdaLR(o, [abs, Rate()]),
    "sequence": lambda o: ls.SequentialLR(o, [ls.LinearLR(o), ls.LambdaLR(o, Rate())], [3]),
    "lambdas": lambda o: ls.LambdaLR(o, [Rate(), Rate()]),
    "cyclic": lambda o: ls.CyclicLR(o, 0.1, 0.2, scale_fn=Rate(), cycle_momentum=False),
    "restarts": lambda o: ls.CosineAnnealingWarmRestarts(o, 3),
}


@pytest.mark.parametrize(("build", "name", "value"), [
    ("step", "values", ["lr"]), ("step", "values", 1), ("step", "values", {"lr": {0: 0.1, 1: 0.2}}),
    ("step", "base_lrs", "ab"), ("step", "_path", {0, 1}), ("step", "last_epoch", [1]),
    ("lambda", "lr_lambda", 2), ("lambda", "lr_lambda", {0: None, 1: None}), ("lambda", "lr_lambda", [None, 1]),
    ("lambda", "lr_lambda", [None, {0: 1}]), ("lambda", "lr_lambda", [None, {"rate": (x for x in ())}]),
    ("lambda", "lr_lambda", [{"rate": 1.0}, None]),
    ("lambdas", "lr_lambda", [{"rate": 5.0}, {"rate": (x for x in ())}]),
    ("sequence", "schedulers", None), ("sequence", "schedulers", np.ones((2, 2))), ("sequence", "schedulers", [1, 2]),
    ("sequence", "schedulers", [{"type": "LinearLR"}, {"type": "LambdaLR"}]),
    ("cyclic", "scale_fn", [1]), ("restarts", "fraction", -1), ("restarts", "fraction", 1.5)])
def test_a_state_of_the_wrong_form_changes_nothing(build, name, value):
    opt = sgd(0.1, 0.2)
    opt.steps_taken = 1
    scheduler = BUILDS[build](opt)
    scheduler.step()
    before, groups = scheduler.state_dict(), [dict(group) for group in opt.param_groups]
    with pytest.raises((TypeError, ValueError)):
        scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": 7, name: value})
    assert scheduler.state_dict() == before
    assert [dict(group) for group in opt.param_groups] == groups


def test_loaded_numbers_are_plain_ones():
    """An array in a group could be altered from outside."""
    scheduler = ls.StepLR(sgd(0.1, 0.2), 3)
    scheduler.load_state_dict({**scheduler.state_dict(), "values": {"lr": [np.array([0.3]), np.float64(0.4)]}})
    assert [type(group["lr"]) for group in scheduler.optimizer.param_groups] == [float, float]


def test_the_extra_state_must_fit():
    opt = sgd(0.1, 0.2)
    sequential = ls.SequentialLR(opt, [ls.LinearLR(opt), ls.LambdaLR(opt, [abs, abs])], [3])
    state = sequential.state_dict()
    state["schedulers"][1]["lr_lambda"].pop()
    with pytest.raises(ValueError, match="must have 2 entries in 'lr_lambda', got 1"):
        sequential.load_state_dict(state)
    plateau = ls.ReduceLROnPlateau(opt)
    for name, value in [("best", NAN), ("num_bad_epochs", -1), ("cooldown_counter", 0.5)]:
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            plateau.load_state_dict({**plateau.state_dict(), name: value})
    restarts = ls.CosineAnnealingWarmRestarts(opt, 3)
    with pytest.raises(ValueError, match="`fraction` must be"):
        restarts.load_state_dict({**restarts.state_dict(), "fraction": NAN})
