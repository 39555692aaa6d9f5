"""State dicts: torch's layout out, a snapshot; in by name or position, all or nothing, exact to the bit."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import assert_same
from support.cases import CASES, ONE_RATE, Case, per_case
from support.helpers import PlainMomentum, content, gradient, model, parameters, snapshot, train, values

TYPES = [np.float32, np.float64]


def zeros(size: int = 2) -> np.ndarray:
    return np.zeros(size, np.float32)


def ones(size: int = 2) -> np.ndarray:
    return np.ones(size, np.float32)


def adam(steps: int = 3, **options: Any) -> ol.Optimizer:
    return train(ol.Adam(model(), **options), range(1, steps + 1))


def bits(state_dict: dict[str, Any]) -> Any:
    """A state dict with its arrays' contents, to compare."""
    return ({index: {key: content(array) for key, array in entries.items()}
             for index, entries in state_dict["state"].items()}, copy.deepcopy(state_dict["param_groups"]))


# Out -----------------------------------------------------------------------------------------------------------------

def test_the_layout_is_torchs() -> None:
    """keras#13027: the count of steps is part of it."""
    optimizer = ol.Adam([{"params": [zeros(), zeros(3)]}, {"params": [zeros(4)], "lr": 0.5, "name": "head"}])
    for p in parameters(optimizer):
        p.grad = np.ones_like(p)
    parameters(optimizer)[1].grad = None
    optimizer.step()
    saved = optimizer.state_dict()
    assert list(saved) == ["state", "param_groups"]
    assert list(saved["state"]) == [0, 2]                    # what never stepped has no entry
    assert [group["params"] for group in saved["param_groups"]] == [[0, 1], [2]]
    assert {key: value for key, value in saved["param_groups"][1].items() if key != "params"} == {
        "lr": 0.5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "maximize": False,
        "decoupled_weight_decay": False, "cautious": False, "cautious_weight_decay": False,
        "corrected_weight_decay": False, "max_update_rms": None, "eps_root": None, "uncorrected_eps": False,
        "name": "head"}
    state = saved["state"][2]
    assert set(state) == {"step", "exp_avg", "exp_avg_sq"}
    assert isinstance(state["step"], np.ndarray)
    assert (state["step"].shape, state["step"].dtype, state["step"]) == ((), np.int64, 1)
    assert (state["exp_avg"].shape, state["exp_avg"].dtype) == ((4,), np.float32)
    json.dumps(saved["param_groups"])                        # plain values only


def test_names_are_saved_where_there_are_any() -> None:
    optimizer = ol.SGD([{"params": {"W": zeros()}}, {"params": {"b": zeros()}}])
    assert [group["param_names"] for group in optimizer.state_dict()["param_groups"]] == [["W"], ["b"]]
    assert "param_names" not in ol.SGD([zeros()]).state_dict()["param_groups"][0]


@per_case
def test_a_snapshot_stays_as_it_was(case: Case) -> None:
    """pytorch#196083, #144657: state dicts alias tensors, and later steps change what was saved."""
    optimizer = train(case.optimizer(model(axes=case.axes), **case.options), range(5))
    saved = optimizer.state_dict()
    before = bits(saved)
    train(optimizer, range(5, 8))
    optimizer.param_groups[0]["lr"] = 9
    assert bits(saved) == before
    after = values(optimizer)
    for entries in saved["state"].values():
        for array in entries.values():
            array[...] = 7
    assert values(optimizer) == after


def test_a_snapshot_shares_nothing_with_the_groups() -> None:
    """pytorch#196083: neither lists that users keep in groups, nor the names, out or in."""
    optimizer = ol.SGD([{"params": {"W": zeros()}, "milestones": [1, 2]}])
    saved = optimizer.state_dict()
    optimizer.param_groups[0]["milestones"].append(3)
    saved["param_groups"][0]["param_names"].append("other")
    assert saved["param_groups"][0]["milestones"] == [1, 2]
    assert optimizer.param_groups[0]["param_names"] == ["W"]
    saved["param_groups"][0]["param_names"] = ["W"]
    optimizer.load_state_dict(saved)
    saved["param_groups"][0]["milestones"].append(4)
    assert optimizer.param_groups[0]["milestones"] == [1, 2]


