"""Parameters come in any nesting, and so do their gradients; their names are the paths in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import optimlite as ol
from support.helpers import ones, parameters, zeros


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
