"""What is refused of state, state dicts, nestings and hyper-parameters, and the whole message."""

from __future__ import annotations

from typing import Any

import numpy as np

import optimlite as ol
from optimlite import checks
from optimlite.engine import nesting
from optimlite.engine.state import State, Version, check_distinct
from support.details import NEST, a, adam, b, bounds, c, gradients, pair_of, stepped
from support.helpers import refusal, whole_messages


def load(change: Any, strict: bool = True) -> Any:
    saved = stepped(adam()).state_dict()
    return adam().load_state_dict(change(saved) or saved, strict=strict)


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
     "dtype=np.float64), or float32 where the others are, and let the model use that array"),
    (lambda: nesting.read({"x": [("w", a), ("y", "word")]}), TypeError,
     "parameters must be NumPy arrays, Parameters or nestings of them, got str at 'x.y'"),
    (lambda: nesting.read([[b"x"]]), TypeError,
     "parameters must be NumPy arrays, Parameters or nestings of them, got bytes at '0.0'"),
    (lambda: nesting.read(("x", ("y", 1))), TypeError,
     "parameters must be NumPy arrays, Parameters or nestings of them, got int at 'x.y'; use np.array(value, "
     "dtype=np.float64), or float32 where the others are, and let the model use that array"),
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
