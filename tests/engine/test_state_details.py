"""The details of state, state dicts, nestings and checks that a small slip would change: messages, copies, orders."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import checks
from optimlite.closures.bounds import Bounds
from optimlite.engine import nesting, state_dict
from optimlite.engine.state import State, StateMap, Version, check_distinct
from support.helpers import PlainMomentum, content, refusal, whole_messages


def pair_of(value: Any) -> Any:
    return checks.pair(checks.fraction)("betas", value)


def adam(**options: Any) -> ol.Adam:
    return ol.Adam({"W": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}, **options)


def stepped(optimizer: ol.Optimizer, steps: int = 1) -> ol.Optimizer:
    for k in range(steps):
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            p.grad = np.full(p.shape, k + 1.0, p.dtype)
        optimizer.step()
    return optimizer


def load(change: Any, strict: bool = True) -> Any:
    saved = stepped(adam()).state_dict()
    return adam().load_state_dict(change(saved) or saved, strict=strict)


def bounds(value: Any) -> Bounds:
    optimizer = ol.SGD({"W": np.ones((2, 3)), "b": np.ones(3)})
    return Bounds(value, optimizer._parameters(), optimizer._names())


def gradients(grads: Any, params: Any) -> list[Any]:
    return list(nesting.gradients(grads, nesting.read(params)))


a, b, c = np.zeros(1), np.zeros(2), np.zeros(3)
NEST = {"x": [a, b], "y": c}

# What is refused, and the whole message.
MESSAGES: list[tuple[Any, type[Exception], str]] = [
    # checks
    (lambda: checks.number("lr", np.ones(2)), TypeError, "`lr` must be a single number, got an array of shape (2,)"),
    (lambda: checks.number("lr", True), TypeError, "`lr` must be a number, got True"),
    (lambda: checks.number("lr", np.bool_(True)), TypeError, "`lr` must be a number, got True"),
    (lambda: checks.number("lr", "1"), TypeError, "`lr` must be a number, got '1'"),
    (lambda: checks.number("lr", float("inf")), ValueError, "`lr` must be finite, got inf"),
    (lambda: checks.number("lr", 10 ** 400), ValueError, f"`lr` must be finite, got 1{'0' * 199}..."),
    (lambda: checks.count("history_size", 0), ValueError, "`history_size` must be an integer >= 1, got 0"),
    (lambda: checks.count("history_size", 1.5), ValueError, "`history_size` must be an integer >= 1, got 1.5"),
    (lambda: checks.count("history_size", "1"), TypeError, "`history_size` must be a number, got '1'"),
    (lambda: checks.optional_count("max_eval", 0), ValueError, "`max_eval` must be an integer >= 1, got 0"),
    (lambda: checks.interval(0, 1)("x", 2), ValueError, "`x` must be >= 0 and <= 1, got 2"),
    (lambda: checks.interval(0, 1)("x", -1), ValueError, "`x` must be >= 0 and <= 1, got -1"),
    (lambda: checks.interval(0, 1, closed="left")("x", 1), ValueError, "`x` must be >= 0 and < 1, got 1"),
    (lambda: checks.interval(0, 1, closed="right")("x", 0), ValueError, "`x` must be > 0 and <= 1, got 0"),
    (lambda: checks.interval(0, 1, closed="neither")("x", 0), ValueError, "`x` must be > 0 and < 1, got 0"),
    (lambda: checks.interval(0, 1, closed="neither")("x", 1), ValueError, "`x` must be > 0 and < 1, got 1"),
    (lambda: checks.interval(2.5)("x", 2), ValueError, "`x` must be >= 2.5, got 2"),
    (lambda: checks.interval(high=2.5)("x", 3), ValueError, "`x` must be <= 2.5, got 3"),
    (lambda: pair_of(0.9), TypeError, "`betas` must be a pair of numbers, got 0.9"),
    (lambda: pair_of("ab"), TypeError, "`betas` must be a pair of numbers, got 'ab'"),
    (lambda: pair_of(b"ab"), TypeError, "`betas` must be a pair of numbers, got b'ab'"),
    (lambda: pair_of({0: 1, 2: 3}), TypeError, "`betas` must be a pair of numbers, got {0: 1, 2: 3}"),
    (lambda: pair_of((0.1, 0.2, 0.3)), TypeError, "`betas` must be a pair of numbers, got (0.1, 0.2, 0.3)"),
    (lambda: pair_of((0.1, 1.0)), ValueError, "`betas[1]` must be >= 0 and < 1, got 1.0"),
    (lambda: pair_of((-0.1, 0.9)), ValueError, "`betas[0]` must be >= 0 and < 1, got -0.1"),
    (lambda: checks.flag("maximize", 1), TypeError, "`maximize` must be True or False, got 1"),
    (lambda: checks.group_keys({"learning_rate": 1}, ["lr"], "SGD"), ValueError,
     "a parameter group has the key `learning_rate`, which SGD doesn't know; did you mean `lr`?"),
    (lambda: checks.group_keys({"mine": 1, "Weight_Decays": 1}, ["lr", "weight_decay"], "SGD"), ValueError,
     "a parameter group has the key `Weight_Decays`, which SGD doesn't know; did you mean `weight_decay`?"),
    (lambda: checks.constructor("SGD", ["params", "lr", "fused"], ["self", "params", "lr"]), TypeError,
     "SGD has no argument `fused`: optimlite's kernels are always fused; leave it out"),
    (lambda: checks.constructor("SGD", ["Learning_Rate"], ["self", "params", "lr"]), TypeError,
     "SGD has no argument `Learning_Rate`; did you mean `lr`?"),
    (lambda: checks.constructor("SGD", ["self"], ["self", "params", "lr", "momentum"]), TypeError,
     "SGD has no argument `self`; it has `lr`, `momentum`"),
    # nestings
    (lambda: nesting.read({"x": {a.shape}}), TypeError, "parameters must come in a fixed order, got a set; use a list"),
    (lambda: nesting.read(frozenset()), TypeError, "parameters must come in a fixed order, got a set; use a list"),
    (lambda: nesting.read(3), TypeError,
     "parameters must be NumPy arrays, Parameters or nestings of them, got int; use np.array(value, "
     "dtype=np.float32), and let the model use that array"),
    (lambda: nesting.read({"x": [("w", a), ("y", "word")]}), TypeError,
     "parameters must be NumPy arrays, Parameters or nestings of them, got str at 'x.y'"),
    (lambda: nesting.read([[b"x"]]), TypeError,
     "parameters must be NumPy arrays, Parameters or nestings of them, got bytes at '0.0'"),
    (lambda: nesting.read(("x", ("y", 1))), TypeError,
     "parameters must be NumPy arrays, Parameters or nestings of them, got int at 'x.y'; use np.array(value, "
     "dtype=np.float32), and let the model use that array"),
    (lambda: gradients(a, NEST), ValueError,
     "`grads` must be nested as the parameters are, got ndarray for 2 parameters or branches"),
    (lambda: gradients({"x": 3, "y": c}, NEST), ValueError,
     "`grads` at 'x' must be nested as the parameters are, got int for 2 parameters or branches"),
    (lambda: gradients({"x": "ab", "y": c}, NEST), ValueError,
     "`grads` at 'x' must be nested as the parameters are, got str for 2 parameters or branches"),
    (lambda: gradients({"x": b"ab", "y": c}, NEST), ValueError,
     "`grads` at 'x' must be nested as the parameters are, got bytes for 2 parameters or branches"),
    (lambda: gradients({"x": [a], "y": c}, NEST), ValueError,
     "`grads` at 'x' must have 2 items as the parameters do, got 1"),
    (lambda: gradients([a, b, c], NEST), ValueError, "`grads` must have 2 items as the parameters do, got 3"),
    (lambda: gradients({"x": None, "z": c, "u": c}, NEST), ValueError,
     "`grads` has unknown names ['z', 'u']; the parameters are ['x', 'y']"),
    (lambda: gradients({"y": c}, NEST), ValueError, "`grads` lacks ['x']; give None to skip a parameter"),
    (lambda: gradients({"n": {"x": a}}, {"n": {"x": a, "y": b}}), ValueError,
     "`grads` at 'n' lacks ['y']; give None to skip a parameter"),
    (lambda: gradients({"m": {"n": {}}}, {"m": {"n": {"x": a}}}), ValueError,
     "`grads` at 'm.n' lacks ['x']; give None to skip a parameter"),
    (lambda: gradients([("y", a), ("x", b), ("y", c)], [("x", a), ("y", b), ("y", c)]), ValueError,
     "`grads` has names that stand twice: ['y', 'x', 'y']; give them in the order ['x', 'y', 'y']"),
    # state
    (lambda: State(Version()).__setitem__("m", "word"), TypeError,
     "state `m` must be a numeric array or a number, got str"),
    (lambda: adam().state["V"], KeyError, "the optimizer has no parameter 'V'"),
    (lambda: adam().state[np.ones(3, np.float32)], KeyError, "the optimizer has no such parameter (got ndarray)"),
    (lambda: adam().state[0], KeyError, "the optimizer has no such parameter (got int)"),
    (lambda: adam().state[ol.Parameter(np.ones(3))], KeyError, "the optimizer has no such parameter (got Parameter)"),
    (lambda: ol.SGD([ol.Parameter(np.ones(1), "W"), ol.Parameter(np.ones(1), "W"), ol.Parameter(np.ones(1), "W")]
                    ).state["W"], KeyError, "'W' names 3 parameters; use the Parameter itself"),
    (lambda: check_distinct(["one", "two", "three"], [c[1:], np.ones(2), c[:2]]), ValueError,
     "three and one overlap in memory; give each its own array"),
    # state dicts
    (lambda: load(lambda d: d["state"].clear() or [1]), ValueError,
     "a state dict must be a dict with the keys 'state' and 'param_groups', got list"),
    (lambda: load(lambda d: {"model": 1}), ValueError,
     "a state dict must be a dict with the keys 'state' and 'param_groups', got ['model']"),
    (lambda: load(lambda d: {**d, "state": []}), TypeError, "a state dict's 'state' must be a dict, got list"),
    (lambda: load(lambda d: {**d, "state": {0: 3}}), TypeError, "a state dict's state[0] must be a dict, got int"),
    (lambda: load(lambda d: {**d, "param_groups": {}}), TypeError,
     "a state dict's 'param_groups' must be a list of dicts, got dict"),
    (lambda: load(lambda d: {**d, "param_groups": [3]}), TypeError,
     "a state dict's 'param_groups' must be a list of dicts, got list"),
    (lambda: load(lambda d: {**d, "param_groups": [{"params": 3}]}), TypeError,
     "group 0 of a state dict must have a list 'params', got 3"),
    (lambda: load(lambda d: {**d, "param_groups": ({"params": []}, {})}), TypeError,
     "group 1 of a state dict must have a list 'params', got None"),
    (lambda: load(lambda d: {**d, "param_groups": [{"params": [0]}, {"params": [1]}]}), ValueError,
     "the state dict has groups of [1, 1] parameters, the optimizer has [2]; "
     "name the parameters on both sides to match them by name"),
    (lambda: load(lambda d: d["state"][0].pop("exp_avg") is d["state"][1].pop("step")), ValueError,
     "the state dict doesn't fit the optimizer (strict=False loads what fits):\n"
     "  missing: state['W']['exp_avg'], state['b']['step']"),
    (lambda: load(lambda d: d["state"][0].update(mine=1, exp_avg=np.zeros(4, np.float32))), ValueError,
     "the state dict doesn't fit the optimizer (strict=False loads what fits):\n"
     "  unexpected: state['W']['mine']\n  misshapen: state['W']['exp_avg'] has shape (4,), not (2, 3)"),
    (lambda: load(lambda d: d["param_groups"][0].update(param_names=["V", "b"])), ValueError,
     "the state dict doesn't fit the optimizer (strict=False loads what fits):\n"
     "  missing: parameter 'W'\n  unexpected: parameter 'V', state[0]"),
    # bounds
    (lambda: bounds({"V": (0, 1), "W": (0, 1)}), ValueError,
     "`bounds` has unknown names ['V']; the parameters are ['W', 'b']"),
    (lambda: bounds([(0, 1)]), ValueError, "`bounds` must have one pair for each of 2 parameters, got 1"),
    (lambda: bounds("ab"), TypeError, "`bounds` must be a pair, a dict of pairs or a list of pairs, got str"),
    (lambda: bounds(3), TypeError, "`bounds` must be a pair, a dict of pairs or a list of pairs, got int"),
    (lambda: bounds([(0, 1), 3]), TypeError, "`bounds` of 'b' must be a pair (low, high), got 3"),
    (lambda: bounds([(0, 1, 2), None]), TypeError, "`bounds` of 'W' must be a pair (low, high), got (0, 1, 2)"),
    (lambda: bounds({"b": (np.zeros(2), None)}), ValueError,
     "`bounds` of 'b' must be numbers or arrays that broadcast to (3,), got ndarray of shape (2,)"),
    (lambda: bounds({"b": ("x", None)}), ValueError,
     "`bounds` of 'b' must be numbers or arrays that broadcast to (3,), got str of shape ()"),
    (lambda: bounds({"b": (np.array([0, 5, 6]), 4)}), ValueError,
     "`bounds` of 'b' must have low <= high, got 5.0 and 4.0 at (1,)"),
    (lambda: bounds((2, np.nan)), ValueError, "`bounds` of 'W' must have low <= high, got 2.0 and nan at (0, 0)"),
]


@whole_messages(MESSAGES)
def test_the_whole_message(act: Any, error: type[Exception], message: str) -> None:
    refusal(act, error, message)


# Checks --------------------------------------------------------------------------------------------------------------

def test_what_checks_let_pass_and_give() -> None:
    whole = 2 ** 53                                  # larger integers are read as floats
    for value, result in ((np.float32(0.5), 0.5), (np.array([[3]]), 3), (2, 2), (np.int8(4), 4), (whole, whole),
                          (-whole, -whole), (whole + 1, float(whole)), (-whole - 1, -float(whole))):
        got = checks.number("x", value)
        assert (got, type(got)) == (result, type(result))
    assert [checks.interval(0, 1)("x", value) for value in (0, 0.5, 1)] == [0, 0.5, 1]
    assert checks.interval(0, 1, closed="right")("x", 1) == 1
    assert checks.interval(0, 1, closed="left")("x", 0) == 0
    assert checks.interval()("x", -1e308) == -1e308
    assert pair_of(np.array([0.5, 0.25])) == (0.5, 0.25)
    assert pair_of(iter([0.5, 0])) == (0.5, 0)
    assert checks.flag("x", np.bool_(True)) is True
    assert checks.flag("x", False) is False
    for value, result in ((1, 1), (3.0, 3)):
        got = checks.count("x", value)
        assert (got, type(got)) == (result, int)
    assert [checks.optional_count("x", value) for value in (None, 1)] == [None, 1]
    assert checks.shown("a" * 198) == f"'{'a' * 198}'"                           # 200 characters are shown, no more
    assert checks.shown("a" * 199) == f"'{'a' * 199}..."


@pytest.mark.parametrize(("key", "known", "meant"), [
    ("LEARNING_RATE", ["lr"], "lr"), ("learning_rate", ["rate"], None), ("beta1", ["lr", "betas"], "betas"),
    ("wd", ["weight_decay"], "weight_decay"), ("momentun", ["lr", "momentum"], "momentum"),
    ("NESTEROV_", ["nesterov"], "nesterov"), ("name", ["lr"], None), ("lrr", ["lr"], "lr"), ("l", ["lr"], None),
    ("epsilon", ["eps"], "eps"), ("moment", ["momentum", "maximize"], "momentum")])
def test_what_a_slip_resembles(key: str, known: list[str], meant: str | None) -> None:
    assert checks.resembles(key, iter(known)) == meant


def test_keys_of_ones_own_are_let_through() -> None:
    checks.group_keys({"params": 1, 3: 1, "initial_lrr": 1, "max_lr": 1, "lr": 1, "name": 1, "mine": 1}, ["lr"], "SGD")
    with pytest.raises(ValueError, match="`lrr`"):   # the last of many is looked at too
        checks.group_keys({"params": 1, 3: 1, "initial_lr": 1, "max_lr": 1, "lr": 1, "lrr": 1}, ["lr"], "SGD")
    checks.constructor("SGD", ["params", "lr"], ["self", "lr"])
    with pytest.raises(TypeError, match="`lrr`"):
        checks.constructor("SGD", ["params", "lr", "lrr"], ["self", "lr"])


# Nestings ------------------------------------------------------------------------------------------------------------

def test_a_tree_and_its_paths() -> None:
    tree = nesting.read({"x": [("i", a), ("k", b)], 7: (c, c)})
    assert (tree.keys, tree.leaves, tree.flat) == (["x", "7"], 4, False)
    assert tree.branches[0].tree.branches == [("i", True, a), ("k", True, b)]
    assert tree.branches[1].tree.branches == [("0", False, c), ("1", False, c)]
    assert [(branch.tree.flat, branch.tree.leaves) for branch in tree.branches] == [(True, 2), (True, 2)]
    assert [(path, chosen) for path, chosen, _ in nesting.flatten(tree)] == [
        ("x.i", True), ("x.k", True), ("7.0", True), ("7.1", True)]
    assert [(path, chosen) for path, chosen, _ in nesting.flatten(nesting.read([[a], [("k", b)], c]))] == [
        ("0.0", False), ("1.k", True), ("2", False)]
    assert list(nesting.flatten(a)) == [("", False, a)]
    assert list(nesting.flatten(nesting.read(("k", a)))) == [("k", True, a)]
    assert nesting.is_pair(("x", 1))
    assert not any(map(nesting.is_pair, (["x", 1], ("x",), ("x", 1, 2), (1, "x"), "xy")))


def test_the_names_of_parameters() -> None:
    named, unnamed = ol.Parameter(a, "own"), ol.Parameter(b)

    def names(params: Any) -> tuple[list[str], list[str | None], bool]:
        found, called, chosen = nesting.as_parameters(nesting.read(params))
        return called, [p.name for p in found], chosen

    assert names(c) == (["0"], ["0"], False)
    assert names(named) == (["own"], ["own"], True)
    assert names(unnamed) == (["0"], [None], False)
    assert names([named, unnamed]) == (["own", "1"], ["own", None], False)
    assert names([named, c]) == (["own", "1"], ["own", "1"], False)
    assert names({"x": named, "y": [unnamed, c]}) == (["x", "y.0", "y.1"], ["own", None, "y.1"], True)
    assert names([[named], {"k": c}]) == (["own", "1.k"], ["own", "1.k"], True)
    [wrapped], _, _ = nesting.as_parameters(nesting.read([c]))
    assert wrapped.data is c


def test_gradients_in_every_nesting() -> None:
    def same(found: list[Any], *expected: Any) -> bool:
        return len(found) == len(expected) and all(one is other for one, other in zip(found, expected, strict=True))

    assert same(gradients({"y": c, "x": [a, b]}, NEST), a, b, c)
    assert same(gradients([[a, b], c], NEST), a, b, c)
    assert same(gradients(None, NEST), None, None, None)
    assert same(gradients({"x": None, "y": c}, NEST), None, None, c)
    assert same(gradients([("y", c), ("x", (a, b))], NEST), a, b, c)
    assert same(gradients(a, a), a)
    assert same(gradients(None, a), None)
    assert same(gradients(("k", a), ("k", b)), a)
    assert same(gradients({"0": a, 1: b}, [b, a]), a, b)
    assert same(gradients([("k", a), ("k", b)], [("k", b), ("k", a)]), a, b)
    assert same(gradients(iter([a, None]), [b, a]), a, None)


# State ---------------------------------------------------------------------------------------------------------------

def test_every_change_of_an_entry_is_noticed() -> None:
    version = Version()
    state = State(version)

    def noticed(act: Any) -> Any:
        before = version.count
        result = act()
        assert version.count == before + 1
        return result

    noticed(lambda: state.__setitem__("m", a))
    assert state["m"] is a
    state["m"] = a                                   # the same array
    assert version.count == 1
    noticed(lambda: state.update({"n": 3}))
    assert (state["n"].shape, state["n"].dtype) == ((), np.int64)
    noticed(lambda: state.update([("v", 0.5)]))
    noticed(lambda: state.update(w=True))
    assert state["w"].dtype == bool
    before = state
    state |= {"m": b}
    assert state is before
    assert version.count == 5
    assert state["m"] is b
    assert noticed(lambda: state.setdefault("x")) == 0
    assert noticed(lambda: state.setdefault("y", 4)) == 4
    assert state.setdefault("y", 5) == 4
    assert version.count == 7
    noticed(lambda: state.__delitem__("x"))
    assert "x" not in state
    assert noticed(lambda: state.pop("m")) is b
    assert state.pop("m", 9) == 9
    assert state.popitem()[0] == "y"
    assert version.count == 11
    noticed(state.clear)
    assert state == {}
    state["m"] = a
    copied = pickle.loads(pickle.dumps(state))
    assert type(copied) is dict
    assert content(copied["m"]) == content(a)


def test_the_map_of_states() -> None:
    optimizer = adam()
    states, (W, bias) = optimizer.state, optimizer.param_groups[0]["params"]
    version = states.version
    assert (len(states), list(states), repr(states), W in states, "V" in states) == (0, [], "{}", False, False)
    states[W]["m"] = 1
    assert states.version > version
    assert (len(states), list(states), W in states, "W" in states, "b" in states) == (1, [W], True, True, False)
    assert repr(states) == f"{{'W': {states['W']!r}}}"
    states[bias]["m"] = 2
    assert repr(states) == f"{{'W': {states['W']!r}, 'b': {states['b']!r}}}"
    assert states[W] is states["W"] is states[W.data]
    assert states.find("b") is states.find(bias.data) is states.find(bias) is bias
    assert states.name_of(W) == "W"
    assert list(states.labels()) == ["parameter 'W'", "state `m` of 'W'", "parameter 'b'", "state `m` of 'b'"]
    assert [array is other for array, other in zip(states.arrays(), (
        W.data, states[W]["m"], bias.data, states[bias]["m"]), strict=True)] == [True] * 4
    assert states.unique_names()
    assert not ol.SGD([ol.Parameter(np.ones(1), "W"), ol.Parameter(np.ones(1), "W")]).state.unique_names()
    assert isinstance(states, StateMap)
    check_distinct(["one", "two", "three"], [c[:1], c[1:], c[:0]])       # side by side; nothing overlaps nothing
    with pytest.raises(ValueError, match=r"^one and two overlap"):
        check_distinct(["one", "two"], [c, c])


# State dicts ---------------------------------------------------------------------------------------------------------

def test_copies_keep_the_layout_and_live_ones_are_the_arrays() -> None:
    optimizer = ol.Adam({"W": np.asfortranarray(np.ones((2, 3), np.float32))})
    stepped(optimizer)
    copied, live = optimizer.state_dict()["state"][0], optimizer.state_dict(copy=False)["state"][0]
    assert copied["exp_avg"].flags.f_contiguous
    assert copied["exp_avg"] is not optimizer.state["W"]["exp_avg"]
    assert live["exp_avg"] is optimizer.state["W"]["exp_avg"]
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg"] = np.ascontiguousarray(saved["state"][0]["exp_avg"])
    fresh = ol.Adam({"W": np.asfortranarray(np.ones((2, 3), np.float32))})
    fresh.load_state_dict(saved)
    assert fresh.state["W"]["exp_avg"].flags.f_contiguous
    stepped(fresh)


def test_positions_count_on_over_the_groups() -> None:
    optimizer = ol.Adam([{"params": [np.ones(1), np.ones(2)]}, {"params": [np.ones(3)]}, {"params": []},
                         {"params": [np.ones(4)]}])
    stepped(optimizer)
    saved = optimizer.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [[0, 1], [2], [], [3]]
    assert [entry["exp_avg"].shape for entry in saved["state"].values()] == [(1,), (2,), (3,), (4,)]


def test_groups_that_gather_from_several_keep_their_own_values() -> None:
    source = ol.SGD([{"params": {"W": np.ones(1)}, "lr": 0.1}, {"params": {"b": np.ones(1)}, "lr": 0.2},
                     {"params": {"c": np.ones(1), "d": np.ones(1)}, "lr": 0.3}])
    target = ol.SGD([{"params": {"d": np.ones(1), "c": np.ones(1)}, "lr": 0.7},
                     {"params": {"b": np.ones(1), "W": np.ones(1)}, "lr": 0.8, "name": "gathers"}])
    problems = target.load_state_dict(source.state_dict(), strict=False)
    assert problems == ([], [], ["group 1 gathers parameters of 2 saved groups, so its hyper-parameters are kept"], [])
    assert [group["lr"] for group in target.param_groups] == [0.3, 0.8]
    assert target.param_groups[0]["param_names"] == ["d", "c"]


def test_execution_flags_and_names_are_not_loaded_as_hyper_parameters() -> None:
    saved = stepped(adam()).state_dict()
    saved["param_groups"][0].update(foreach=None, fused=True, capturable=False, differentiable=False, mine=[1])
    optimizer = adam()
    optimizer.param_groups[0]["mine"] = []
    assert optimizer.load_state_dict(saved) == ([], [], [], [])
    group = optimizer.param_groups[0]
    assert not {"foreach", "fused", "capturable", "differentiable"} & set(group)
    assert group["mine"] == [1]
    assert group["mine"] is not saved["param_groups"][0]["mine"]


@pytest.mark.parametrize(("array", "like", "reason"), [
    (np.ones(2), np.ones(2), ""), (np.array("x"), None, "is <U1, not a numeric array"),
    (np.ones(2, complex), np.ones(2), "is complex128, which isn't cast to float64"), (np.ones(5, bool), None, ""),
    (np.ones(2), np.ones(3), "has shape (2,), not (3,)"), (np.full(2, 0.5), np.ones(2, np.float32), ""),
    (np.full(2, 0.1), np.ones(2, np.float32), "is float64 and would lose values as float32"),
    (np.full(2, np.nan), np.ones(2, np.float32), ""), (np.array(2.0), np.array(1), ""),
    (np.array(2.5), np.array(1), "is float64 and would lose values as int64"),
    (np.array(2 ** 60 + 1), np.array(1.0), "is int64 and would lose values as float64")], ids=str)
def test_why_an_array_does_not_fit(array: Any, like: Any, reason: str) -> None:
    assert state_dict.misfit(array, like) == reason


@pytest.mark.parametrize(("array", "reason"), [
    (np.array(0), ""), (np.array(2 ** 53), ""), (np.array(0.5), ""), (np.array(-0.5), ""),
    (np.array(2 ** 53 + 1), f"is {2 ** 53 + 1}, and counts go from 0 to 2**53"),
    (np.array(-1, np.int8), "is -1, and counts go from 0 to 2**53")], ids=str)
def test_why_an_integer_is_no_count(array: Any, reason: str) -> None:
    assert state_dict.no_count(array) == reason


def test_the_parameters_of_functions_are_those_that_inspect_gives() -> None:
    """Through decorators, too; what isn't a function of Python's may take anything."""
    def plain(self: Any, a: int, /, b: int = 1, *rest: int, c: int, d: int = 2) -> int:
        return a + b + c + d                         # its other variables are none of its parameters

    def open_ended(a: int, **others: int) -> None:
        names = list(others)
        del names

    @functools.wraps(plain)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    assert checks.parameters_of(plain) == (("self", "a", "b", "c", "d"), False)
    assert checks.parameters_of(wrapped) == checks.parameters_of(plain)
    assert checks.parameters_of(len) == checks.parameters_of(functools.partial(plain, 1)) == ((), True)
    assert checks.parameters_of(open_ended) == (("a",), True)


def test_only_counts_must_be_counts() -> None:
    """Integers of one's own may be of any shape and sign."""
    optimizer, fresh = PlainMomentum([np.ones(2)]), PlainMomentum([np.ones(2)])
    optimizer.state["0"]["seen"] = np.array([-1, 3])
    fresh.load_state_dict(optimizer.state_dict())
    assert content(fresh.state["0"]["seen"]) == content(np.array([-1, 3]))