def test_live_references_are_live() -> None:
    optimizer = adam()
    saved = optimizer.state_dict(copy=False)
    assert saved["state"][0]["exp_avg"] is optimizer.state["W"]["exp_avg"]
    train(optimizer, [5])
    assert bits(saved)[0] == bits(optimizer.state_dict())[0]


# In ------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("live", [False, True], ids=["fresh", "live"])
@per_case
def test_loading_neither_changes_nor_keeps_the_dict(case: Case, live: bool) -> None:
    """pytorch#147288, #196083: loading aliased the dict's tensors; #32756: loading changed the dict."""
    saved = train(case.optimizer(model(axes=case.axes), **case.options), range(5)).state_dict()
    optimizer = case.optimizer(model(axes=case.axes), **case.options)
    if live:
        train(optimizer, range(2))
    before = bits(saved)
    optimizer.load_state_dict(saved)
    assert bits(optimizer.state_dict()) == before
    train(optimizer, range(5, 7))
    assert bits(saved) == before
    after = values(optimizer)
    for entries in saved["state"].values():
        for array in entries.values():
            array[...] = 7
    assert values(optimizer) == after


def test_loading_copies_into_the_live_arrays() -> None:
    """pytorch#147288: loading replaced the tensors that others held."""
    optimizer, saved = adam(2), adam(5).state_dict()
    held = {p: dict(optimizer.state[p]) for p in parameters(optimizer)}
    optimizer.load_state_dict(saved)
    for index, p in enumerate(parameters(optimizer)):
        for key, array in held[p].items():
            assert optimizer.state[p][key] is array
            assert content(array) == content(saved["state"][index][key])


def test_live_state_may_be_loaded_into_itself_even_swapped() -> None:
    optimizer = ol.Adam([ones(), ones()])
    for step in range(3):
        optimizer.step(grads=[gradient(step, 0, ones()), gradient(step, 1, ones())])
    live = optimizer.state_dict(copy=False)
    before = bits(optimizer.state_dict())
    optimizer.load_state_dict(live)
    assert bits(optimizer.state_dict()) == before
    live["state"] = {0: live["state"][1], 1: live["state"][0]}
    optimizer.load_state_dict(live)
    assert bits(optimizer.state_dict())[0] == {0: before[0][1], 1: before[0][0]}


