"""State that a user changes between steps is noticed, and refused where no kernel can update it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import assert_same
from support.cases import CASES, Case, per_case
from support.helpers import gradient, model, ones, parameters, snapshot, train, values
from support.state_dicts import adam

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


def test_a_count_before_the_first_changes_nothing() -> None:
    opt = ol.Adam([w := np.ones(2)])
    opt.step(grads=[np.ones(2)])
    opt.state[w]["step"][...] = -1
    before, mean = w.copy(), opt.state[w]["exp_avg"].copy()
    with pytest.raises(ZeroDivisionError):
        opt.step(grads=[np.ones(2)])
    assert (w == before).all()
    assert (opt.state[w]["exp_avg"] == mean).all()