def test_arrays_that_are_not_in_memory_are_read_only_where_their_values_count() -> None:
    class Stored(state_dict.Deferred):
        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def read(self) -> np.ndarray:
            return self.array

    saved = stepped(adam()).state_dict()
    entries = saved["state"][0]
    same, other, counter = (Stored(array) for array in (
        entries["exp_avg"], entries["exp_avg_sq"].astype(np.float64), entries["step"]))
    saved["state"][0] = {"exp_avg": same, "exp_avg_sq": other, "step": counter}
    problems, states, _ = state_dict.fit(adam(), saved)
    found = states[0][1]
    assert problems == ([], [], [], [])
    assert list(found) == ["exp_avg", "exp_avg_sq", "step"]
    assert found["exp_avg"] is same
    assert content(found["exp_avg_sq"]) == content(entries["exp_avg_sq"])        # another type: cast without loss
    assert content(found["step"]) == content(entries["step"])                    # a count: must be in its range


def test_arrays_come_from_tensors_numbers_and_swapped_bytes() -> None:
    class Tensor:
        """As torch's look from outside."""

        is_sparse = False
        dtype = "torch.float32"

        def __init__(self, *calls: str) -> None:
            self.calls = list(calls)

        def __getattr__(self, name: str) -> Any:
            if name not in ("detach", "cpu", "float", "to_dense", "numpy"):
                raise AttributeError(name)
            self.calls.append(name)
            return (lambda: np.ones(2)) if name == "numpy" else lambda: self

    plain, half, sparse = Tensor(), Tensor(), Tensor()
    half.dtype, sparse.is_sparse = "torch.bfloat16", True
    assert content(state_dict.as_array(plain)) == content(np.ones(2))
    assert plain.calls[-3:] == ["detach", "cpu", "numpy"]
    state_dict.as_array(half)
    assert half.calls[-4:] == ["detach", "cpu", "float", "numpy"]
    state_dict.as_array(sparse)
    assert sparse.calls[-4:] == ["detach", "cpu", "to_dense", "numpy"]
    assert content(state_dict.as_array(3)) == content(np.array(3))
    swapped = state_dict.as_array(np.array([1.5, 2], ">f4"))
    assert content(swapped) == content(np.array([1.5, 2], "<f4"))
    deferred = state_dict.Deferred()
    assert state_dict.as_array(deferred) is deferred
    with pytest.raises(NotImplementedError):
        deferred.read()


