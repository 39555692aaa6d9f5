"""Hooks: torch's order, what they may change, and that a step runs them once."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import OPTIMIZERS
from support.helpers import PlainMomentum


def optimizer(cls: type[ol.Optimizer] = ol.SGD, shape: tuple[int, ...] = (3,)) -> ol.Optimizer:
    p = ol.Parameter(np.ones(shape), name="p")
    p.grad = np.ones(shape)
    return cls({"p": p})


class Twice(ol.SGD):
    """A user's own class, whose step calls its parent's."""

    def step(self, closure: Any = None, *, grads: Any = None) -> Any:
        super().step(closure, grads=grads)
        return super().step()


@pytest.mark.parametrize("cls", [*OPTIMIZERS, Twice, PlainMomentum])
def test_the_order_around_a_step_is_torchs(cls: type[ol.Optimizer]) -> None:
    opt = optimizer(cls, (3, 1))
    for _ in range(6):                           # some move nothing in their first steps
        opt.step()
    seen: list[tuple[str, bool]] = []
    start = opt._parameters()[0].data.copy()

    def note(name: str) -> Any:
        return lambda *given: seen.append((name, bool((opt._parameters()[0].data != start).any())))

    with (
        ol.register_optimizer_step_pre_hook(note("global pre")),
        ol.register_optimizer_step_post_hook(note("global post")),
        opt.register_step_post_hook(note("post")),
        opt.register_step_pre_hook(note("pre")),
        opt.register_step_pre_hook(note("second pre")),
    ):
        opt.step()
    assert seen == [("global pre", False), ("pre", False), ("second pre", False), ("post", True), ("global post", True)]
    opt.step()
    assert len(seen) == 5
    assert opt.steps_taken == 8


def test_a_hook_sees_torchs_arguments_and_may_replace_them() -> None:
    opt = optimizer()
    seen = []

    def double(this: ol.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert this is opt
        assert args[0] is opt
        return args, {**kwargs, "grads": {"p": 2 * kwargs["grads"]["p"]}}

    opt.register_step_pre_hook(double)
    opt.register_step_post_hook(lambda this, args, kwargs: seen.append(kwargs["grads"]["p"][0]))
    opt.step(grads={"p": np.ones(3)})
    assert seen == [2.0]
    np.testing.assert_array_equal(opt._parameters()[0].data, 1 - 1e-3 * 2.0)


def test_a_hook_that_returns_nonsense_stops_the_step() -> None:
    opt = optimizer()
    opt.register_step_pre_hook(lambda *given: 3)
    with pytest.raises(TypeError, match=r"must return None or \(args, kwargs\), got 3"):
        opt.step()
    assert opt.steps_taken == 0
    np.testing.assert_array_equal(opt._parameters()[0].data, 1.0)
    with pytest.raises(TypeError, match="a hook must be callable, got 3"):
        opt.register_step_pre_hook(3)    # type: ignore[arg-type]


def test_after_an_error_in_a_step_the_next_runs_its_hooks() -> None:
    opt, seen = optimizer(), []
    opt.register_step_post_hook(lambda *given: seen.append(1))
    with pytest.raises(ZeroDivisionError):
        opt.step(lambda: 1 / 0)
    assert not seen
    opt.step()
    assert seen == [1]


def test_a_hook_may_remove_itself() -> None:
    opt, seen = optimizer(), []

    def once(*given: Any) -> None:
        seen.append(1)
        handle.remove()

    handle = opt.register_step_pre_hook(once)
    opt.register_step_pre_hook(lambda *given: seen.append(2))
    opt.step()
    opt.step()
    handle.remove()      # a second time does nothing
    assert seen == [1, 2, 2]


def test_hooks_around_saving() -> None:
    opt, seen = optimizer(), []
    opt.register_state_dict_pre_hook(lambda this: seen.append("pre"))
    opt.register_state_dict_pre_hook(lambda this: seen.append("first"), prepend=True)
    opt.register_state_dict_post_hook(lambda this, saved: {**saved, "note": "b" + saved["note"]})
    opt.register_state_dict_post_hook(lambda this, saved: saved.update(note="a"), prepend=True)
    assert opt.state_dict()["note"] == "ba"
    assert seen == ["first", "pre"]


def test_hooks_around_loading() -> None:
    opt, seen = optimizer(), []
    saved = opt.state_dict()
    saved["param_groups"][0]["lr"] = 7.0

    def pre(this: ol.Optimizer, state_dict: dict[str, Any]) -> None:
        seen.append("pre")
        state_dict["param_groups"] = [{**group, "lr": group["lr"] + 1} for group in state_dict["param_groups"]]

    opt.register_load_state_dict_pre_hook(pre)
    opt.register_load_state_dict_pre_hook(lambda this, state_dict: seen.append("first"), prepend=True)
    opt.register_load_state_dict_post_hook(lambda this: seen.append(this.param_groups[0]["lr"]))
    opt.load_state_dict(saved)
    assert seen == ["first", "pre", 8.0]
    assert saved["param_groups"][0]["lr"] == 7.0     # the hook had a copy


def test_copies_and_pickles_have_no_hooks() -> None:
    opt, seen = optimizer(), []
    opt.register_step_pre_hook(lambda *given: seen.append(1))
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        other.step()
        assert other.steps_taken == 1
    assert not seen
