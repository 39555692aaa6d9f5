"""What a step takes and returns: closures, gradients in every form, parameters that sit out, counts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import (
    content,
    gradient,
    model,
    ones,
    pair,
    parameters,
    snapshot,
    train,
    values,
    zeros,
)

# Closures and gradients ----------------------------------------------------------------------------------------------

def set_grads(W: ol.Parameter, b: ol.Parameter) -> float:
    W.grad, b.grad = ones(), 2 * ones()
    return 0.25


CLOSURES: dict[str, Callable[[ol.Parameter, ol.Parameter], Any]] = {
    "loss": set_grads,
    "loss and list": lambda W, b: (0.25, [ones(), 2 * ones()]),
    "loss and tuple": lambda W, b: (0.25, (ones(), 2 * ones())),
    "loss and names": lambda W, b: (0.25, {"b": 2 * ones(), "W": ones()}),
    "loss and None": lambda W, b: (set_grads(W, b), None),
}


@pytest.mark.parametrize("form", CLOSURES)
def test_a_closure_gives_the_loss_and_perhaps_the_gradients(form: str) -> None:
    W, b, optimizer = pair()
    calls = []

    def closure() -> Any:
        calls.append(1)
        return CLOSURES[form](W, b)

    assert optimizer.step(closure) == 0.25
    assert len(calls) == 1
    assert (W.tolist(), b.tolist()) == ([-1, -1], [-2, -2])


@pytest.mark.parametrize("closure", [{"W": ones()}, [ones(), ones()], ones(), 0.5],
                         ids=["dict", "list", "array", "number"])
def test_what_is_no_closure_is_refused_with_the_cure(closure: Any) -> None:
    W, _, optimizer = pair()
    W.grad = ones()
    before = snapshot(optimizer)
    with pytest.raises(TypeError, match=r"closure.*grads="):
        optimizer.step(closure)
    assert snapshot(optimizer) == before


def test_a_closure_that_returns_something_else_is_refused() -> None:
    W, _, optimizer = pair()
    W.grad = ones()
    before = snapshot(optimizer)
    with pytest.raises((TypeError, ValueError), match="closure"):
        optimizer.step(lambda: (0.5, [ones(), ones()], "aux"))
    assert snapshot(optimizer) == before


def test_a_closure_that_fails_leaves_everything() -> None:
    W, _, optimizer = pair()
    W.grad = ones()
    before = snapshot(optimizer)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert snapshot(optimizer) == before


def test_given_gradients_replace_all_others() -> None:
    W, b, optimizer = pair()
    W.grad, b.grad = 5 * ones(), 5 * ones()
    given = ones()
    assert optimizer.step(grads={"W": given, "b": None}) is None
    assert W.grad is given
    assert b.grad is None
    assert (W.tolist(), b.tolist()) == ([-1, -1], [0, 0])


@pytest.mark.parametrize(("params", "grads", "expected"), [
    (lambda a, b: [a, b], lambda: [None, ones()], [0, -1]),
    (lambda a, b: [[a], [b]], lambda: [None, [ones()]], [0, -1]),
    (lambda a, b: {"net": [a], "head": {"b": b}}, lambda: {"net": None, "head": {"b": ones()}}, [0, -1]),
    (lambda a, b: {"net": {"a": a, "b": b}}, lambda: {"net.a": ones(), "net.b": None}, [-1, 0]),
    (lambda a, b: [{"params": [a]}, {"params": [b]}], lambda: [[ones()], None], [-1, 0]),
    (lambda a, b: [{"params": {"a": a}}, {"params": {"b": b}}], lambda: {"b": ones(), "a": None}, [0, -1]),
    (lambda a, b: [{"params": a}, {"params": b}], lambda: [ones(), ones()], [-1, -1])])
def test_none_skips_a_parameter_or_a_branch(params: Any, grads: Any, expected: list[int]) -> None:
    a, b = zeros(), zeros()
    ol.SGD(params(a, b), lr=1).step(grads=grads())
    assert [a.tolist(), b.tolist()] == [[value] * 2 for value in expected]


BY_NAME, BY_NESTING = (lambda a, b: {"W": a, "b": b}), (lambda a, b: [a, [b]])


@pytest.mark.parametrize(("params", "grads", "error", "message"), [
    (BY_NAME, {"W": ones()}, ValueError, r"`grads` lacks \['b'\]; give None to skip a parameter"),
    (BY_NAME, {"W": ones(), "b": ones(), "c": ones()}, ValueError, r"unknown names \['c'\]; the parameters are \['W'"),
    (BY_NAME, {"w": ones(), "b": ones()}, ValueError, r"unknown names \['w'\]"),
    (BY_NAME, {}, ValueError, r"lacks \['W', 'b'\]"),
    (BY_NAME, [ones()], ValueError, "`grads` must have 2 items as the parameters do, got 1"),
    (BY_NAME, ones(), ValueError, "nested as the parameters are, got ndarray for 2 parameters"),
    (BY_NAME, 1.0, ValueError, "nested as the parameters are, got float"),
    (BY_NAME, {"W": ones(), "b": ones().astype(float)}, TypeError, "gradient of 'b' is float64"),
    (BY_NAME, {"W": ones(), "b": np.ones(3, np.float32)}, ValueError, r"gradient of 'b' has shape \(3,\)"),
    (BY_NAME, {"W": ones(), "b": [1.0, 1.0]}, TypeError, "gradient of 'b' must be a NumPy array, got list"),
    (BY_NESTING, [ones(), ones()], ValueError, "`grads` at '1' must be nested as the parameters are, got ndarray"),
    (BY_NESTING, [ones(), [ones(), ones()]], ValueError, "`grads` at '1' must have 1 items"),
    (BY_NESTING, [ones(), [ones()], ones()], ValueError, "`grads` must have 2 items as the parameters do, got 3"),
    (BY_NESTING, [ones(), {"b": ones()}], ValueError, r"`grads` at '1' has unknown names \['b'\]"),
    (BY_NESTING, {"0": ones()}, ValueError, r"lacks \['1")])
def test_gradients_that_do_not_fit_are_refused_before_any_is_assigned(params: Any, grads: Any, error: Any,
                                                                       message: str) -> None:
    optimizer = ol.SGD(params(zeros(), zeros()), lr=1, momentum=0.5)
    for p in parameters(optimizer):
        p.grad = ones()
    optimizer.step()
    before = snapshot(optimizer)
    with pytest.raises(error, match=message):
        optimizer.step(grads=grads)
    with pytest.raises(error, match=message):
        optimizer.step(lambda: (0.5, grads))
    assert snapshot(optimizer) == before


def test_a_gradient_changed_in_place_counts_as_it_is() -> None:
    """Persistent buffers: plans keep addresses, and copies of strided gradients are made anew in every step."""
    for g in (np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32).T, np.zeros((2, 6), np.float32)[:, ::2]):
        W = ol.Parameter(np.zeros((2, 3), np.float32))
        optimizer = ol.SGD([W], lr=1)
        W.grad = g
        for value in (1, 2, 3):
            g[...] = value
            optimizer.step()
        assert (W.data == -6).all()


# Parameters that sit out ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("build", [lambda params: ol.Adam(params, amsgrad=True), lambda params: ol.AdamW(params, 0.1),
                                   lambda params: ol.SGD(params, 0.1, momentum=0.9, dampening=0.5)])
def test_a_parameter_without_gradient_stands_still_and_counts_for_itself(build: Any, dtype: Any) -> None:
    """DeepSpeed#8496, #7819: one step counter for all went wrong where some gradients were None."""
    together = train(build(model(dtype)), range(9))
    arrays = model(dtype)
    alone = [build({name: array}) for name, array in arrays.items()]
    for step in range(9):
        for index, optimizer in enumerate(alone):
            [p] = parameters(optimizer)
            if (step + index) % 4:
                optimizer.step(grads=[gradient(step, index, p)])
    assert values(together) == [value for optimizer in alone for value in values(optimizer)]


