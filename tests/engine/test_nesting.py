"""Parameters and gradients in every nesting: paths, names, orders."""

from __future__ import annotations

from typing import Any

import pytest

import optimlite as ol
from optimlite.engine import nesting
from support.details import NEST, a, b, c, gradients

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


# What is told apart and what is not ----------------------------------------------------------------------------------

def test_what_goes_before_what_in_names_and_gradients() -> None:
    named = ol.Parameter(a, "own")
    assert nesting.as_parameters(nesting.read([c, named]))[2] is False        # one name that nobody chose is enough
    with pytest.raises(TypeError, match=r"at 'x\.k\.0';"):
        nesting.read({"x": [("k", [3])]})
    with pytest.raises(TypeError, match=r"got int;"):
        nesting.read(3)
