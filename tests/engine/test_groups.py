"""Groups have their own values and keys; their state is found by parameter, array and name; they may be rearranged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import content, gradient, model, ones, parameters, snapshot, values, zeros


def test_each_group_has_its_own_values_and_the_defaults_for_the_rest() -> None:
    a, b, c = zeros(), zeros(), zeros()
    optimizer = ol.SGD([{"params": {"a": a}}, {"params": (x for x in [b]), "lr": 2, "name": "head"}], lr=1)
    optimizer.add_param_group({"params": c, "lr": np.float32(3)})
    optimizer.step(grads=[{"a": ones()}, [ones()], ones()])
    assert [x.tolist() for x in (a, b, c)] == [[-1, -1], [-2, -2], [-3, -3]]
    assert [group["lr"] for group in optimizer.param_groups] == [1, 2, 3]
    assert [type(group["lr"]) for group in optimizer.param_groups] == [int, int, float]
    assert [type(group["params"]) for group in optimizer.param_groups] == [tuple] * 3
    assert optimizer.param_groups[1]["name"] == "head"
    assert optimizer.defaults["lr"] == 1


def test_a_given_group_is_not_changed() -> None:
    given = {"params": [zeros()], "betas": [0.5, 0.9]}
    optimizer = ol.Adam([given])
    assert set(given) == {"params", "betas"}
    assert given["betas"] == [0.5, 0.9]
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.9)


@pytest.mark.parametrize("optimizer", [ol.SGD, ol.Adam, ol.AdamW])
def test_an_empty_group_is_allowed(optimizer: type[ol.Optimizer]) -> None:
    a = zeros()
    built = optimizer([{"params": []}, {"params": [a]}], lr=0.5)
    built.step(grads=[[], [ones()]])
    assert (a < 0).all()
    again = optimizer([{"params": []}, {"params": [zeros()]}], lr=0.5)
    again.load_state_dict(built.state_dict())
    assert again.state_dict()["param_groups"] == built.state_dict()["param_groups"]


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("optimizer", [ol.SGD, ol.Adam, ol.RAdam])
def test_a_group_added_late_steps_as_in_an_optimizer_of_its_own(optimizer: type[ol.Optimizer], steps: int) -> None:
    """jettify/pytorch-optimizer#96, DeepSpeed#1643: groups and parameters of the same shape shared buffers."""
    arrays, alone = [zeros(), zeros()], [zeros(), zeros()]
    options = {"momentum": 0.9} if optimizer is ol.SGD else {}
    both = optimizer([arrays[0]], lr=0.1, **options)
    one, other = optimizer([alone[0]], lr=0.1, **options), optimizer([alone[1]], lr=0.2, **options)
    for step in range(steps):
        both.step(grads=[gradient(step, 0, zeros())])
    both.add_param_group({"params": [arrays[1]], "lr": 0.2})
    for step in range(steps + 3):
        one.step(grads=[gradient(step, 0, zeros())])
        if step >= steps:
            both.step(grads=[[gradient(step, 0, zeros())], [gradient(step, 1, zeros())]])
            other.step(grads=[gradient(step, 1, zeros())])
    assert values(both) == values(one) + values(other)


@pytest.mark.parametrize("names", [["kernel", "bias"], ("kernel", "bias")])
def test_given_param_names_are_the_names(names: Any) -> None:
    a, b = zeros(), zeros()
    optimizer = ol.SGD([{"params": [a, b], "param_names": names}], lr=1)
    optimizer.step(grads={"bias": ones(), "kernel": None})
    assert (a.tolist(), b.tolist()) == ([0, 0], [-1, -1])
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["kernel", "bias"]


# Keys that look like slips, and what they may have meant; keys that are the user's own.
SLIPS = [(ol.SGD, "learning_rate", "lr"), (ol.SGD, "lrr", "lr"), (ol.SGD, "LR", "lr"),
         (ol.SGD, "mommentum", "momentum"), (ol.SGD, "weightdecay", "weight_decay"),
         (ol.SGD, "wd", "weight_decay"), (ol.SGD, "nestrov", "nesterov"), (ol.SGD, "maximise", "maximize"),
         (ol.Adam, "beta", "betas"), (ol.Adam, "beta1", "betas"),
         (ol.Adam, "epsilon", "eps"), (ol.AdamW, "amsgrads", "amsgrad")]
OWN = ["name", "initial_lr", "initial_weight_decay", "initial_momentum", "max_lr", "layer", "lr_scale", "tag"]


@pytest.mark.parametrize(("optimizer", "key", "meant"), SLIPS)
def test_a_key_that_looks_like_a_slip_is_refused(optimizer: type[ol.Optimizer], key: str, meant: str) -> None:
    built = optimizer([zeros()])
    before = snapshot(built)
    for act in (lambda: optimizer([{"params": [zeros()], key: 0.1}]),
                lambda: built.add_param_group({"params": [zeros()], key: 0.1})):
        with pytest.raises(ValueError, match=f"the key `{key}`, which {optimizer.__name__} doesn't know; "
                                             rf"did you mean `{meant}`\?"):
            act()
    with pytest.raises(TypeError, match=rf"{optimizer.__name__} has no argument `{key}`; did you mean `{meant}`\?"):
        optimizer([zeros()], **{key: 0.1})
    assert snapshot(built) == before


@pytest.mark.parametrize("key", OWN)
def test_a_key_of_the_users_own_is_kept(key: str) -> None:
    optimizer = ol.SGD([{"params": [zeros()], key: 7}])
    optimizer.step(grads=[[ones()]])
    assert optimizer.param_groups[0][key] == 7
    assert optimizer.state_dict()["param_groups"][0][key] == 7