@pytest.mark.parametrize("at", [255, 256, 2047, 2048, 2**24 - 1, 2**24, 2**31 - 1, 2**40, 2**53])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_counter_never_freezes(dtype: Any, at: int) -> None:
    """pytorch/ao PR#4915, DeepSpeed PR#8496: counters in bfloat16 or float16 stuck at 256 or 2048."""
    optimizer = ol.Adam({"W": np.zeros(2, dtype)})
    optimizer.step(grads={"W": np.ones(2, dtype)})
    optimizer.state["W"]["step"][...] = at
    optimizer.step()
    assert optimizer.state["W"]["step"] == at + 1


def test_dampening_does_not_touch_the_first_step() -> None:
    """pytorch PR#152833: as in torch, the first buffer is the gradient itself, also for a parameter that joins late."""
    optimizer = ol.SGD({"W": zeros(), "b": zeros()}, lr=1, momentum=0.5, dampening=0.25)
    optimizer.step(grads={"W": ones(), "b": None})
    optimizer.step(grads={"W": ones(), "b": ones()})
    assert optimizer.state["W"]["momentum_buffer"].tolist() == [1.25, 1.25]
    assert optimizer.state["b"]["momentum_buffer"].tolist() == [1, 1]
    optimizer.step(grads={"W": None, "b": 2 * ones()})
    assert optimizer.state["b"]["momentum_buffer"].tolist() == [2, 2]
    assert "dampening doesn't touch the first step" in " ".join((ol.SGD.__doc__ or "").split())


