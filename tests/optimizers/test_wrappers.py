"""Lookahead and SAM: other optimizers' steps, with everything else working through them."""

from __future__ import annotations

import copy
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.helpers import label
from support.interrupts import everywhere

Arrays = dict[str, np.ndarray]
SHAPES = {"a": (7, 30), "b": (20_000,), "c": ()}


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


def values(seed: int, dtype: Any = np.float64) -> Arrays:
    rng = np.random.default_rng(seed)
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in SHAPES.items()}


def lookahead(params: Any, k: int = 3, alpha: float = 0.5, kind: Any = ol.AdamW, **options: Any) -> Any:
    return ol.Lookahead(kind(params, **{"lr": 0.05, **options}), k, alpha)


def sam(params: Any, rho: float = 0.5, adaptive: bool = False, kind: Any = ol.AdamW, **options: Any) -> Any:
    return ol.SAM(kind(params, **{"lr": 0.05, **options}), rho, adaptive)


def bowl(params: Arrays, t: int = 0) -> Any:
    """A closure: the gradient depends on where the parameters are."""
    target = values(1000 + t)
    return lambda: (1.0, {key: (p - target[key]).astype(p.dtype) for key, p in params.items()})


def walk(opt: Any, params: Arrays, begin: int, end: int) -> None:
    for t in range(begin, end):
        opt.step(bowl(params, t))


def assert_same(one: Arrays, other: Arrays) -> None:
    for key, array in one.items():
        assert same_bits(array, other[key]), key


BOTH = pytest.mark.parametrize("make", [lookahead, sam, lambda params, **o: ol.SAM(lookahead(params, **o), 0.3),
                                        lambda params, **o: ol.Lookahead(sam(params, **o), 2)],
                               ids=["Lookahead", "SAM", "SAM of Lookahead", "Lookahead of SAM"])


# Formulas ------------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_second_gradient_is_that_of_the_worst_point(adaptive: bool, maximize: bool) -> None:
    ours, plain = values(0), values(0)
    opt, other = sam(ours, 0.5, adaptive, maximize=maximize), ol.AdamW(plain, lr=0.05, maximize=maximize)
    for t in range(4):
        grads = bowl(plain, t)()[1]
        weights = {key: abs(p) if adaptive else np.ones_like(p) for key, p in plain.items()}
        norm = np.sqrt(sum(np.sum((weights[key] * g)**2) for key, g in grads.items()))
        radius = (-0.5 if maximize else 0.5) / norm
        moved = {key: p + radius * weights[key]**2 * grads[key] for key, p in plain.items()}
        other.step(grads=bowl(moved, t)()[1])
        assert opt.step(bowl(ours, t)) == 1.0
        for key, p in ours.items():
            np.testing.assert_allclose(p, plain[key], rtol=1e-11, atol=1e-13)


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


# What works through them ---------------------------------------------------------------------------------------------

@BOTH
def test_a_resumed_run_goes_on_exactly(make: Any, tmp_path: Path) -> None:
    whole, first = values(0), values(0)
    walk(make(whole), whole, 0, 11)
    opt = make(first)
    walk(opt, first, 0, 4)
    ol.save(tmp_path / "run.safetensors", model=first, optimizer=opt)
    saved = opt.state_dict()
    walk(opt, first, 4, 11)
    assert_same(first, whole)
    again = values(9)
    other = make(again)
    ol.restore(tmp_path / "run.safetensors", model=again, optimizer=other)
    walk(other, again, 4, 11)
    assert_same(again, whole)
    late = {key: array.copy() for key, array in values(0).items()}
    third = make(late)
    walk(third, late, 0, 4)
    third.load_state_dict(saved)
    walk(third, late, 4, 11)
    assert_same(late, whole)


@BOTH
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_go_on_by_themselves(make: Any, duplicate: Any) -> None:
    params = values(0)
    opt = make(params)
    walk(opt, params, 0, 4)
    twin = duplicate(opt)
    theirs = {name: twin.state.find(name).data for name in params}
    walk(opt, params, 4, 9)
    walk(twin, theirs, 4, 9)
    assert_same(params, theirs)


