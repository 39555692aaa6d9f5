"""Parameters that are replaced, pruned and grown: what becomes of their state, by rows and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import assert_same, same_bits
from support.cases import CASES, Case
from support.helpers import content
from support.replacing import array, built, step

ids: Any = {"ids": lambda case: case.id}


# State by row --------------------------------------------------------------------------------------------------------

ROWS: dict[str, tuple[Any, list[int]]] = {
    "pruned": ([0, 2, 5], [0, 2, 5]), "mask": (np.array([True, False, True, False, False, True]), [0, 2, 5]),
    "grown": ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, -1, -1]),
    "cloned": (np.array([3, 3, -1, 0], np.int8), [3, 3, -1, 0]),
    "none": ([], [-1, -1]), "emptied": ([], []), "again": (range(6), [0, 1, 2, 3, 4, 5])}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("case", [case for case in CASES if not case.optimizer.mixes_rows], **ids)
def test_rows_take_their_state_with_them(case: Case, row: str) -> None:
    rows, expected = ROWS[row]
    opt, new = built(case), array(7, len(ROWS[row][1]), 3)
    before = {key: entry.copy() for key, entry in opt.state["x"].items()}
    counts = {key: opt.state["x"][key] for key in opt.scalars if key in before}
    made = opt.replace("x", new, rows)
    assert made.data is new
    assert opt.param_groups[0]["params"] == (made, opt.state.find("o"))
    assert list(opt.state["x"]) == list(before)
    fresh = case.optimizer({"x": array(0, 6, 3), "o": array(1, 6, 2)}, **case.options)
    fresh.step(grads={"x": np.zeros((6, 3), np.float32), "o": None}) if case.optimizer is not ol.ASGD else None
    for key, entry in opt.state["x"].items():
        if key in opt.scalars:
            assert entry is counts[key]
        elif key == "col_var" or (key == "exp_avg_sq_mean" and case.options.get("block")):
            assert same_bits(entry, before[key])
        else:
            assert len(entry) == len(expected)
            initial = case.options.get("initial_accumulator_value", 0.0)
            if case.optimizer is ol.Rprop and key == "step_size":
                initial = case.options.get("lr", 0.01)
            for at, taken in enumerate(expected):
                if taken >= 0:
                    assert same_bits(entry[at], before[key][taken])
                elif case.optimizer is not ol.ASGD:
                    assert (entry[at] == np.float32(initial)).all(), key
    step(opt, 9)                                         # and on with it: as one that has begun with this state
    assert_same(opt, resumed(case, opt, new, rows))


def resumed(case: Case, stepped: ol.Optimizer, new: np.ndarray, rows: Any) -> ol.Optimizer:
    """The same by way of a state dict, loaded by an optimizer of arrays of the new shapes."""
    opt, values_ = built(case), array(7, *new.shape)
    opt.replace("x", values_, rows)
    other = case.optimizer({"x": values_.copy(), "o": opt._parameters()[1].data.copy()}, **case.options)
    other.load_state_dict(opt.state_dict())
    step(other, 9)
    return other


@pytest.mark.parametrize("case", CASES[::3], **ids)
def test_rows_in_place_give_the_state_another_order(case: Case) -> None:
    if not case.elementwise:
        return
    order = [5, 0, 4, 1, 3, 2]
    opt, plain = built(case), built(case)
    x = opt._parameters()[0].data
    x[...] = x[order]
    assert opt.replace(x, x, rows=order) is opt._parameters()[0]
    g = array(5, 6, 3)
    opt.step(grads={"x": g[order], "o": g[:, :2]})
    plain.step(grads={"x": g, "o": g[:, :2]})
    assert same_bits(x, plain._parameters()[0].data[order])
    assert content(opt.state["o"].get("step")) == content(plain.state["o"].get("step"))


def test_factors_of_stacks_go_by_their_first_axis() -> None:
    opt = ol.Adafactor({"W": array(0, 4, 3, 2)})
    opt.step(grads={"W": array(1, 4, 3, 2)})
    row, col = opt.state["W"]["row_var"].copy(), opt.state["W"]["col_var"].copy()
    opt.replace("W", array(2, 3, 3, 2), rows=[3, -1, 0])
    assert same_bits(opt.state["W"]["row_var"][[0, 2]], row[[3, 0]])
    assert same_bits(opt.state["W"]["col_var"][[0, 2]], col[[3, 0]])
    assert (opt.state["W"]["row_var"][1] == 0).all()
    opt.step(grads={"W": array(3, 3, 3, 2)})


def test_an_option_that_was_switched_off_keeps_its_state() -> None:
    opt = ol.Adam({"x": array(0, 4, 2)}, amsgrad=True)
    opt.step(grads={"x": array(1, 4, 2)})
    kept = opt.state["x"]["max_exp_avg_sq"].copy()
    opt.param_groups[0]["amsgrad"] = False
    opt.replace("x", array(2, 3, 2), rows=[1, -1, 3])
    assert same_bits(opt.state["x"]["max_exp_avg_sq"], np.stack([kept[1], 0 * kept[0], kept[3]]))
    opt.step(grads={"x": array(3, 3, 2)})


# Without rows --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("case", CASES[::2], **ids)
def test_the_same_shape_keeps_its_state_in_any_layout(case: Case, order: Any) -> None:
    opt, plain = built(case), built(case)
    opt.replace(opt._parameters()[0], np.array(plain._parameters()[0].data, order=order))
    step(opt, 5)
    step(plain, 5)
    if case.elementwise or order == "C":
        assert_same(opt, plain)
    for key, entry in opt.state["x"].items():
        if entry.shape == (6, 3) and key not in opt.line_states:
            assert entry.flags.fnc == (order == "F"), key


@pytest.mark.parametrize("case", [case for case in CASES if case.alone][::3], **ids)
def test_another_shape_begins_anew(case: Case) -> None:
    opt, new = built(case), array(3, 4, 5)
    opt.replace("x", new)
    assert opt.state["x"] == {}
    assert opt.state["o"] or not built(case).state["o"]
    alone = case.optimizer({"x": array(3, 4, 5)}, **case.options)
    g = array(4, 4, 5)
    opt.step(grads={"x": g, "o": None})
    alone.step(grads={"x": g})
    assert same_bits(new, alone._parameters()[0].data)


def test_views_and_parameters_may_take_a_place() -> None:
    table = np.ones((5, 4))
    opt = ol.Adam({"x": table[:, :2], "o": table[:, 2:]})
    opt.step(grads={"x": np.ones((5, 2)), "o": np.ones((5, 2))})
    p = ol.Parameter(table[::2, :2], "another name")         # of the very memory of the old one
    assert opt.replace("x", p, rows=[0, 2, 4]) is p
    opt.step(grads={"x": np.ones((3, 2)), "o": None})
    assert opt.state["x"]["step"] == 2
    assert opt.state[p] is opt.state["x"]
    np.testing.assert_allclose(table, [[1 - 2e-3 if row % 2 == 0 and column < 2 else 1 - 1e-3 for column in range(4)]
                                       for row in range(5)], rtol=1e-6)
