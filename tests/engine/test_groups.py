"""Parameters come in any nesting, get names from it, and live in groups whose values may change at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.native.steps import changed
from support.helpers import content, gradient, model, parameters, snapshot, values


def zeros() -> np.ndarray:
    return np.zeros(2, np.float32)


def ones() -> np.ndarray:
    return np.ones(2, np.float32)


# Nestings ------------------------------------------------------------------------------------------------------------

class Layer:
    def __init__(self, **parameters: Any) -> None:
        self.named = parameters

    def named_parameters(self) -> Any:
        yield from self.named.items()


# How to nest two leaves, and the names that come of it.
NESTINGS: dict[str, tuple[Callable[[Any, Any], Any], list[str]]] = {
    "list": (lambda a, b: [a, b], ["0", "1"]),
    "tuple": (lambda a, b: (a, b), ["0", "1"]),
    "generator": (lambda a, b: (x for x in (a, b)), ["0", "1"]),
    "dict": (lambda a, b: {"W": a, "b": b}, ["W", "b"]),
    "dict values": (lambda a, b: {"W": a, "b": b}.values(), ["0", "1"]),
    "dict items": (lambda a, b: {"W": a, "b": b}.items(), ["W", "b"]),
    "layers": (lambda a, b: [(a,), (b,)], ["0.0", "1.0"]),
    "autograd": (lambda a, b: [(a, b)], ["0.0", "0.1"]),
    "dict of lists": (lambda a, b: {"encoder": [a], "decoder": [b]}, ["encoder.0", "decoder.0"]),
    "dict of dicts": (lambda a, b: {"encoder": {"W": a, "b": b}}, ["encoder.W", "encoder.b"]),
    "uneven": (lambda a, b: {"encoder": {"W": a}, "b": b}, ["encoder.W", "b"]),
    "list of dicts": (lambda a, b: [{"W": a}, {"W": b}], ["0.W", "1.W"]),
    "numbered": (lambda a, b: {1: a, 2: b}, ["1", "2"]),
    "pairs": (lambda a, b: [("W", a), ("b", b)], ["W", "b"]),
    "named_parameters": (lambda a, b: Layer(W=a, b=b).named_parameters(), ["W", "b"]),
    "pair": (lambda a, b: ("layer", [a, b]), ["layer.0", "layer.1"]),
    "pair in a dict": (lambda a, b: {"net": ("W", a), "b": b}, ["net.W", "b"]),
    "generator in a dict": (lambda a, b: {"net": (x for x in (a, b))}, ["net.0", "net.1"]),
    "empty branches": (lambda a, b: {"none": [], "net": [a, (), b]}, ["net.0", "net.2"]),
}


@pytest.mark.parametrize("wrap", [lambda a: a, ol.Parameter], ids=["array", "parameter"])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_parameters_are_named_by_path_and_share_memory(nesting: str, wrap: Any) -> None:
    nest, names = NESTINGS[nesting]
    a, b = zeros(), zeros()
    optimizer = ol.SGD(nest(wrap(a), wrap(b)), lr=1, momentum=0.5)
    assert all(p.data is array for p, array in zip(parameters(optimizer), (a, b), strict=True))
    for name, array in zip(names, (a, b), strict=True):
        optimizer.state[array]["momentum_buffer"] = ones()
        assert optimizer.state[name] is optimizer.state[array]


@pytest.mark.parametrize("nesting", NESTINGS)
def test_gradients_come_in_the_nesting_of_the_parameters(nesting: str) -> None:
    nest, _ = NESTINGS[nesting]
    a, b = zeros(), zeros()
    optimizer = ol.SGD(nest(a, b), lr=1)
    for _ in range(2):
        optimizer.step(grads=nest(ones(), 2 * ones()))
    assert (a.tolist(), b.tolist()) == ([-2, -2], [-4, -4])


@pytest.mark.parametrize("nesting", [key for key in NESTINGS if key != "dict values"])
def test_gradients_come_by_name_in_any_order(nesting: str) -> None:
    nest, (one, other) = NESTINGS[nesting]
    a, b = zeros(), zeros()
    ol.SGD(nest(a, b), lr=1).step(grads={other: 2 * ones(), one: ones()})
    assert (a.tolist(), b.tolist()) == ([-1, -1], [-2, -2])


@pytest.mark.parametrize("wrap", [lambda a: a, ol.Parameter, lambda a: ol.Parameter(a, "W")],
                         ids=["array", "parameter", "named"])
def test_a_single_parameter(wrap: Any) -> None:
    array = zeros()
    leaf = wrap(array)
    optimizer = ol.SGD(leaf, lr=1)
    optimizer.step(grads=ones())
    assert array.tolist() == [-1, -1]
    assert optimizer.state[leaf] is optimizer.state["W" if getattr(leaf, "name", None) else "0"]


def test_a_parameters_own_name_goes_before_its_position_and_after_a_chosen_path() -> None:
    a, b = ol.Parameter(zeros(), "mine"), ol.Parameter(zeros(), "other")
    optimizer = ol.SGD([[a], {"chosen": b}])
    assert optimizer.state["mine"] is optimizer.state[a]
    assert optimizer.state["1.chosen"] is optimizer.state[b]
    assert optimizer.param_groups[0]["param_names"] == ["mine", "1.chosen"]


@pytest.mark.parametrize(("nesting", "named"), [("list", False), ("autograd", False), ("dict", True), ("pairs", True)])
def test_param_names_are_kept_where_somebody_chose_them(nesting: str, named: bool) -> None:
    nest, names = NESTINGS[nesting]
    group = ol.SGD(nest(zeros(), zeros())).param_groups[0]
    assert group.get("param_names") == (names if named else None)


@pytest.mark.parametrize("nest", [lambda a, b: {a, b}, lambda a, b: frozenset((a, b)), lambda a, b: [{a, b}],
                                  lambda a, b: {"net": {a, b}}, lambda a, b: [{"params": {a, b}}],
                                  lambda a, b: [{"params": [{a, b}]}]])
def test_sets_have_no_order_and_are_refused(nest: Any) -> None:
    """pytorch PR#6031: parameters from a set come in another order after a resume."""
    with pytest.raises(TypeError, match="fixed order, got a set; use a list"):
        ol.SGD(nest(ol.Parameter(zeros()), ol.Parameter(zeros())))