def test_one_array_in_two_places_of_the_dict_becomes_two() -> None:
    optimizer = ol.Adam([zeros(), zeros()])
    saved = ol.Adam([zeros(), zeros()]).state_dict()
    shared = {"step": np.array(3), "exp_avg": ones(), "exp_avg_sq": ones()}
    saved["state"] = {0: shared, 1: shared}
    optimizer.load_state_dict(saved)
    arrays = [array for p in parameters(optimizer) for array in optimizer.state[p].values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_hyper_parameters_are_replaced_and_keys_of_ones_own_kept() -> None:
    saved = ol.SGD([{"params": [zeros()], "tag": "saved"}], lr=0.5, momentum=0.9).state_dict()
    optimizer = ol.SGD([{"params": [zeros()], "mine": 1, "tag": "live"}], lr=0.1)
    [p] = parameters(optimizer)
    optimizer.load_state_dict(saved)
    [group] = optimizer.param_groups
    assert [group[key] for key in ("lr", "momentum", "tag", "mine", "params")] == [0.5, 0.9, "saved", 1, (p,)]
    assert optimizer.defaults["lr"] == 0.1


@pytest.mark.parametrize("saved_momentum", [0, 0.9])
@pytest.mark.parametrize("live_momentum", [0, 0.9])
def test_a_loaded_rule_takes_over(saved_momentum: float, live_momentum: float) -> None:
    """What the live optimizer had and the dict has not is forgotten."""
    def build(momentum: float) -> ol.Optimizer:
        return train(ol.SGD(model(), 0.1, momentum=momentum), range(3))

    optimizer = build(live_momentum)
    optimizer.load_state_dict(build(saved_momentum).state_dict())
    twin = ol.SGD({name: p.data.copy() for name, p in zip(model(), parameters(optimizer), strict=True)}, 0.7)
    twin.load_state_dict(build(saved_momentum).state_dict())
    assert values(train(optimizer, range(3, 6))) == values(train(twin, range(3, 6)))


def test_a_state_from_before_the_first_step_starts_afresh() -> None:
    fresh = ol.SGD(model(), 0.1, momentum=0.9, dampening=0.5)
    optimizer = train(ol.SGD(model(), 0.1, momentum=0.9, dampening=0.5), range(3))
    optimizer.load_state_dict(fresh.state_dict())
    assert len(optimizer.state) == 0
    for name, p in zip(model(), parameters(optimizer), strict=True):
        p.data = model()[name]
    assert values(train(optimizer, range(3))) == values(train(fresh, range(3)))


# By name and by position ---------------------------------------------------------------------------------------------

def test_parameters_are_matched_by_name_in_another_order_and_across_groups() -> None:
    names = list(model())
    first, *rest = names
    one = train(ol.Adam([{"params": {name: model()[name]}} for name in names], lr=0.3), range(4))
    order = ol.Adam({name: model()[name] for name in reversed(names)})
    order.load_state_dict(one.state_dict(), strict=False)
    for name in names:
        assert {k: content(a) for k, a in order.state[name].items()} == \
               {k: content(a) for k, a in one.state[name].items()}
    regrouped = ol.Adam([{"params": {name: model()[name] for name in rest}}, {"params": {first: model()[first]}}], lr=1)
    saved = train(ol.Adam(model(), lr=0.3), range(4)).state_dict()
    regrouped.load_state_dict(saved)
    assert [group["lr"] for group in regrouped.param_groups] == [0.3, 0.3]
    assert [group["param_names"] for group in regrouped.param_groups] == [rest, [first]]
    for index, name in enumerate(names):
        assert content(regrouped.state[name]["exp_avg"]) == content(saved["state"][index]["exp_avg"])


def test_each_group_takes_the_values_of_its_own_parameters() -> None:
    saved = ol.SGD([{"params": {"a": zeros()}, "lr": 1}, {"params": {"b": zeros()}, "lr": 2}]).state_dict()
    optimizer = ol.SGD([{"params": {"b": zeros()}}, {"params": {"a": zeros()}}])
    optimizer.load_state_dict(saved)
    assert [group["lr"] for group in optimizer.param_groups] == [2, 1]
    gathered = ol.SGD({"a": zeros(), "b": zeros()}, lr=3)
    before = snapshot(gathered)
    with pytest.raises(ValueError, match="group 0 gathers parameters of 2 saved groups"):
        gathered.load_state_dict(saved)
    assert snapshot(gathered) == before
    assert gathered.load_state_dict(saved, strict=False).misshapen
    assert gathered.param_groups[0]["lr"] == 3


def test_a_group_that_is_still_empty_takes_the_values_of_its_place() -> None:
    def build(lr: float, momentum: float) -> ol.Optimizer:
        return ol.SGD([{"params": {}, "lr": lr}, {"params": {"a": zeros()}, "momentum": momentum}])

    one, other = build(0.5, 0.7), build(0.1, 0.2)
    other.load_state_dict(one.state_dict())
    assert [(group["lr"], group["momentum"]) for group in other.param_groups] == [(0.5, 0), (1e-3, 0.7)]
    named = ol.SGD([{"params": {"a": zeros()}, "lr": 0.1}, {"params": {}, "lr": 0.2}])
    named.load_state_dict(one.state_dict())                  # the second group of `one` isn't empty: it goes by name
    assert [group["lr"] for group in named.param_groups] == [1e-3, 0.2]
    two, late = (ol.SGD([{"params": {"a": zeros()}}, {"params": {}, "lr": lr}, {"params": {}, "lr": 2 * lr}])
                 for lr in (0.3, 0.1))
    late.load_state_dict(two.state_dict())
    assert [group["lr"] for group in late.param_groups] == [1e-3, 0.3, 0.6]


@pytest.mark.parametrize(("build", "option", "value", "key"), [
    (lambda: ol.Adam(model()), "amsgrad", True, "max_exp_avg_sq"),
    (lambda: ol.RMSprop(model()), "centered", True, "grad_avg"),
    (lambda: ol.RMSprop(model()), "momentum", 0.5, "momentum_buffer"),
], ids=["amsgrad", "centered", "momentum"])
def test_an_option_switched_on_since_the_last_step_resumes_too(build: Any, option: str, value: Any, key: str) -> None:
    """The array that the next step will add is saved already, so that the saved state is whole."""
    optimizer, fresh = train(build(), range(1, 4)), build()
    optimizer.param_groups[0][option] = value
    before = values(optimizer)
    saved = optimizer.state_dict()
    assert values(optimizer) == before
    assert not saved["state"][0][key].any()
    for p, q in zip(parameters(fresh), parameters(optimizer), strict=True):
        p.data = q.data
    fresh.load_state_dict(saved)
    assert values(train(fresh, range(4, 8))) == values(train(optimizer, range(4, 8)))


@pytest.mark.parametrize(("build", "key", "initial"), [
    (lambda: ol.Adagrad(model(), initial_accumulator_value=0.5), "sum", np.full((3, 4), 0.5, np.float32)),
    (lambda: ol.Adafactor(model()), "row_var", np.zeros((3, 1), np.float32)),
], ids=["Adagrad", "Adafactor"])
def test_an_entry_that_was_taken_out_is_saved_as_the_next_step_begins_it(build: Any, key: str, initial: Any) -> None:
    optimizer, fresh = train(build(), range(1, 4)), build()
    del optimizer.state["W"][key]
    saved = optimizer.state_dict()
    assert content(saved["state"][0][key]) == content(initial)
    for p, q in zip(parameters(fresh), parameters(optimizer), strict=True):
        p.data = q.data
    fresh.load_state_dict(saved)
    assert values(train(fresh, range(4, 8))) == values(train(optimizer, range(4, 8)))


def test_names_follow_parameters_that_were_taken_out_or_moved_to_another_group() -> None:
    """The list that a group was made with would give the states to the wrong parameters."""
    def build() -> ol.Optimizer:
        return ol.Adam([{"params": {"a": zeros(), "b": zeros()}}, {"params": {"c": zeros()}, "lr": 0.5}])

    optimizer = build()
    optimizer.step(grads={"a": ones(), "b": 2 * ones(), "c": 3 * ones()})
    expected = {name: content(optimizer.state[name]["exp_avg"]) for name in "abc"}
    one, other = optimizer.param_groups
    one["params"], other["params"] = (one["params"][1], other["params"][0]), (one["params"][0],)
    saved = optimizer.state_dict()
    assert [group["param_names"] for group in saved["param_groups"]] == [["b", "c"], ["a"]]
    same, fresh = copy.deepcopy(optimizer), build()
    same.load_state_dict(saved)
    mismatch = fresh.load_state_dict(saved, strict=False)    # its groups still are as they were made
    assert (mismatch.missing, mismatch.unexpected) == ([], [])
    for loaded in (same, fresh):
        assert {name: content(loaded.state[name]["exp_avg"]) for name in "abc"} == expected
    other["params"] = ()
    optimizer.load_state_dict(optimizer.state_dict())
    assert {name: content(optimizer.state[name]["exp_avg"]) for name in "abc"} == expected


@pytest.mark.parametrize(("ours", "theirs"), [
    (lambda: [zeros(), ones()], lambda: {"W": zeros(), "b": ones()}),
    (lambda: {"W": zeros(), "b": ones()}, lambda: [zeros(), ones()]),
    (lambda: [zeros(), ones()], lambda: [zeros(), ones()]),
    (lambda: {"W": zeros(), "b": ones()}, lambda: [ol.Parameter(zeros(), "W"), ol.Parameter(ones(), "W")])],
    ids=["theirs named", "ours named", "none named", "names not unique"])
def test_without_names_on_both_sides_positions_count(ours: Any, theirs: Any) -> None:
    source = ol.Adam(theirs())
    source.step(grads=[ones(), 3 * ones()])
    optimizer = ol.Adam(ours())
    names = optimizer.param_groups[0].get("param_names")
    optimizer.load_state_dict(source.state_dict())
    assert bits(optimizer.state_dict())[0] == bits(source.state_dict())[0]
    assert optimizer.param_groups[0].get("param_names") == names


def test_positions_must_agree_in_number() -> None:
    saved = ol.SGD([{"params": [zeros(), zeros()]}]).state_dict()
    optimizer = ol.SGD([{"params": [zeros()]}, {"params": [zeros()]}])
    for strict in (True, False):
        with pytest.raises(ValueError, match=r"groups of \[2\] parameters, the optimizer has \[1, 1\]; name the param"):
            optimizer.load_state_dict(saved, strict=strict)


# What doesn't fit ----------------------------------------------------------------------------------------------------

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


# Casts and other makers ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("convert", [lambda a: a.astype(np.float64), lambda a: a.astype(">f4"), np.asfortranarray,
                                     lambda a: np.repeat(a, 2, axis=0)[::2], lambda a: a.tolist(),
                                     lambda a: np.ascontiguousarray(a[::-1])[::-1]],
                         ids=["float64", "byte-swapped", "F", "strided", "list", "reversed"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_casts_that_lose_nothing_are_made(convert: Any, order: Any) -> None:
    source = train(ol.Adam(model()), range(1, 4))
    saved = source.state_dict()
    for entries in saved["state"].values():
        entries["exp_avg"] = convert(entries["exp_avg"]) if entries["exp_avg"].ndim else entries["exp_avg"]
    optimizer = ol.Adam(model(order=order))
    optimizer.load_state_dict(saved)
    assert bits(optimizer.state_dict())[0] == bits(source.state_dict())[0]
    for name, p in zip(model(), parameters(optimizer), strict=True):
        p.data = source.param_groups[0]["params"][list(model()).index(name)].data
    assert values(train(optimizer, range(4, 7))) == values(train(source, range(4, 7)))


TORCH = {
    "Adam": ({"lr": 0.5, "betas": (0.5, 0.75), "eps": 0.25, "weight_decay": 0, "amsgrad": False, "maximize": False,
              "foreach": None, "capturable": False, "differentiable": False, "fused": None,
              "decoupled_weight_decay": False},
             {"step": np.array(3, np.float32), "exp_avg": ones(), "exp_avg_sq": ones()}),
    "SGD": ({"lr": 0.5, "momentum": 0.5, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False,
             "foreach": None, "differentiable": False, "fused": True},
            {"momentum_buffer": ones()}),
    "SGD before its first buffer": ({"lr": 0.5, "momentum": 0.5, "dampening": 0.5, "weight_decay": 0, "nesterov": False,
                                     "maximize": False, "foreach": None, "differentiable": False, "fused": None},
                                    {"momentum_buffer": None}),
}


@pytest.mark.parametrize("live", [False, True], ids=["fresh", "live"])
@pytest.mark.parametrize("kind", TORCH)
def test_a_dict_as_torch_makes_it_is_taken(kind: str, live: bool) -> None:
    group, state = TORCH[kind]
    W = zeros()
    optimizer = getattr(ol, kind.split()[0])([W])
    if live:
        optimizer.step(grads=[ones()])
        W[...] = 0
    problems = optimizer.load_state_dict({"state": {0: dict(state)}, "param_groups": [{**group, "params": [0]}]})
    assert not any(problems[:3])
    assert not {"foreach", "fused", "capturable", "differentiable"} & set(optimizer.param_groups[0])
    assert optimizer.param_groups[0]["lr"] == 0.5
    if "step" in state:
        assert (optimizer.state[W]["step"].dtype, optimizer.state[W]["step"]) == (np.int64, 3)
    optimizer.step(grads=[ones()])
    if kind == "Adam":                                       # m = v = 1 stay as they are
        expected = -0.5 / (1 - 0.5**4) / (1 / np.sqrt(1 - 0.75**4) + 0.25)
    else:
        expected = -0.5 * (1 if state["momentum_buffer"] is None else 1.5)
    assert np.allclose(W, expected, rtol=1e-6)


# Resume --------------------------------------------------------------------------------------------------------------

def whole(case: Case, arrays: dict[str, np.ndarray]) -> ol.Optimizer:
    return case.optimizer(arrays, **case.options)


def two_groups(case: Case, arrays: dict[str, np.ndarray]) -> ol.Optimizer:
    beside = {"weight_decay": 0.02} if case.optimizer in ONE_RATE else {"lr": 0.02}
    return case.optimizer([{"params": {"W": arrays["W"]}}, {"params": {n: arrays[n] for n in ("b", "t")}, **beside}],
                          **case.options)


def positions(case: Case, arrays: dict[str, np.ndarray]) -> ol.Optimizer:
    return case.optimizer(list(arrays.values()), **case.options)


HOW = {"group": whole, "two groups": two_groups, "positions": positions}
RESUMES = {"pickle": lambda d: pickle.loads(pickle.dumps(d)), "copy": lambda d: d,
           "zip": lambda d: {**d, "state": {k: {n: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape)
                                                for n, a in s.items()} for k, s in d["state"].items()}}}