@pytest.mark.parametrize(("key", "message"), [("foreach", "always fused; leave it out"), ("fused", "always fused"),
                                              ("colour", "it has `lr`, `momentum`")])
def test_an_unknown_argument_is_refused(key: str, message: str) -> None:
    with pytest.raises(TypeError, match=f"SGD has no argument `{key}`.*{message}"):
        ol.SGD([zeros()], **{key: True})


@pytest.mark.parametrize(("optimizer", "key", "meant"), SLIPS)
def test_a_slip_between_two_steps_is_refused(optimizer: type[ol.Optimizer], key: str, meant: str) -> None:
    built = optimizer([zeros()])
    built.step(grads=[ones()])
    before = snapshot(built)
    built.param_groups[0][key] = 0.1
    with pytest.raises(ValueError, match=rf"the key `{key}`, which .* did you mean `{meant}`\?"):
        built.step()
    del built.param_groups[0][key]
    assert snapshot(built) == before
    built.step()


# State lookup --------------------------------------------------------------------------------------------------------

def test_state_is_found_by_parameter_array_and_name() -> None:
    W, array = ol.Parameter(zeros(), "W"), zeros()
    optimizer = ol.Adam({"W": W, "b": array})
    assert len(optimizer.state) == 0
    optimizer.step(grads={"W": ones(), "b": None})
    assert optimizer.state[W] is optimizer.state[W.data] is optimizer.state["W"]
    assert set(optimizer.state["W"]) == {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer.state[array] is optimizer.state["b"] is optimizer.state[optimizer.param_groups[0]["params"][1]]
    assert list(optimizer.state) == [W]                      # as in torch, what never stepped isn't listed
    assert "W" in optimizer.state
    assert "b" not in optimizer.state
    assert "other" not in optimizer.state
    assert len(optimizer.state["b"]) == 0
    assert "'W': {" in repr(optimizer.state)


@pytest.mark.parametrize(("key", "message"), [("V", "the optimizer has no parameter 'V'"), (0, "no such parameter"),
                                              (ol.Parameter(np.zeros(2)), "no such parameter"),
                                              (np.zeros(2), "no such parameter"), (None, "no such parameter")],
                         ids=["name", "index", "parameter", "array", "None"])
def test_state_of_a_stranger_is_a_key_error(key: Any, message: str) -> None:
    optimizer = ol.Adam({"W": np.zeros(2)})
    with pytest.raises(KeyError, match=message):
        optimizer.state[key]
    assert key not in optimizer.state


# Groups that are rearranged ------------------------------------------------------------------------------------------

def test_parameters_taken_out_of_a_group_no_longer_step() -> None:
    optimizer = ol.SGD(model(), lr=1, momentum=0.5)
    grads = {name: np.ones_like(array) for name, array in model().items()}
    optimizer.step(grads=grads)
    group, arrays = optimizer.param_groups[0], [p.data for p in parameters(optimizer)]
    frozen = content(arrays[0])
    group["params"] = group["params"][1:]
    expected = [array - np.float32(1.5) for array in arrays[1:]]
    optimizer.step()
    assert content(arrays[0]) == frozen
    assert [content(array) for array in arrays[1:]] == [content(array) for array in expected]


def test_a_list_of_parameters_that_grows_later_is_not_overlooked() -> None:
    """Steps with it, or is a tuple from its first step on, so that appending fails."""
    a, b = ol.Parameter(zeros()), ol.Parameter(zeros())
    optimizer = ol.SGD([a, b], lr=1)
    a.grad, b.grad = ones(), ones()
    group = optimizer.param_groups[0]
    group["params"] = [a]
    optimizer.step()
    if isinstance(group["params"], list):
        group["params"].append(b)
    else:
        assert group["params"] == (a,)
        group["params"] += (b,)
    optimizer.step()
    assert (a.tolist(), b.tolist()) == ([-2, -2], [-1, -1])


def test_a_parameter_that_got_into_two_groups_is_refused() -> None:
    """pytorch#40967: a parameter listed twice is updated twice."""
    a, b = ol.Parameter(zeros(), "a"), ol.Parameter(zeros(), "b")
    optimizer = ol.SGD([{"params": [a]}, {"params": [b]}], lr=1)
    a.grad, b.grad = ones(), ones()
    optimizer.param_groups[0]["params"] = (a, b)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="'b' appears more than once"):
        optimizer.step()
    assert snapshot(optimizer) == before


def test_a_stranger_in_a_group_is_refused_with_the_cure() -> None:
    optimizer = ol.SGD([ol.Parameter(zeros(), "a")])
    stranger = ol.Parameter(zeros(), "stranger")
    stranger.grad = ones()
    optimizer.param_groups[0]["params"] = (stranger,)
    with pytest.raises((KeyError, ValueError), match=r"'stranger'.*add_param_group"):
        optimizer.step()
    assert stranger.tolist() == [0, 0]


@pytest.mark.parametrize("rearrange", [lambda groups: groups.reverse(), lambda groups: groups.pop(0),
                                       lambda groups: groups[0].update(params=groups[0]["params"][1:])],
                         ids=["reversed", "fewer groups", "fewer parameters"])
def test_gradients_never_reach_another_parameter_after_groups_were_rearranged(rearrange: Any) -> None:
    arrays = [zeros() for _ in range(3)]
    optimizer = ol.SGD([{"params": arrays[:2]}, {"params": arrays[2:]}], lr=1)
    rearrange(optimizer.param_groups)
    try:
        optimizer.step(grads=[[ones(), 2 * ones()], [3 * ones()]])
    except ValueError as error:
        assert "`grads`" in str(error)                       # noqa: PT017
    for number, array in enumerate(arrays, start=1):
        assert array.tolist() in ([0, 0], [-number, -number])
