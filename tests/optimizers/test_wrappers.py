"""Lookahead and SAM, and one around the other: everything else works through them."""

from __future__ import annotations

import copy
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import refusals
from support.interrupts import everywhere
from support.wrappers import assert_same, bowl, lookahead, sam, same_bits, values, walk

BOTH = pytest.mark.parametrize("make", [lookahead, sam, lambda params, **o: ol.SAM(lookahead(params, **o), 0.3),
                                        lambda params, **o: ol.Lookahead(sam(params, **o), 2)],
                               ids=["Lookahead", "SAM", "SAM of Lookahead", "Lookahead of SAM"])


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


def test_an_optimizer_goes_away_with_its_wrapper() -> None:
    opt = sam(values(0), kind=ol.SGD)
    opt = ol.Lookahead(opt)
    watch = weakref.ref(opt.base)
    del opt
    assert watch() is None                       # at once: not by the cyclic collector


# What is refused -----------------------------------------------------------------------------------------------------

def nested(opt: Any) -> Any:
    opt.step(lambda: opt.step(lambda: 0.0))


W = np.ones(3)


test_what_is_refused = refusals([
    (lambda: ol.Lookahead([W]), r"^Lookahead needs an optimizer with a compiled rule, got \[array"),
    (lambda: ol.SAM(ol.LBFGS([W])), "^SAM needs an optimizer with a compiled rule, got LBFGS; use one such as SAM"),
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
], (TypeError, ValueError, RuntimeError, AttributeError))


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
