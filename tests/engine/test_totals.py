"""Totals: what a pass keeps of a whole group, in every copy of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimlite.engine.method import Group
from support.helpers import snapshot, values
from support.passes import COPIES, give, grads, made, totals
from support.probes import OfGroup


def test_totals_begin_with_their_group() -> None:
    optimizer = made(OfGroup)
    assert totals(optimizer) == [0.0, 0.0]
    optimizer.add_param_group({"params": [np.ones(3)], "total": 2})
    shared = {"params": [np.ones(3)], "total": optimizer.param_groups[2]["total"]}
    optimizer.add_param_group(shared)            # not the array that belongs to another group
    give(optimizer, [*grads(), np.ones(3), None]).step()
    assert totals(optimizer)[2:] == [5.0, 2.0]
    assert "total: 5.0" in repr(optimizer)


@pytest.mark.parametrize("row", COPIES)
def test_totals_are_in_every_copy(row: str, tmp_path: Path) -> None:
    optimizer = give(made(OfGroup), grads())
    optimizer.step()
    other = give(COPIES[row](optimizer, tmp_path), grads())
    assert totals(other) == totals(optimizer) != [0.0, 0.0]
    before = totals(optimizer)
    other.step()
    assert totals(optimizer) == before           # each has its own
    give(optimizer, grads()).step()
    assert totals(other) == totals(optimizer)
    assert values(other) == values(optimizer)
    optimizer.load_state_dict(made(OfGroup).state_dict())        # back to the start, in the live arrays
    assert totals(optimizer) == [0.0, 0.0]


def test_totals_can_be_set() -> None:
    optimizer = give(made(OfGroup), grads())
    optimizer.step()
    first = totals(optimizer)[0]
    for value in (1.0, np.float32(1.0), np.array([1]), np.array(1.0)):
        optimizer.param_groups[0]["total"] = value
        optimizer.step()
        assert math.isclose(totals(optimizer)[0], 1.0 + first, rel_tol=1e-12)
    optimizer.param_groups[0]["total"][...] = math.nan           # as after gradients that were
    optimizer.param_groups[0]["lr"] = None
    optimizer.step()
    assert math.isnan(totals(optimizer)[0])


@pytest.mark.parametrize(("value", "error"), [("many", TypeError), ([1.0], TypeError), (np.ones(2), TypeError),
                                              (math.inf, ValueError), (None, TypeError)])
def test_what_is_no_total_is_refused(value: Any, error: type[Exception]) -> None:
    optimizer = give(made(OfGroup), grads())
    optimizer.step()
    optimizer.param_groups[1]["total"] = value
    before = snapshot(optimizer)
    with pytest.raises(error, match="`total` must be"):
        optimizer.step()
    assert snapshot(optimizer) == before
    with pytest.raises(error, match="`total` must be"):
        optimizer.add_param_group({"params": [np.ones(3)], "total": value})


def test_a_state_dict_without_totals_is_refused() -> None:
    optimizer = give(made(OfGroup), grads())
    optimizer.step()
    state_dict = made(OfGroup).state_dict()
    del state_dict["param_groups"][1]["total"]
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="missing: `total` of group 1"):
        optimizer.load_state_dict(state_dict)
    assert snapshot(optimizer) == before
    optimizer.load_state_dict(state_dict, strict=False)
    assert totals(optimizer)[0] == 0.0 != totals(optimizer)[1]


def test_more_totals_than_there_is_room_for_are_refused() -> None:
    class Many(OfGroup):
        def totals(self, group: Group) -> dict[str, float]:
            return {f"total {k}": 0.0 for k in range(9)}

    optimizer = give(made(Many), grads())
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="a group has at most 8 totals, got 9"):
        optimizer.step()
    assert snapshot(optimizer) == before


def test_a_total_may_be_called_nearly_as_a_hyper_parameter_is() -> None:
    class Near(OfGroup):
        def totals(self, group: Group) -> dict[str, float]:
            return {"leastt": 0.0}

    optimizer = give(made(Near), grads())
    optimizer.step()
    optimizer.add_param_group({"params": [np.ones(3)], "leastt": 1.0})
    optimizer.step()