@BOTH
@pytest.mark.parametrize("inner", [False, True])
def test_a_schedule_may_be_made_with_either(make: Any, inner: bool) -> None:
    ours, plain = values(0), values(0)
    opt, other = make(ours), make(plain)
    schedule = ol.lr_scheduler.StepLR(opt.optimizer if inner else opt, 2, 0.5)
    for t in range(6):
        opt.step(bowl(ours, t))
        schedule.step()
        other.step(bowl(plain, t))
        other.param_groups[0]["lr"] = 0.05 * 0.5**((t + 1) // 2)
    assert_same(ours, plain)
    assert opt.steps_taken == opt.optimizer.steps_taken == 6


@BOTH
def test_groups_and_hooks_are_the_optimizers(make: Any) -> None:
    params = values(0)
    opt = make({key: params[key] for key in "ab"})
    called: list[str] = []
    opt.register_step_pre_hook(lambda *_: called.append("before"))
    opt.optimizer.register_step_post_hook(lambda *_: called.append("after"))
    walk(opt, {key: params[key] for key in "ab"}, 0, 2)
    opt.add_param_group({"params": {"c": params["c"]}, "lr": 0.5})
    opt.step(lambda: (0.0, [bowl({key: params[key] for key in "ab"})()[1], bowl({"c": params["c"]})()[1]]))
    assert called == ["before", "after"] * 3
    assert opt.param_groups is opt.optimizer.param_groups
    assert [group["lr"] for group in opt.param_groups] == [0.05, 0.5]
    assert opt.state["c"]["step"] == 1
    opt.zero_grad()
    assert all(p.grad is None for group in opt.param_groups for p in group["params"])
    opt.remove("c")
    new = opt.replace("a", np.ones((9, 30)), rows=np.arange(3))
    opt.step(lambda: (0.0, {"a": np.ones((9, 30)), "b": np.ones(20_000)}))
    assert new.data.shape == (9, 30)
    assert (opt.state["a"]["exp_avg"] != 0).all()


def test_an_average_and_schedule_free_swap_through_them() -> None:
    params = values(0)
    opt = lookahead(params, kind=ol.ScheduleFreeAdamW)
    walk(opt, params, 0, 4)
    there = {key: p.copy() for key, p in params.items()}
    with opt.swapped():
        assert any(not same_bits(p, there[key]) for key, p in params.items())
        with pytest.raises(RuntimeError):
            opt.step(bowl(params))
    assert_same(params, there)
    average = ol.Average(params)
    average.update()
    with average.swapped(), pytest.raises(RuntimeError, match="the averages are swapped in"):
        sam(params).step(bowl(params))
    assert_same(params, there)


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


def test_an_optimizer_goes_away_with_its_wrapper() -> None:
    opt = sam(values(0), kind=ol.SGD)
    opt = ol.Lookahead(opt)
    watch = weakref.ref(opt.base)
    del opt
    assert watch() is None                       # at once: not by the cyclic collector


# SAM's closures ------------------------------------------------------------------------------------------------------

class Stop(BaseException):
    pass


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("call", [1, 2])
def test_parameters_are_restored_to_the_bit_when_the_closure_raises(call: int, dtype: Any) -> None:
    params: Arrays = {**values(0, dtype), "strided": np.ones((6, 6), dtype)[:, ::2], "empty": np.ones((0, 3), dtype)}
    params["a"][0, :2] = np.nan, -0.0
    opt = sam(params, 1e30, kind=ol.SGD)
    before = {key: p.copy() for key, p in params.items()}
    calls: list[int] = []

    def closure() -> Any:
        calls.append(1)
        assert all(same_bits(p, before[key]) for key, p in params.items()) is (len(calls) == 1)
        if len(calls) == call:
            raise Stop
        return 1.0, {key: np.ones_like(p) for key, p in params.items()}

    with pytest.raises(Stop):
        opt.step(closure)
    assert len(calls) == call
    assert_same(params, before)
    assert not opt.steps_taken
    opt.step(lambda: (1.0, {key: np.ones_like(p) for key, p in params.items()}))       # and the next one is fine


def test_closures_may_set_gradients_themselves() -> None:
    ours, plain = values(0), values(0)
    opt, other = sam(ours), sam(plain)

    def closure() -> float:
        opt.zero_grad()
        for key, g in bowl(ours)()[1].items():
            opt.state.find(key).grad = g
        return 1.0

    assert opt.step(closure, max_grad_norm=0.1) == 1.0
    other.step(bowl(plain), max_grad_norm=0.1)
    assert_same(ours, plain)
    assert opt.last_grad_norm == other.last_grad_norm


# What is refused -----------------------------------------------------------------------------------------------------

def nested(opt: Any) -> Any:
    opt.step(lambda: opt.step(lambda: 0.0))


W = np.ones(3)


@pytest.mark.parametrize(("act", "message"), [
    (lambda: ol.Lookahead([W]), r"^Lookahead needs an optimizer with a compiled rule, got \[array"),
    (lambda: ol.SAM(ol.LBFGS([W])), "^SAM needs an optimizer with a compiled rule, got LBFGS; use one such as ol.SAM"),
    (lambda: ol.Lookahead(ol.SGD([W]), 0), "^`k` must be an integer >= 1, got 0"),
    (lambda: ol.Lookahead(ol.SGD([W]), 2.5), "^`k` must be an integer >= 1, got 2.5"),  # type: ignore[arg-type]
    (lambda: ol.Lookahead(ol.SGD([W]), alpha=0), "^`alpha` must be > 0 and <= 1, got 0"),
    (lambda: ol.Lookahead(ol.SGD([W]), alpha=1.5), "^`alpha` must be > 0 and <= 1, got 1.5"),
    (lambda: ol.Lookahead(ol.Lookahead(ol.SGD([W]))), "^`optimizer` must be one that doesn't look ahead already; wrap"),
    (lambda: ol.SAM(ol.SGD([W]), -1), "^`rho` must be >= 0, got -1"),
    (lambda: ol.SAM(ol.SGD([W]), float("nan")), "^`rho` must be finite, got nan"),
    (lambda: ol.SAM(ol.SGD([W]), adaptive=1), "^`adaptive` must be True or False, got 1"),  # type: ignore[arg-type]
    (lambda: ol.SAM(ol.SGD([W]), radius=1), "^SAM has no argument `radius`"),  # type: ignore[call-arg]
    (lambda: ol.SAM(ol.SGD([W])).step(), "^SAM.step needs a closure that computes the loss and its gradients, got"),
    (lambda: ol.SAM(ol.SGD([W])).step(lambda: 0.0, grads=[W]), "^SAM.step takes no `grads`, since it evaluates the m"),
    (lambda: nested(ol.SAM(ol.SGD([W.copy()]))), "^SAM.step was called from within its own closure"),
    (lambda: ol.SAM(ol.SGD([np.ones((3, 2))])).step(lambda: (0.0, [ol.SparseGrad([1], np.ones((1, 2)))])),
     "^SAM takes no sparse gradients, got one of '0'; make it dense"),
    (lambda: setattr(ol.SAM(ol.SGD([W])), "lr", 0.5), r"^SGD has no `lr` of its own, each parameter group has one; u"),
    (lambda: ol.Lookahead(ol.SGD([W])).lr, r"^SGD has no `lr` of its own, each parameter group has one"),
    (lambda: ol.SAM(ol.SGD([W])).step(lambda: (0.0, [W]), max_norm=1), r"^SGD.step has no argument `max_norm`"),
    (lambda: ol.create("look-ahead", [W]), r"^`name` must be the name of an optimizer, got 'look-ahead', which wraps"),
], ids=label)
def test_what_is_refused(act: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError, AttributeError), match=message):
        act()


