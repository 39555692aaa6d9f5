"""Lookahead: its formula in any memory, what counts as a step, and nothing that is kept is stale."""

from __future__ import annotations

import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.wrappers import assert_same, lookahead, same_bits, values, walk


@pytest.mark.parametrize("kind", [ol.SGD, ol.AdamW, ol.ADOPT, ol.LAMB, ol.Adafactor])
def test_slow_weights_are_those_of_the_formula(kind: Any) -> None:
    ours, plain = values(0), values(0)
    opt, other = lookahead(ours, 3, 0.7, kind), kind(plain, lr=0.05)
    slow = {key: p.copy() for key, p in plain.items()}
    for t in range(8):
        grads = values(t + 1)
        opt.step(grads=grads)
        other.step(grads=grads)
        if t % 3 == 2:
            for key, p in plain.items():
                slow[key] = p + (1 - 0.7) * (slow[key] - p)
                p[...] = slow[key]
        assert_same(ours, plain)
        assert opt.param_groups[0]["lookahead_step"] == (t + 1) % 3
    assert_same({key: opt.state[key]["slow"] for key in ours}, slow)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lookahead_has_the_bits_of_the_formula_in_any_memory(dtype: Any, level: str, threads: None) -> None:
    """Of strided and F-ordered parameters, too."""
    base = {key: np.ones((40, 60), dtype) for key in "xyz"}
    forms = {"x": base["x"], "y": base["y"][:, ::2], "z": base["z"].T}
    opt = lookahead(forms, 2, 0.3, ol.SGD)
    rng, back, rate = np.random.default_rng(2), dtype(1 - 0.3), dtype(0.05)
    expected = {key: p.copy() for key, p in forms.items()}
    slow = {key: p.copy() for key, p in forms.items()}
    for t in range(4):
        grads = {key: rng.standard_normal(p.shape).astype(dtype) for key, p in forms.items()}
        opt.step(grads=grads)
        for key in forms:
            expected[key] = expected[key] - rate * grads[key]
            if t % 2:
                slow[key] = expected[key] + back * (slow[key] - expected[key])
                expected[key] = slow[key].copy()
    assert_same(forms, expected)


def test_the_twin_steps_and_looks_ahead() -> None:
    ours, twin = values(0, np.float32), values(0, np.float32)
    opt, other = lookahead(ours, 2), lookahead(twin, 2)
    for t in range(5):
        grads = values(t, np.float32)
        opt.step(grads=grads)
        for key, g in grads.items():
            other.state.find(key).grad = g
        reference.step(other.base)
    assert_same(ours, twin)
    assert_same({key: opt.state[key]["slow"] for key in ours}, {key: other.state[key]["slow"] for key in ours})


def test_attributes_are_the_optimizers_but_for_a_wrappers_own() -> None:
    opt = lookahead(values(0), kind=ol.RMSprop)              # which has an alpha of its own
    assert (opt.alpha, opt.param_groups[0]["alpha"]) == (0.5, 0.99)
    opt.alpha = 0.25
    opt.skipped_steps = 3
    assert (opt.alpha, opt.optimizer.follower.alpha, opt.optimizer.skipped_steps) == (0.25, 0.25, 3)
    with pytest.raises(ValueError, match="`k` must be an integer >= 1, got 0"):
        opt.k = 0
    assert opt.k == opt.optimizer.follower.k == 3
    walk(opt, values(0), 0, 1)
    opt.state = {}
    assert not opt.optimizer.state


def test_stepping_the_optimizer_itself_looks_ahead() -> None:
    ours, plain = values(0), values(0)
    opt, other = lookahead(ours), lookahead(plain)
    walk(opt.optimizer, ours, 0, 7)
    walk(other, plain, 0, 7)
    assert_same(ours, plain)


def test_parameters_without_a_gradient_stay() -> None:
    params = values(0)
    opt = lookahead(params, 2)
    before = params["b"].copy()
    for t in range(3):
        opt.step(grads={"a": values(t)["a"], "b": None, "c": values(t)["c"]})
    assert same_bits(params["b"], before)
    assert "slow" not in opt.state["b"]


def test_a_skipped_step_doesnt_count() -> None:
    params = values(0)
    opt = lookahead(params, 2)
    opt.step(grads=values(1))
    opt.step(grads={key: np.full_like(p, np.nan) for key, p in params.items()}, skip_nonfinite=True)
    assert opt.param_groups[0]["lookahead_step"] == 1
    assert opt.skipped_steps == 1


@pytest.mark.filterwarnings("ignore:.* changed nothing")
def test_what_is_kept_from_step_to_step_is_never_stale() -> None:
    """Whatever happens between steps, one that forgets before each has the same bits."""
    rng = np.random.default_rng(0)

    def fresh(name: str) -> np.ndarray:
        return np.full((3, 8), float(ord(name)))[:, ::1 + (ord(name) % 2)]           # some are strided

    sides = [ol.Lookahead(ol.Adam({name: fresh(name) for name in "abc"}, lr=0.1), 2) for _ in "12"]
    saved: list[Any] = [None, None]
    happened = []
    for count in range(120):
        names = [sides[0].state.name_of(p) for p in sides[0]._parameters()]
        name = str(rng.choice(names))
        event = str(rng.choice(["step", "step", "replace", "remove", "add", "save", "load", "slow", "pickle", "k"]))
        if event in ("remove", "add") and (len(names) < 3 if event == "remove" else len(names) > 5):
            continue
        happened.append(event)
        present = {each: rng.random() < 0.7 for each in (*names, "d")}
        for side, opt in enumerate(sides):
            if event == "replace":
                opt.replace(name, fresh(name))
            elif event == "remove":
                opt.remove(name)
            elif event == "add":
                opt.add_param_group({"params": {chr(ord("d") + count): fresh("d")}})
            elif event == "save":
                saved[side] = names, opt.state_dict()
            elif event == "load" and saved[side] and saved[side][0] == names:
                opt.load_state_dict(saved[side][1])
            elif event == "slow" and "slow" in opt.state[name]:
                opt.state[name]["slow"] = opt.state[name]["slow"] + 1
            elif event == "pickle":
                opt = sides[side] = pickle.loads(pickle.dumps(opt))
            elif event == "k":
                opt.k = 1 + count % 3
            if side:
                opt.base.follower = type(opt.base.follower)(opt.k, opt.alpha)
            for parameter in opt._parameters():
                each = opt.state.name_of(parameter)
                parameter.grad = np.cos(parameter.data + ord(each)) if present.get(each, True) else None
            opt.step()
        assert_same(*({opt.state.name_of(p): p.data for p in opt._parameters()} for opt in sides))
        assert_same(*({opt.state.name_of(p): entries["slow"] for p, entries in opt.state.items() if "slow" in entries}
                      for opt in sides))
    assert len(set(happened)) == 9


def test_a_parameter_that_was_removed_is_not_kept() -> None:
    params = values(0)
    opt = lookahead(params, 1)
    walk(opt, params, 0, 2)
    gone = weakref.ref(opt.state.find("b"))
    opt.remove("b")
    assert gone() is None