@pytest.mark.parametrize("transport", RESUMES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("dtype", TYPES)
@per_case
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(case: Case, dtype: Any, how: str, transport: str) -> None:
    """pytorch#102261: an extra or a missing step after resuming."""
    straight = train(HOW[how](case, model(dtype, axes=case.axes)), range(10))
    half = train(HOW[how](case, model(dtype, axes=case.axes)), range(5))
    arrays = {name: p.data.copy() for name, p in zip(model(), parameters(half), strict=True)}
    resumed = HOW[how](case._replace(options={**case.options, "lr": 7}), arrays)
    resumed.load_state_dict(RESUMES[transport](half.state_dict()))
    assert values(train(resumed, range(5, 10))) == values(straight)


@per_case
def test_a_group_that_came_late_and_a_frozen_parameter_resume_too(case: Case) -> None:
    def run(optimizer: ol.Optimizer, steps: range) -> ol.Optimizer:
        for step in steps:
            if step == 3:
                beside = {} if case.optimizer in ONE_RATE else {"lr": 0.03}
                optimizer.add_param_group({"params": {"late": late.copy()}, **beside})
            for index, p in enumerate(parameters(optimizer)):
                p.grad = gradient(step, index, p) if index != 1 else None        # 'b' is frozen
            optimizer.step()
        return optimizer

    late = model(axes=case.axes)["b"] + 1
    straight = run(whole(case, model(axes=case.axes)), range(9))
    half = run(whole(case, model(axes=case.axes)), range(5))
    resumed = whole(case, {name: p.data.copy() for name, p in zip(model(), parameters(half), strict=False)})
    resumed.add_param_group({"params": {"late": parameters(half)[3].data.copy()}})
    resumed.load_state_dict(half.state_dict())
    assert values(run(resumed, range(5, 9))) == values(straight)


# State that the user changes -----------------------------------------------------------------------------------------

REPLACEMENTS = {
    "replaced": lambda s: s.__setitem__("exp_avg", np.full((3, 4), 2, np.float32)),
    "in place": lambda s: s["exp_avg"].fill(2),
    "updated": lambda s: s.update(exp_avg=np.full((3, 4), 2, np.float32)),
    "merged": lambda s: s.__ior__({"exp_avg": np.full((3, 4), 2, np.float32)}),
    "number": lambda s: s.__setitem__("step", 40),
    "counted on": lambda s: s.__setitem__("step", s["step"] + 7),
    "cleared": lambda s: s.clear(),
    "one deleted": lambda s: s.__delitem__("exp_avg"),
    "one popped": lambda s: s.pop("exp_avg_sq"),
    "one taken": lambda s: s.popitem(),
}


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_a_state_that_the_user_changed_is_noticed(kind: str) -> None:
    """The same bits as an optimizer that was given that state before its first step here."""
    optimizer = adam()
    state = optimizer.state["W"]
    REPLACEMENTS[kind](state)
    given = dict(state)
    twin = ol.Adam({name: p.data.copy() for name, p in zip(model(), parameters(optimizer), strict=True)})
    for name in model():
        twin.state[name].update({key: array.copy() for key, array in optimizer.state[name].items()})
    train(optimizer, range(5, 8))
    assert values(optimizer) == values(train(twin, range(5, 8)))
    untouched = values(train(adam(), range(5, 8)))
    assert (values(optimizer) == untouched) is False
    for key, array in given.items():
        assert state[key] is array                           # updated in place from now on


@pytest.mark.parametrize(("key", "value", "error", "message"), [
    ("exp_avg", np.zeros((4, 3), np.float32), ValueError, r"state `exp_avg` of 'W' must be float32 of shape \(3, 4\)"),
    ("exp_avg", np.zeros((3, 4)), ValueError, "state `exp_avg` of 'W' must be float32"),
    ("exp_avg", np.zeros((4, 3), np.float32).T, ValueError, r"laid out as the parameter; assign into it: state\['exp"),
    ("exp_avg", np.zeros((3, 8), np.float32)[:, ::2], ValueError, "laid out as the parameter"),
    ("exp_avg", np.zeros((3, 4), ">f4"), ValueError, "must be float32"),
    ("exp_avg", np.broadcast_to(np.float32(0), (3, 4)), ValueError, "writeable"),
    ("exp_avg", 0.0, ValueError, r"must be float32 of shape \(3, 4\)"),
    ("step", 1.5, ValueError, "state `step` of 'W' must be a writeable 0-d array of int64, got float64"),
    ("step", np.zeros(3, int), ValueError, r"must be a writeable 0-d array of int64, got int64 of shape \(3,\)")])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_state_that_no_kernel_can_update_is_refused(key: str, value: Any, error: Any, message: str,
                                                      steps: int) -> None:
    optimizer = adam(steps)
    for index, p in enumerate(reversed(parameters(optimizer))):
        p.grad = gradient(9, index, p)
    optimizer.state["W"][key] = value
    before = snapshot(optimizer)
    with pytest.raises(error, match=message):
        optimizer.step()
    assert snapshot(optimizer) == before


@pytest.mark.parametrize("share", [lambda o: o.state["b"].update(exp_avg=o.state["b"]["exp_avg_sq"]),
                                   lambda o: o.state["b"].update(exp_avg=o.state["b2"]["exp_avg"]),
                                   lambda o: o.state["b"].update(exp_avg=parameters(o)[0].data),
                                   lambda o: o.state["b"].update(exp_avg=parameters(o)[1].data),
                                   lambda o: o.state["b"].update(step=o.state["b2"]["step"])],
                         ids=["own state", "another's state", "own parameter", "another parameter", "counter"])
def test_states_that_share_memory_are_refused(share: Any) -> None:
    """Kernels take for granted that what they write doesn't overlap."""
    optimizer = ol.Adam({"b": ones(), "b2": ones()})
    optimizer.step(grads=[ones(), ones()])
    share(optimizer)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=r"'b'.*(overlap|share)"):
        optimizer.step()
    assert snapshot(optimizer) == before


