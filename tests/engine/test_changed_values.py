"""Values of groups may change at any time: they count from the next step, which checks them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.native.steps import changed
from support.helpers import gradient, ones, parameters, snapshot, values, zeros

CHANGES = [(ol.SGD, {"lr": 0.1}, {"lr": 0.3}), (ol.SGD, {"lr": 0.1}, {"weight_decay": 0.5}),
           (ol.SGD, {"lr": 0.1}, {"momentum": 0.9}), (ol.SGD, {"lr": 0.1, "momentum": 0.9}, {"momentum": 0}),
           (ol.SGD, {"lr": 0.1, "momentum": 0.9}, {"dampening": 0.5}), (ol.SGD, {"lr": 0.1}, {"maximize": True}),
           (ol.SGD, {"lr": 0.1, "momentum": 0.9}, {"nesterov": True}), (ol.Adam, {"lr": 0.1}, {"lr": 0.3}),
           (ol.Adam, {"lr": 0.1}, {"betas": (0.5, 0.7)}), (ol.Adam, {"lr": 0.1}, {"betas": [0.5, 0.7]}),
           (ol.Adam, {"lr": 0.1}, {"eps": 0.5}), (ol.Adam, {"lr": 0.1}, {"weight_decay": 0.5}),
           (ol.Adam, {"lr": 0.1, "betas": (0.9, 0.5)}, {"amsgrad": True}), (ol.Adam, {"lr": 0.1}, {"maximize": True}),
           (ol.Adam, {"lr": 0.1, "weight_decay": 0.5}, {"decoupled_weight_decay": True})]


@pytest.mark.parametrize(("optimizer", "options", "change"), CHANGES, ids=str)
def test_a_change_counts_from_the_next_step(optimizer: Any, options: dict[str, Any], change: dict[str, Any]) -> None:
    """kozistr PR#516: an option without effect.  The same bits as loading the state into an optimizer made that way."""
    changed, plain = ol.Parameter(ones()), ol.Parameter(ones())
    one, other = optimizer([changed], **options), optimizer([plain], **options)
    for step in range(2):
        one.step(grads=[gradient(step, 0, zeros())])
        other.step(grads=[gradient(step, 0, zeros())])
    made = optimizer([ol.Parameter(changed.data.copy())], **{**options, **change})
    saved = one.state_dict()
    saved["param_groups"] = made.state_dict()["param_groups"]
    if "amsgrad" in change:
        saved["state"][0]["max_exp_avg_sq"] = zeros()        # the maximum starts from zeros
    made.load_state_dict(saved)
    one.param_groups[0].update(change)
    for each in (one, other, made):
        each.step(grads=[gradient(3, 0, zeros())])
        each.step(grads=[zeros()])                           # Adam's second moment falls here, AMSGrad's doesn't
    assert values(one) == values(made)
    assert changed.data.tobytes() != plain.data.tobytes()


@pytest.mark.parametrize(("optimizer", "key", "bad", "message"), [
    (ol.SGD, "lr", -0.1, "`lr` must be >= 0, got -0.1"), (ol.SGD, "lr", float("nan"), "`lr` must be finite, got nan"),
    (ol.SGD, "momentum", "0.9", "`momentum` must be a number, got '0.9'"),
    (ol.SGD, "nesterov", True, "`nesterov` needs `momentum` > 0"),
    (ol.Adam, "betas", (0.9, 1.0), r"`betas\[1\]` must be >= 0 and < 1, got 1.0"),
    (ol.Adam, "betas", 0.9, "`betas` must be a pair of numbers, got 0.9"),
    (ol.Adam, "decoupled_weight_decay", 0, "`decoupled_weight_decay` must be True or False, got 0"),   # == False
    (ol.Adam, "lr", np.ones(2), r"`lr` must be a single number, got an array of shape \(2,\)")])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_changed_value_is_checked_before_the_step(optimizer: Any, key: str, bad: Any, message: str,
                                                    steps: int) -> None:
    built = optimizer([{"params": [zeros()]}, {"params": [zeros()]}])
    for p in parameters(built):
        p.grad = ones()
    for _ in range(steps):
        built.step()
    good = built.param_groups[1][key]
    built.param_groups[1][key] = bad
    before = snapshot(built)
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match=message):
            built.step()
    assert snapshot(built) == before
    built.param_groups[1][key] = good
    built.step()
    assert snapshot(built)[0] != before[0]


def test_an_equal_number_is_no_change() -> None:
    built = ol.SGD([zeros()], lr=0.5)
    built.step(grads=[ones()])
    plans = built._plans[0].plans
    built.param_groups[0]["lr"] = 1.0 / 2.0
    assert changed(built._plans, built.param_groups, built.state.version) is None
    built.param_groups[0]["lr"] = 0.25
    assert changed(built._plans, built.param_groups, built.state.version) == [0]
    built.step()
    assert built._plans[0].plans is plans          # the coefficients changed, not what a plan is made of


def test_a_value_that_is_taken_away_is_missed() -> None:
    optimizer = ol.SGD([zeros()])
    optimizer.step(grads=[ones()])
    del optimizer.param_groups[0]["momentum"]
    with pytest.raises(KeyError, match="lacks the hyper-parameter `momentum`"):
        optimizer.step()


def test_values_are_plain_numbers_that_nobody_else_can_change() -> None:
    """pytorch PR#171515: a learning rate kept as an array changed with whoever else held it."""
    lr, betas = np.array(0.5), [0.5, 0.75]
    a = zeros()
    optimizer = ol.Adam([a], lr=lr, betas=betas)
    group = optimizer.param_groups[0]
    for _ in range(2):
        assert (group["lr"], group["betas"]) == (0.5, (0.5, 0.75))
        assert (type(group["lr"]), type(group["betas"])) == (float, tuple)
        lr[...], betas[0] = 9, 0.1
        optimizer.step(grads=[ones()])
        lr[...], betas[0] = 0.5, 0.5
        group["lr"], group["betas"] = lr, betas
        optimizer.step(grads=[ones()])
    with pytest.raises(TypeError):
        group["betas"][0] = 0.9
