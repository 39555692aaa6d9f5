"""State dicts: torch's layout out, a snapshot; in by name or position, exact to the bit."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import Case, per_case
from support.helpers import content, gradient, model, ones, parameters, snapshot, train, values, zeros
from support.state_dicts import adam, bits


def keeps_its_own(optimizer: ol.Optimizer, saved: dict[str, Any]) -> None:
    """What is written to the arrays of a state dict doesn't reach the optimizer."""
    after = values(optimizer)
    for entries in saved["state"].values():
        for array in entries.values():
            array[...] = 7
    assert values(optimizer) == after


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
    keeps_its_own(optimizer, saved)


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
    keeps_its_own(optimizer, saved)


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


def assert_resumes(optimizer: ol.Optimizer, saved: Any, fresh: ol.Optimizer) -> None:
    """From what was saved, the fresh one goes on as the other."""
    for p, q in zip(parameters(fresh), parameters(optimizer), strict=True):
        p.data = q.data
    fresh.load_state_dict(saved)
    assert values(train(fresh, range(4, 8))) == values(train(optimizer, range(4, 8)))


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
    assert_resumes(optimizer, saved, fresh)


@pytest.mark.parametrize(("build", "key", "initial"), [
    (lambda: ol.Adagrad(model(), initial_accumulator_value=0.5), "sum", np.full((3, 4), 0.5, np.float32)),
    (lambda: ol.Adafactor(model()), "row_var", np.zeros((3, 1), np.float32)),
], ids=["Adagrad", "Adafactor"])
def test_an_entry_that_was_taken_out_is_saved_as_the_next_step_begins_it(build: Any, key: str, initial: Any) -> None:
    optimizer, fresh = train(build(), range(1, 4)), build()
    del optimizer.state["W"][key]
    saved = optimizer.state_dict()
    assert content(saved["state"][0][key]) == content(initial)
    assert_resumes(optimizer, saved, fresh)


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