def test_what_is_missing_and_unexpected_is_told_and_the_rest_is_loaded() -> None:
    saved = stepped(adam(), 3).state_dict()
    saved["state"][7] = {}
    saved["state"][0] = {"mine": 1, **saved["state"][0]}
    del saved["param_groups"][0]["eps"]
    optimizer = adam(eps=0.5)
    assert optimizer.load_state_dict(saved, strict=False) == (
        ["hyper-parameter `eps` of group 0"], ["state[7]", "state['W']['mine']"], [], [])
    assert optimizer.param_groups[0]["eps"] == 0.5
    assert list(optimizer.state["W"]) == ["exp_avg", "exp_avg_sq", "step"]
    assert int(optimizer.state["W"]["step"]) == 3


# Bounds --------------------------------------------------------------------------------------------------------------

def test_bounds_in_every_form() -> None:
    inf = np.inf

    def limits(value: Any) -> list[Any]:
        return [(low.tolist(), high.tolist()) for low, high in bounds(value).arrays.values()]

    assert limits((0, 5)) == [([[0] * 3] * 2, [[5] * 3] * 2), ([0] * 3, [5] * 3)]
    assert limits((None, 5))[1] == ([-inf] * 3, [5] * 3)
    assert limits({"b": (1, None)}) == [([[-inf] * 3] * 2, [[inf] * 3] * 2), ([1] * 3, [inf] * 3)]
    assert limits([None, [0, np.array([1, 2, 3])]])[1] == ([0] * 3, [1, 2, 3])
    assert limits(((0, 1), (2, 3))) == [([[0] * 3] * 2, [[1] * 3] * 2), ([2] * 3, [3] * 3)]
    assert limits((1, 1))[1] == ([1] * 3, [1] * 3)
    fortran = ol.Parameter(np.asfortranarray(np.ones((2, 3), np.float32)))
    low, _ = next(iter(Bounds((0, 1), [fortran], ["W"]).arrays.values()))
    assert low.flags.f_contiguous
    assert low.dtype == np.float32