@pytest.mark.parametrize("value", ["words", None, [None], {"a": 1}, object()], ids=lambda v: type(v).__name__)
def test_state_is_numbers_only(value: Any) -> None:
    optimizer = adam()
    before = snapshot(optimizer)
    for assign in (lambda: optimizer.state["W"].__setitem__("mine", value),
                   lambda: optimizer.state["W"].update(mine=value),
                   lambda: optimizer.state["W"].setdefault("mine", value)):
        with pytest.raises(TypeError, match="state `mine` must be a numeric array or a number, got "):
            assign()
    assert snapshot(optimizer) == before


@per_case
def test_state_that_does_not_fit_is_refused(case: Case) -> None:
    built = case.optimizer({"W": np.ones((3, 2), np.float32)}, **case.options)
    built.step(grads={"W": np.ones((3, 2), np.float32)})
    saved = built.state_dict()
    for key in built.state["W"].keys() - built.scalars.keys():
        kept = built.state["W"][key]
        for wrong in (np.ones((2, 3), np.float32), kept.astype(np.float64)):
            built.state["W"][key] = wrong
            with pytest.raises(ValueError, match=f"state `{key}` of 'W' must be float32 of shape"):
                built.step()
        built.state["W"][key] = kept
        bad = {**saved, "state": {0: {**saved["state"][0], key: np.ones((2, 3), np.float32)}}}
        with pytest.raises(ValueError, match=rf"misshapen: state\['W'\]\['{key}'\] has shape \(2, 3\)"):
            built.load_state_dict(bad)
        without = {name: array for name, array in saved["state"][0].items() if name != key}
        if without:                                          # nothing at all means that it hasn't stepped
            with pytest.raises(ValueError, match=rf"missing: state\['W'\]\['{key}'\]"):
                built.load_state_dict({**saved, "state": {0: without}})
    built.load_state_dict(saved)
    built.step()


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(6, 4), (5, 3, 2), (2, 3, 4, 5)])
@pytest.mark.parametrize("case", [case for case in CASES if case.optimizer in (ol.Adam, ol.Adafactor, ol.Muon)],
                         ids=lambda case: case.id)
