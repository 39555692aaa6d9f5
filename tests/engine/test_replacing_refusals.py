"""Replacements that are refused or interrupted leave everything as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import Case
from support.helpers import snapshot, values
from support.interrupts import everywhere
from support.replacing import array, built, step

X = np.ones((6, 3))
REFUSED: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "type": (np.ones((6, 3), np.float32), None, TypeError, "the new 'x' must be float64 as the old one, got float32; "
                                                           "use new.astype.* and let the model use that array"),
    "list": ([1.0], None, TypeError, "parameter 'x' must be a NumPy array, got list"),
    "broadcast": (np.broadcast_to(1.0, (6, 3)), None, ValueError, "'x' must have memory of its own"),
    "another's memory": ("o", None, ValueError, "parameter 'o' and the new 'x' overlap in memory; give `new` an array"),
    "another parameter": ("p", None, ValueError, "parameter 'o' and the new 'x' overlap in memory"),
    "too many": (np.ones((2, 3)), [0, 1, 2], ValueError, "`rows` must have at most 2 items, one for each row of"),
    "beyond": (np.ones((2, 3)), [0, 6], ValueError, "`rows` must be numbers of rows of 'x', 0 to 5, or -1 .*, got 6"),
    "before": (np.ones((2, 3)), [-2, 0], ValueError, "0 to 5, or -1 for a new row, got -2"),
    "floats": (np.ones((2, 3)), [0.0, 1.0], TypeError, "`rows` must be a list of the old rows' numbers, or a mask"),
    "two axes": (np.ones((2, 3)), [[0], [1]], TypeError, "`rows` must be a list"),
    "mask": (np.ones((2, 3)), [True, False], ValueError, r"as a mask must have the shape \(6,\) for 'x', got \(2,\)"),
    "other rows": (np.ones((2, 4)), [0, 1], ValueError, r"differ in their number of rows alone, and 'x' of shape "
                                                        r"\(6, 3\) was to become \(2, 4\); leave `rows` out"),
    "no axes": (np.ones(()), [0], ValueError, "differ in their number of rows alone"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_a_refusal_leaves_everything(row: str) -> None:
    new, rows, error, message = REFUSED[row]
    o = ol.Parameter(np.ones((6, 3)), "o")
    opt = ol.Adam({"x": X.copy(), "o": o})
    step64 = {"x": np.ones((6, 3)), "o": np.ones((6, 3))}
    opt.step(grads=step64)
    given = {"o": o.data[2:], "p": o}.get(new, new) if isinstance(new, str) else new
    before = snapshot(opt)
    with pytest.raises(error, match=message):
        opt.replace("x", given, rows)
    assert snapshot(opt) == before
    opt.step(grads=step64)


def test_what_is_not_there() -> None:
    opt = ol.Muon({"x": np.ones((2, 2))})
    for act in (opt.remove, lambda key: opt.replace(key, np.ones((2, 2)))):
        for key in ("y", np.ones((2, 2)), ol.Parameter(np.ones((2, 2)))):
            with pytest.raises(KeyError, match="the optimizer has no"):
                act(key)
    with pytest.raises(ValueError, match="'x' must have at least two axes for Muon"):
        opt.replace("x", np.ones(3))
    group = opt.param_groups[0]
    [left], group["params"] = group["params"], ()
    with pytest.raises(ValueError, match="'x' is in no group any more; add the new array with add_param_group"):
        opt.replace(left, np.ones((2, 2)))
    opt.remove(left)
    with pytest.raises(KeyError):
        opt.state[left]


# Interrupts ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("act", [lambda opt: opt.replace("x", array(1, 3, 3), rows=[0, 2, 4]),
                                 lambda opt: opt.remove("x")], ids=["replace", "remove"])
def test_an_interrupt_leaves_an_optimizer_that_goes_on(act: Callable[[ol.Optimizer], Any]) -> None:
    def check(opt: ol.Optimizer) -> None:
        step(opt, 5)
        assert len(opt._parameters()) in (1, 2)
        assert all(opt.state[p]["step"] == 4 for p in opt._parameters())
        opt.load_state_dict(opt.state_dict())
        if any(p.shape == (6, 3) for p in opt._parameters()):
            act(opt)                                         # not done: again
        step(opt, 6)
        assert values(opt)

    assert everywhere(lambda: built(Case(ol.Adam, {})), act, check) > 20