def test_a_step_without_gradients_warns_once_where_it_was_called() -> None:
    W, b, optimizer = pair()
    with pytest.warns(UserWarning, match="no parameter has a gradient; assign p.grad, or pass grads=") as caught:
        optimizer.step()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        optimizer.step(grads=[None, None])
    assert (W.tolist(), b.tolist(), len(optimizer.state)) == ([0, 0], [0, 0], 0)
    W.grad = ones()
    optimizer.step()
    assert W.tolist() == [-1, -1]


def test_float_types_mix_in_one_optimizer() -> None:
    arrays = {"a": np.zeros(3, np.float32), "b": np.zeros(3, np.float64)}
    optimizer = ol.Adam(arrays, lr=0.5)
    for _ in range(3):
        optimizer.step(grads={"a": np.ones(3, np.float32), "b": np.ones(3)})
    for name, array in arrays.items():
        alone = {name: np.zeros(3, array.dtype)}
        one = ol.Adam(alone, lr=0.5)
        for _ in range(3):
            one.step(grads={name: np.ones(3, array.dtype)})
        assert content(array) == content(alone[name])


def test_a_parameter_may_belong_to_two_optimizers() -> None:
    shared = ol.Parameter(zeros())
    one, other = ol.SGD([shared], lr=1), ol.Adam([shared], lr=1)
    shared.grad = ones()
    one.step()
    other.step()
    assert np.allclose(shared, -2)


# steps_taken ---------------------------------------------------------------------------------------------------------

def test_steps_are_counted_where_they_succeed() -> None:
    optimizer = pair()[2]
    optimizer.step(grads=[ones(), None])
    optimizer.step(lambda: (1.0, [ones(), ones()]))
    assert optimizer.steps_taken == 2
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    with pytest.raises(ValueError, match="grads"):
        optimizer.step(grads=[ones()])
    assert optimizer.steps_taken == 2
    assert "steps_taken" not in optimizer.state_dict()
    fresh = pair()[2]
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.steps_taken == 0


def test_a_step_that_calls_its_parents_counts_once() -> None:
    class Twice(ol.SGD):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            return super().step(*args, **kwargs)

    optimizer = Twice([zeros()], lr=1)
    optimizer.step(grads=[ones()])
    assert optimizer.steps_taken == 1
