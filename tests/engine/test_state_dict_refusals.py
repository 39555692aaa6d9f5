"""What doesn't fit into an optimizer is named and refused, or returned; nothing is changed then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import PlainMomentum, content, gradient, model, ones, parameters, snapshot, train, values, zeros
from support.state_dicts import adam


def change(state_dict: dict[str, Any], **entries: Any) -> None:
    state_dict["state"][0].update(entries)


def drop(mapping: dict[str, Any], key: Any) -> None:
    del mapping[key]


# What was done to the dict, which list names it, and how.  State 0 is that of 'W', of shape (3, 4), 1 that of 'b'.
DAMAGE: dict[str, tuple[Any, str, str]] = {
    "no first moment": (lambda d: drop(d["state"][0], "exp_avg"), "missing", r"state['W']['exp_avg']"),
    "no step": (lambda d: drop(d["state"][0], "step"), "missing", r"state['W']['step']"),
    "no lr": (lambda d: drop(d["param_groups"][0], "lr"), "missing", "hyper-parameter `lr` of group 0"),
    "no eps": (lambda d: drop(d["param_groups"][0], "eps"), "missing", "hyper-parameter `eps` of group 0"),
    "another entry": (lambda d: change(d, momentum_buffer=np.zeros((3, 4))), "unexpected",
                      "state['W']['momentum_buffer']"),
    "a stranger": (lambda d: d["state"].update({9: {}}), "unexpected", "state[9]"),
    "transposed": (lambda d: change(d, exp_avg=np.zeros((4, 3), np.float32)), "misshapen",
                   "state['W']['exp_avg'] has shape (4, 3), not (3, 4)"),
    "a scalar": (lambda d: change(d, exp_avg=0.0), "misshapen", "state['W']['exp_avg'] has shape (), not (3, 4)"),
    "many steps": (lambda d: change(d, step=np.zeros(2)), "misshapen", "state['W']['step'] has shape (2,), not ()"),
    "half a step": (lambda d: change(d, step=np.float32(1.5)), "misshapen", "would lose values as int64"),
    "no number of steps": (lambda d: change(d, step=np.array(np.nan)), "misshapen", "would lose values as int64"),
    "too exact": (lambda d: change(d, exp_avg=np.full((3, 4), 0.1)), "misshapen",
                  "state['W']['exp_avg'] is float64 and would lose values as float32"),
    "too large": (lambda d: change(d, exp_avg=np.full((3, 4), 1e300)), "misshapen", "would lose values as float32"),
    "imaginary": (lambda d: change(d, exp_avg=np.full((3, 4), 1j)), "misshapen", "state['W']['exp_avg']"),
    "words": (lambda d: change(d, exp_avg=np.full((3, 4), "abc")), "misshapen", "state['W']['exp_avg']"),
    "renamed": (lambda d: d["param_groups"][0].update(param_names=["V", "b", "t"]), "missing", "parameter 'W'"),
    "renamed too": (lambda d: d["param_groups"][0].update(param_names=["V", "b", "t"]), "unexpected", "parameter 'V'"),
}


@pytest.mark.parametrize("live", [False, True], ids=["fresh", "live"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_does_not_fit_is_named_and_refused_or_returned(damage: str, live: bool) -> None:
    apply, kind, message = DAMAGE[damage]
    saved = adam(5).state_dict()
    apply(saved)
    optimizer = adam(2) if live else ol.Adam(model())
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="doesn't fit the optimizer") as caught:
        optimizer.load_state_dict(saved)
    assert f"{kind}: " in str(caught.value)
    assert message in str(caught.value)
    assert snapshot(optimizer) == before
    problems = optimizer.load_state_dict(saved, strict=False)
    assert any(message in found for found in getattr(problems, kind))
    for key, array in saved["state"][1].items():
        assert content(optimizer.state["b"][key]) == content(array)
    train(optimizer, range(8))


@pytest.mark.parametrize("damage", ["transposed", "too exact", "many steps", "no first moment"])
def test_the_state_of_a_parameter_is_loaded_whole_or_not_at_all(damage: str) -> None:
    """Moments of zero with a count of a thousand steps would slow the first steps down for long."""
    saved = adam(5).state_dict()
    DAMAGE[damage][0](saved)
    optimizer = ol.Adam(model())
    optimizer.load_state_dict(saved, strict=False)
    assert len(optimizer.state["W"]) == 0


@pytest.mark.parametrize("count", [-1, (1 << 53) + 1, -(1 << 63)])
def test_a_count_that_no_run_can_have_is_refused(count: int) -> None:
    """A step after -1 would divide by zero."""
    saved = adam(5).state_dict()
    saved["state"][0]["step"] = np.array(count)
    optimizer = adam(2)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=rf"state\['W'\]\['step'\] is {count}, and counts go from 0 to 2\*\*53"):
        optimizer.load_state_dict(saved)
    assert snapshot(optimizer) == before


@pytest.mark.parametrize("kind", [ol.LBFGS, ol.ConjugateGradient])
@pytest.mark.parametrize("damage", [lambda state: state[1].clear(), lambda state: state[0].update(t=np.ones(3)),
                                    lambda state: state.pop(2)], ids=["empty", "misshapen", "missing"])
def test_states_that_belong_together_are_loaded_together_or_not_at_all(damage: Any, kind: Any) -> None:
    """A part of them couldn't be used, and what was saved of it couldn't be loaded again."""
    def made(steps: int) -> ol.Optimizer:
        optimizer = kind(model())
        for step in range(1, steps + 1):
            for index, p in enumerate(parameters(optimizer)):
                p.grad = gradient(step, index, p)
            optimizer.step(lambda: 1.0)
        return optimizer

    saved = made(2).state_dict()
    damage(saved["state"])
    optimizer = made(1)
    before = values(optimizer)
    with pytest.raises(ValueError, match="doesn't fit"):
        optimizer.load_state_dict(saved)
    assert any("belong together" in problem for problem in optimizer.load_state_dict(saved, strict=False).misshapen)
    assert values(optimizer) == before
    optimizer.load_state_dict(optimizer.state_dict())


def test_problems_are_named_all_at_once() -> None:
    saved = adam().state_dict()
    for damage in ("no eps", "transposed", "a stranger"):
        DAMAGE[damage][0](saved)
    with pytest.raises(ValueError, match=r"(?s)missing: .*eps.*unexpected: .*9.*misshapen: .*exp_avg"):
        ol.Adam(model()).load_state_dict(saved)


def test_a_dict_that_fits_leaves_no_problems() -> None:
    assert ol.Adam(model()).load_state_dict(adam().state_dict()) == ([], [], [], [])


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("saved", "message"), [
    (None, "keys 'state' and 'param_groups', got NoneType"), ([], "got list"), ({}, r"got \[\]"),
    ({"state": {}}, r"got \['state'\]"), ({"model": {}, "optimizer": {}}, r"got \['model', 'optimizer'\]"),
    ({"state": [], "param_groups": [{"params": [0]}]}, "'state'"),
    ({"state": {}, "param_groups": {"params": [0]}}, "'param_groups'"),
    ({"state": {}, "param_groups": [{"lr": 1}]}, "'params'"),
    ({"state": {0: None}, "param_groups": [{"params": [0], "lr": 0.1}]}, r"state\[0\]|state\['W'\]"),
    ({"state": {}, "param_groups": [{"params": [0], "lr": -1}]}, "`lr` must be >= 0, got -1"),
    ({"state": {}, "param_groups": [{"params": [0], "nesterov": True}]}, "`nesterov` needs `momentum` > 0")], ids=str)
def test_what_is_no_state_dict_is_refused(saved: Any, message: str, strict: bool) -> None:
    W = ol.Parameter(zeros(), "W")
    optimizer = ol.SGD([W], 0.1, momentum=0)
    optimizer.step(grads=[ones()])
    before = snapshot(optimizer)
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.load_state_dict(saved, strict=strict)
    assert snapshot(optimizer) == before


def test_a_users_own_optimizer_loads_all_or_nothing() -> None:
    saved = train(PlainMomentum(model()), range(1, 4)).state_dict()
    saved["state"][2]["average"] = "words"
    optimizer = train(PlainMomentum(model()), range(1, 3))
    before = snapshot(optimizer)
    with pytest.raises((TypeError, ValueError), match="average"):
        optimizer.load_state_dict(saved)
    assert snapshot(optimizer) == before
    fresh = PlainMomentum(model())
    with pytest.raises((TypeError, ValueError), match="average"):
        fresh.load_state_dict(saved)
    assert len(fresh.state) == 0