# What is told apart and what is not -----------------------------------------------------------------------------------

def test_what_goes_before_what_in_names_and_gradients() -> None:
    named = ol.Parameter(a, "own")
    assert nesting.as_parameters(nesting.read([c, named]))[2] is False        # one name that nobody chose is enough
    with pytest.raises(TypeError, match=r"at 'x\.k\.0';"):
        nesting.read({"x": [("k", [3])]})
    with pytest.raises(TypeError, match=r"got int;"):
        nesting.read(3)


def test_versions_count_every_registration_and_load() -> None:
    optimizer = adam()
    versions = [optimizer.state.version]
    optimizer.add_param_group({"params": [np.ones(2, np.float32)]})
    versions.append(optimizer.state.version)
    optimizer.add_param_group({"params": [np.ones(2, np.float32), np.ones(1, np.float32)]})
    versions.append(optimizer.state.version)
    optimizer.load_state_dict(optimizer.state_dict())
    versions.append(optimizer.state.version)
    assert versions == sorted(set(versions))
    assert versions[2] == versions[1] + 2


def test_layouts_that_are_checked_name_what_came() -> None:
    with pytest.raises(TypeError, match=r"^group 0 of a state dict must have a list 'params', got 'W'$"):
        adam().load_state_dict({"state": {}, "param_groups": [{"params": "W"}]})
    with pytest.raises(ValueError, match=r"and 'param_groups', got int$"):
        adam().load_state_dict(3)  # type: ignore[arg-type]