def test_state_replaced_in_another_layout_is_refused(case: Case, shape: tuple[int, ...], order: Any) -> None:
    """A kernel reads the parameter and its state side by side; factors of Adafactor's stand in C order."""
    rng = np.random.default_rng(0)
    p = np.array(rng.standard_normal(shape), order=order)
    built, other = case.optimizer([p]), case.optimizer([p.copy(order="K")])
    for _ in range(4):
        g = rng.standard_normal(shape)
        built.step(grads=[g])
        other.step(grads=[g])
        state = built.state["0"]
        for key in [key for key in state if state[key].ndim]:
            kept, before = state[key], values(built)
            state[key] = kept.copy(order="C" if kept.flags.fnc else "F")
            if state[key].flags.c_contiguous != kept.flags.c_contiguous:
                with pytest.raises(ValueError, match=f"`{key}` of '0' .*must be writeable and .*; assign into it"):
                    built.step(grads=[g])
            state[key] = kept.copy(order="K")
            assert values(built) == before
    assert_same(built, other)


# Whole optimizers ----------------------------------------------------------------------------------------------------

COPIES = {"pickle": lambda o: pickle.loads(pickle.dumps(o)), "deepcopy": copy.deepcopy}
OWN = Case(PlainMomentum, {"lr": 0.2})


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("case", [*CASES, OWN], ids=lambda case: case.id)
def test_a_copied_optimizer_goes_on_alike_and_alone(case: Case, how: str, way: str) -> None:
    optimizer = train(HOW[how](case, model(axes=case.axes)), range(5))
    twin = COPIES[way](optimizer)
    assert type(twin) is case.optimizer
    assert repr(twin) == repr(optimizer)
    assert twin.steps_taken == optimizer.steps_taken
    assert [content(p.grad) for p in parameters(twin)] == [content(p.grad) for p in parameters(optimizer)]
    before = values(optimizer)
    after = values(train(twin, range(5, 9)))
    assert values(optimizer) == before
    assert values(train(optimizer, range(5, 9))) == after
    assert bits(twin.state_dict()) == bits(optimizer.state_dict())


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_before_the_first_step_takes_gradients_by_name_and_nesting(way: str) -> None:
    twin = COPIES[way](ol.SGD([{"params": {"W": zeros()}}, {"params": [zeros()]}], lr=1))
    twin.step(grads=[{"W": ones()}, [ones()]])
    assert [p.tolist() for p in parameters(twin)] == [[-1, -1]] * 2
    assert twin.state["W"] == {}


@pytest.mark.parametrize("way", COPIES)
def test_a_model_and_its_optimizer_copied_together_stay_together(way: str) -> None:
    W, array = ol.Parameter(ones(), "W"), ones()
    parts = COPIES[way]({"optimizer": ol.SGD([W, array], lr=1), "W": W, "array": array})
    parts["W"].grad = ones()
    parts["optimizer"].step()
    parts["optimizer"].step(grads=[None, ones()])
    assert (parts["W"].tolist(), parts["array"].tolist()) == ([0, 0], [0, 0])
    assert (W.tolist(), array.tolist()) == ([1, 1], [1, 1])