@pytest.mark.parametrize("empty", [list, tuple, dict, lambda: (x for x in ()), lambda: [[]], lambda: {"net": []}])
def test_an_empty_list_of_parameters_is_refused(empty: Any) -> None:
    with pytest.raises(ValueError, match="at least one parameter"):
        ol.SGD(empty())


TWICE = {"pairs": lambda a, b: [("W", a), ("W", b)], "keys": lambda a, b: {1: a, "1": b},
         "paths": lambda a, b: {"net": {"W": a}, "net.W": b},
         "parameters": lambda a, b: [ol.Parameter(a, "W"), ol.Parameter(b, "W")],
         "groups": lambda a, b: [{"params": [a]}, {"params": [b]}]}


@pytest.mark.parametrize("nesting", TWICE)
def test_a_name_that_stands_twice_never_mixes_gradients_up(nesting: str) -> None:
    """Refused at construction, or each gradient reaches its own parameter."""
    a, b = zeros(), zeros()
    nest = TWICE[nesting]
    try:
        optimizer = ol.SGD(nest(a, b), lr=1)
    except ValueError as error:
        assert "name" in str(error)                          # noqa: PT017
        return
    grads = [[ones()], [2 * ones()]] if nesting == "groups" else [ones(), 2 * ones()] if nesting == "parameters" \
        else nest(ones(), 2 * ones())
    optimizer.step(grads=grads)
    assert (a.tolist(), b.tolist()) == ([-1, -1], [-2, -2])


def test_an_ambiguous_name_finds_nothing() -> None:
    optimizer = ol.SGD([{"params": [zeros()]}, {"params": [zeros()]}])
    with pytest.raises(KeyError, match="'0' names 2 parameters; use the Parameter itself"):
        optimizer.state["0"]


# Groups --------------------------------------------------------------------------------------------------------------

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
@pytest.mark.parametrize("optimizer", [ol.SGD, ol.Adam])
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


# Values that change --------------------------------------------------------------------------------------------------

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


def test_an_equal_number_is_no_change() -> None:
    built = ol.SGD([zeros()], lr=0.5)
    built.step(grads=[ones()])
    plans = built._plans[0].plans
    built.param_groups[0]["lr"] = 1.0 / 2.0
    assert changed(built._plans, built.param_groups, built.state.version) == []
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