def test_saved_groups_hold_the_values_and_positions_alone() -> None:
    saved = adam().state_dict()
    assert saved["param_groups"][0]["params"] == [0, 1]
    assert "params" in saved["param_groups"][0]
    assert not any(isinstance(value, tuple) and value and isinstance(value[0], ol.Parameter)
                   for value in saved["param_groups"][0].values())


def test_loading_state_that_overlaps_live_memory_copies_it() -> None:
    optimizer = stepped(adam(), 2)
    saved = optimizer.state_dict(copy=False)
    one, other = optimizer.state["W"]["exp_avg"].copy(), optimizer.state["W"]["exp_avg_sq"].copy()
    entries = dict(saved["state"][0])
    saved["state"][0] = {**entries, "exp_avg": entries["exp_avg_sq"], "exp_avg_sq": entries["exp_avg"]}
    optimizer.load_state_dict(saved)
    assert content(optimizer.state["W"]["exp_avg"]) == content(other)
    assert content(optimizer.state["W"]["exp_avg_sq"]) == content(one)


def test_loading_a_view_that_runs_back_into_live_memory_copies_it() -> None:
    memory = np.arange(13, dtype=np.float32)
    optimizer = stepped(adam())
    state = optimizer.state["W"]
    state["exp_avg"], state["exp_avg_sq"] = memory[:6].reshape(2, 3), memory[6:12].reshape(2, 3)
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg"] = np.zeros((2, 3), np.float32)
    saved["state"][0]["exp_avg_sq"] = memory[:0:-2].reshape(2, 3)                # it begins behind both
    optimizer.load_state_dict(saved)
    assert state["exp_avg_sq"].tolist() == [[12, 10, 8], [6, 4, 2]]
    assert not state["exp_avg"].any()


def test_a_parameter_of_a_subclass_gets_plain_state() -> None:
    class Mine(np.ndarray):
        pass

    optimizer = ol.Adam({"W": np.ones(3, np.float32).view(Mine), "b": np.ones(3, np.float32)})
    optimizer.load_state_dict(stepped(ol.Adam({"W": np.ones(3, np.float32), "b": np.ones(3, np.float32)})).state_dict())
    assert type(optimizer.state["W"]["exp_avg"]) is np.ndarray
    optimizer.param_groups[0]["amsgrad"] = True
    assert type(optimizer.state_dict()["state"][0]["max_exp_avg_sq"]) is np.ndarray      # which the next step adds


def test_state_of_ones_own_optimizer_must_fit_the_state_that_is_there() -> None:
    optimizer = stepped(PlainMomentum([np.ones(3)]))
    saved = optimizer.state_dict()
    saved["state"][0]["average"] = np.ones(4)
    with pytest.raises(ValueError, match=r"has shape \(4,\), not \(3,\)"):
        optimizer.load_state_dict(saved)
    assert PlainMomentum([np.ones(3)]).load_state_dict(saved) == ([], [], [], [])       # nothing is there to tell