# Interrupts ----------------------------------------------------------------------------------------------------------

def everything(opt: Any) -> list[bytes]:
    [group] = opt.param_groups
    return [array.tobytes() for p in group["params"] for array in (p.data, *opt.state[p].values())] + [
        group["lookahead_step"].tobytes() if "lookahead_step" in group else b""]


@pytest.mark.rest
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("make", [lookahead, sam], ids=["Lookahead", "SAM"])
def test_an_interrupt_finds_all_of_a_step_or_nothing(make: Any, steps: int) -> None:
    def build() -> Any:
        params = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(3)[::-1]}
        opt = make(params, 2) if make is lookahead else make(params)
        closure = lambda: (1.0, {key: p + 1 for key, p in params.items()})      # noqa: E731
        for _ in range(steps):
            opt.step(closure)
        return opt, closure, params

    opt, closure, _ = build()
    outcomes = [everything(opt)]
    opt.step(closure)
    outcomes.append(everything(opt))

    def check(subject: Any) -> None:
        opt, closure, params = subject
        found = everything(opt)
        assert found in outcomes
        opt.step(closure)                        # and it goes on from there
        assert found == outcomes[1] or everything(opt) == outcomes[1]
        assert all(np.isfinite(p).all() for p in params.values())

    assert everywhere(build, lambda subject: subject[0].step(subject[1]), check) > 30
