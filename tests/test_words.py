"""What newcomers write that can't be meant so: the message has the thing, the rule, what came and the cure."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import refusals

W = np.ones(3)
F = np.float32


# State that is assigned ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("empty", [defaultdict(dict), {}], ids=["defaultdict", "dict"])
def test_an_empty_state_that_is_assigned_forgets_all(empty: Any) -> None:
    """torch's idiom: `opt.state = defaultdict(dict)`."""
    w = np.zeros(3)
    opt = ol.SGD({"w": w}, lr=1.0, momentum=0.5)
    opt.step(grads={"w": np.ones(3)})
    opt.state = empty
    assert not opt.state
    opt.step(grads={"w": np.ones(3)})
    assert list(w) == [-2] * 3                   # without the momentum of the first step
    assert "w" in opt.state
    opt.state = opt.state                        # changes nothing
    assert "w" in opt.state


def test_closures_forget_their_history_too() -> None:
    opt = ol.LBFGS([np.array([1.0, 2.0])], max_iter=2, line_search_fn="strong_wolfe")
    p = opt.param_groups[0]["params"][0]
    opt.step(lambda: (p.data @ p.data, [2 * p.data]))
    assert opt.state
    opt.state = {}
    assert not opt.state
    opt.step(lambda: (p.data @ p.data, [2 * p.data]))
    assert opt.state[p]["n_iter"] <= 2


@pytest.mark.parametrize(("other", "message"), [
    (None, "`state` must be an empty dict, which forgets all state, got None; use opt.load_state_dict"),
    ({"w": {"step": 1}}, "`state` must be an empty dict, which forgets all state, got 1 entries; use opt.load_state_d"),
])
def test_another_state_that_is_assigned_is_refused(other: Any, message: str) -> None:
    opt = ol.Adam({"w": np.zeros(3)})
    opt.step(grads={"w": np.ones(3)})
    with pytest.raises((TypeError, ValueError), match=message):
        opt.state = other
    assert set(opt.state["w"]) == {"step", "exp_avg", "exp_avg_sq"}


# Constructors --------------------------------------------------------------------------------------------------------

class Forgets(ol.Optimizer):
    def __init__(self, params: Any) -> None:
        self.mine = params


class ForgetsSGD(ol.SGD):
    def __init__(self, params: Any) -> None:
        self.mine = params


class ForgetsSchedule(ol.lr_scheduler.LRScheduler):
    def __init__(self, optimizer: Any) -> None:
        self.mine = optimizer


@pytest.mark.parametrize("kind", [Forgets, ForgetsSGD])
def test_an_optimizer_that_forgets_its_base(kind: Any) -> None:
    message = rf"^{kind.__name__}.__init__ must call super\(\).__init__\(params, defaults\)$"
    with pytest.raises(TypeError, match=message):
        kind([W])


def test_a_schedule_that_forgets_its_base() -> None:
    with pytest.raises(TypeError, match=r"^ForgetsSchedule.__init__ must call super\(\).__init__\(optimizer, last_e"):
        ForgetsSchedule(ol.SGD([W]))


def test_a_subclass_may_call_another_class_of_its_line() -> None:
    class Skips(ForgetsSGD):
        def __init__(self, params: Any) -> None:
            super().__init__(params)             # which alone would be refused
            ol.SGD.__init__(self, params, lr=0.5)

    assert Skips([np.ones(2)]).param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("optimizer", [ol.Adam, ol.AdamW, ol.LBFGS, ol.Muon])
def test_constructors_show_their_arguments(optimizer: Any) -> None:
    import inspect

    assert list(inspect.signature(optimizer).parameters)[:2] == ["params", "lr"]


# Steps ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("given", "message"), [
    ({"max_norm": 1}, r"^SGD.step has no argument `max_norm`; did you mean `max_grad_norm`\?$"),
    ({"gradients": [W]}, r"^SGD.step has no argument `gradients`; "),
    ({"lr": 1}, r"^SGD.step has no argument `lr`; it has `closure`, `grads`, "),
])
def test_a_misspelt_argument_of_step(given: Any, message: str) -> None:
    opt = ol.SGD([np.ones(3)])
    with pytest.raises(TypeError, match=message) as caught:
        opt.step(**given)
    assert caught.value.__suppress_context__
    opt.step(grads=[np.ones(3)])                 # the step that was refused is over


def test_a_misspelt_argument_of_a_step_of_ones_own() -> None:
    class Own(ol.Optimizer):
        def step(self, closure: Any = None) -> Any:
            return len(closure)                  # a TypeError of its own

    opt = Own([np.ones(3)], {})
    with pytest.raises(TypeError, match=r"^Own.step has no argument `grad`; did you mean `grads`\?$"):
        opt.step(grad=[np.ones(3)])
    with pytest.raises(TypeError, match=r"has no len\(\)$"):
        opt.step(grads=[np.ones(3)])


def test_gradients_of_the_other_float_type() -> None:
    opt = ol.SGD({"W": np.ones(2, F)})
    with pytest.raises(TypeError, match=r"^gradient of 'W' is float64 but the parameter is float32; use "
                                        r"grad.astype\(np.float32\), or float32 data: NumPy computes in float64 where"):
        opt.step(grads={"W": np.ones(2)})
    with pytest.raises(TypeError, match=r"^gradient of 'W' is float32 but the parameter is float64; use "
                                        r"grad.astype\(np.float64\); or let the optimizer convert: cast_grads=True$"):
        ol.SGD({"W": np.ones(2)}).step(grads={"W": np.ones(2, F)})


# What objects say of themselves --------------------------------------------------------------------------------------

def test_an_optimizer_says_how_many_parameters_it_has() -> None:
    opt = ol.SGD([{"params": [np.ones((100, 20)), np.ones(20)]}, {"params": [np.ones(1)], "lr": 0.5}])
    lines = repr(opt).splitlines()
    assert lines[:2] == ["SGD (", "Parameter Group 0: 2 parameters, 2,020 elements"]
    assert "Parameter Group 1: 1 parameter, 1 element" in lines


# Functions beside the optimizers -------------------------------------------------------------------------------------

class Endless:
    def __iter__(self) -> Any:
        return iter([self])


def endless() -> list[Any]:
    inside: list[Any] = []
    inside.append(inside)
    return inside


def sum_of_squares(x: Any) -> Any:
    return float(x @ x), 2 * x


test_what_functions_refuse = refusals([
    (lambda: ol.SGD(endless()), "^parameters must not be nested that deeply, or contain themselves, got a list$"),
    (lambda: ol.SGD([Endless()]), "^parameters must not be nested that deeply, or contain themselves, got a list$"),
    (lambda: ol.save({"w": W}, "file"), r"^save takes a path, and everything else by name, got 1 more: ol.save\('run"),
    (lambda: ol.restore("file", W), r"^restore takes a path, and everything else by name, got 1 more: ol.restore\("),
    (lambda: ol.Average([W], deacy=0.9), r"^Average has no argument `deacy`; did you mean `decay`\?$"),
    (lambda: ol.Checkpoints("run", keeep=3), r"^Checkpoints has no argument `keeep`; did you mean `keep`\?$"),
    (lambda: ol.minimize(sum_of_squares, W, option={}), r"^minimize has no argument `option`; did you mean `options`"),
    (lambda: ol.Adam([W], b1=0.9), r"^Adam has no argument `b1`; did you mean `betas`\?$"),
    (lambda: ol.Adam([W], lr=ol.schedules.cosine(0.1, T_max=9)), r"^`lr` must be a number, .*; ol.lr_scheduler has"),
    (lambda: ol.schedules.step(0.1, steps=9), r"^the schedule of StepLR has no argument `steps`; it has `value`, "),
    (lambda: ol.minimize(sum_of_squares, W, maxiter=3),
     r"^minimize has no argument `maxiter`; it has .*; a method's go into options=\{'maxiter': ...\}"),
    (lambda: ol.group_by_name({"a": W}, {"a": 3}), r"^`overrides` must be a dict of dicts, .* got \{'a': 3\}$"),
    (lambda: ol.group_by_name({"a": W}, [("a", {"lr": 1})]), "^`overrides` must be a dict of dicts, "),
    (lambda: ol.to_torch(ol.SGD([W])), r"^`state_dict` must be a dict, such as opt.state_dict\(\), got SGD$"),
    (lambda: ol.LBFGS([W], bounds=[(0, 1), (0, 1)]), "^`bounds` must have one pair for each of 1 parameters, got 2$"),
])


class Limits:
    """scipy.optimize.Bounds."""

    def __init__(self, lb: Any, ub: Any) -> None:
        self.lb, self.ub = lb, ub


def test_bounds_as_scipy_has_them() -> None:
    w = np.array([1.0, 2.0])
    opt = ol.LBFGS([w], bounds=Limits([0.5, -1], 3), line_search_fn="strong_wolfe")
    opt.step(lambda: (w @ w, [2 * w]))
    assert w == pytest.approx([0.5, 0])
    with pytest.raises(ValueError, match=r"`bounds` of '0' must be numbers or arrays that broadcast to \(2,\)"):
        ol.LBFGS([w], bounds=Limits([0, 0, 0], 1))


class Detached:
    detach = None


class Stored:
    toarray = None


@pytest.mark.parametrize(("gradient", "cure"), [
    (Detached(), r"use grad.detach\(\).numpy\(\)"), (Stored(), r"use grad.toarray\(\)"),
    ([1.0], r"use np.asarray\(grad, dtype=np.float64\)")], ids=["tensor", "sparse", "list"])
def test_a_gradient_that_is_no_array(gradient: Any, cure: str) -> None:
    with pytest.raises(TypeError, match=f"^gradient of '0' must be a NumPy array, got .*; {cure}$"):
        ol.SGD([np.ones(1)]).step(grads=[gradient])
