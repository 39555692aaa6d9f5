"""What a step takes and returns: closures, gradients in every form, skipped parameters, threads, a user's own rule."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import (
    Halting,
    PlainMomentum,
    content,
    gradient,
    model,
    output_of,
    parameters,
    snapshot,
    train,
    values,
)


def zeros() -> np.ndarray:
    return np.zeros(2, np.float32)


def ones() -> np.ndarray:
    return np.ones(2, np.float32)


def pair() -> tuple[ol.Parameter, ol.Parameter, ol.SGD]:
    W, b = ol.Parameter(zeros(), "W"), ol.Parameter(zeros(), "b")
    return W, b, ol.SGD([W, b], lr=1)


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


@pytest.mark.parametrize("at", [255, 2047, 2**24 - 1, 2**24, 2**31 - 1, 2**40])
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
    optimizer = ol.SGD({"W": zeros(), "b": zeros()}, lr=1, momentum=0.5, dampening=0.5)
    optimizer.step(grads={"W": ones(), "b": None})
    optimizer.step(grads={"W": ones(), "b": ones()})
    assert optimizer.state["W"]["momentum_buffer"].tolist() == [1, 1]
    assert optimizer.state["b"]["momentum_buffer"].tolist() == [1, 1]
    optimizer.step(grads={"W": None, "b": 2 * ones()})
    assert optimizer.state["b"]["momentum_buffer"].tolist() == [1.5, 1.5]


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


# A user's own optimizer ----------------------------------------------------------------------------------------------

def test_a_users_own_optimizer_does_what_it_says() -> None:
    W, b = zeros(), zeros()
    optimizer = PlainMomentum([{"params": {"W": W}}, {"params": {"b": b}, "lr": 2}], lr=1, momentum=0.5)
    for p in parameters(optimizer):
        p.grad = ones()
    assert optimizer.step(lambda: 0.5) == 0.5
    assert optimizer.step() is None
    assert (W.tolist(), b.tolist()) == ([-2.5, -2.5], [-5, -5])
    assert optimizer.steps_taken == 2
    assert optimizer.state["W"]["step"].dtype == np.int64
    assert optimizer.state["b"]["average"].tolist() == [1.5, 1.5]
    optimizer.zero_grad()
    assert [p.grad for p in parameters(optimizer)] == [None, None]


def test_a_users_own_optimizer_resumes_from_its_state_dict() -> None:
    straight = train(PlainMomentum(model()), range(8))
    half = train(PlainMomentum(model()), range(4))
    arrays = {name: p.data.copy() for name, p in zip(model(), parameters(half), strict=True)}
    resumed = PlainMomentum(arrays, lr=5)
    resumed.load_state_dict(half.state_dict())
    assert values(train(resumed, range(4, 8))) == values(straight)


def test_a_users_own_optimizer_follows_a_schedule() -> None:
    W = ol.Parameter(zeros())
    optimizer = PlainMomentum([W], lr=1, momentum=0)
    schedule = ol.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    W.grad = ones()
    for expected in (-1, -1.5, -1.75):
        optimizer.step()
        schedule.step()
        assert W.tolist() == [expected] * 2


def test_an_optimizer_without_a_rule_says_so() -> None:
    class Unfinished(ol.Optimizer):
        pass

    W = ol.Parameter(zeros())
    W.grad = ones()
    with pytest.raises(NotImplementedError, match="Unfinished must override `step`, or derive from RuleOptimizer"):
        Unfinished([W], {}).step()


# zero_grad -----------------------------------------------------------------------------------------------------------

def test_zero_grad_drops_or_fills() -> None:
    W, b, optimizer = pair()
    W.grad = kept = ones()
    optimizer.zero_grad(set_to_none=False)
    assert W.grad is kept
    assert kept.tolist() == [0, 0]
    assert b.grad is None
    optimizer.zero_grad()
    assert W.grad is None


def test_zero_grad_releases_the_gradients() -> None:
    W, b, optimizer = pair()
    W.grad, b.grad = ones(), np.ones(4, np.float32)[::2]
    gone = [weakref.ref(W.grad), weakref.ref(b.grad)]
    optimizer.step()
    optimizer.zero_grad()
    assert [reference() for reference in gone] == [None, None]


def test_zero_grad_fills_only_the_gradient_of_a_strided_buffer() -> None:
    W = ol.Parameter(np.zeros((2, 2), np.float32))
    buffer = np.ones((2, 4), np.float32)
    W.grad = buffer[:, ::2]
    ol.SGD([W]).zero_grad(set_to_none=False)
    assert buffer.tolist() == [[0, 1, 0, 1]] * 2


def alias(array: np.ndarray) -> np.ndarray:
    return array[...]


@pytest.mark.parametrize(("gradient_of_b", "message"), [
    (lambda W, b, s: np.frombuffer(bytes(16), np.float32), "is read-only and can't be zeroed; use zero_grad"),
    (lambda W, b, s: np.broadcast_to(np.float32(1), (4,)), "is read-only"),
    (lambda W, b, s: np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (4,), (0,)), "is a broadcast array"),
    (lambda W, b, s: alias(W.data), "shares memory with a parameter or state"),
    (lambda W, b, s: alias(b.data), "shares memory with a parameter or state"),
    (lambda W, b, s: b.data[::-1], "shares memory with a parameter or state"),
    (lambda W, b, s: alias(s), "shares memory with a parameter or state"),
    (lambda W, b, s: s[::-1], "shares memory with a parameter or state")],
    ids=["read-only", "broadcast", "stride 0", "W", "itself", "itself reversed", "state", "state reversed"])
def test_a_gradient_that_must_not_be_zeroed_is_refused(gradient_of_b: Any, message: str) -> None:
    W, b = ol.Parameter(np.ones(4, np.float32), "W"), ol.Parameter(np.ones(4, np.float32), "b")
    optimizer = ol.SGD([W, b], lr=1, momentum=0.5)
    optimizer.step(grads=[np.ones(4, np.float32)] * 2)
    W.grad = np.ones(4, np.float32)
    b.grad = gradient_of_b(W, b, optimizer.state[W]["momentum_buffer"])
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=f"gradient of 'b' {message}"):
        optimizer.zero_grad(set_to_none=False)
    assert snapshot(optimizer) == before
    optimizer.zero_grad()
    assert b.grad is None


# Gradients that overlap parameters or states -------------------------------------------------------------------------

SIDE = 4
OVERLAPS: dict[str, Callable[[np.ndarray, np.ndarray, Any], np.ndarray]] = {
    "the other": lambda x, y, s: y,                          # f = x * y
    "itself": lambda x, y, s: x,                             # f = x**2 / 2
    "itself transposed": lambda x, y, s: x.T,
    "the other upside down": lambda x, y, s: y[::-1],
    "across both": lambda x, y, s: x.base[SIDE // 2:SIDE // 2 + SIDE],
    "own state": lambda x, y, s: next((a for a in s(x).values() if a.ndim), np.ones_like(x)),
    "the other's state": lambda x, y, s: next((a for a in s(y).values() if a.ndim), np.ones_like(x)),
}


@pytest.mark.parametrize("kind", OVERLAPS)
@pytest.mark.parametrize("build", [lambda params: ol.SGD(params, 0.1), lambda params: ol.Adam(params, 0.1),
                                   lambda params: ol.SGD(params, 0.1, momentum=0.9)], ids=["sgd", "adam", "momentum"])
def test_a_gradient_that_overlaps_a_parameter_or_state_counts_as_it_was(build: Any, kind: str) -> None:
    """f = x * y gives y as the gradient of x, and x as that of y: each step must read both before it writes either."""

    def run(take: Callable[[np.ndarray], np.ndarray]) -> Any:
        both = np.random.default_rng(5).standard_normal((2 * SIDE, SIDE)).astype(np.float32)
        x, y = both[:SIDE], both[SIDE:]
        optimizer = build([x, y])
        for step in range(4):
            if step != 2:                                    # once the gradients of the step before stay bound
                first = OVERLAPS[kind](x, y, optimizer.state.__getitem__)
                second = OVERLAPS[kind](y, x, optimizer.state.__getitem__)
                parameters(optimizer)[0].grad, parameters(optimizer)[1].grad = take(first), take(second)
                bound = first, second
            else:
                parameters(optimizer)[0].grad, parameters(optimizer)[1].grad = take(bound[0]), take(bound[1])
            optimizer.step()
        return values(optimizer)

    assert run(lambda a: a) == run(lambda a: a.copy())


def test_gradients_that_overlap_across_groups_and_types_count_as_they_were() -> None:
    memory = np.arange(1, 5, dtype=np.float64)
    x, y = memory[:2], memory[2:].view(np.float32)
    optimizer = ol.SGD([{"params": [x]}, {"params": [y], "lr": 3}], lr=1)
    for p, g in zip(parameters(optimizer), (memory[2:], memory[:2].view(np.float32)), strict=True):
        p.grad = g
    expected = x - memory[2:], y - np.float32(3) * memory[:2].view(np.float32)
    optimizer.step()
    assert (content(x), content(y)) == (content(expected[0]), content(expected[1]))


def test_a_gradient_that_becomes_a_parameter_is_noticed() -> None:
    x, g = np.ones(2, np.float32), np.full(2, 2, np.float32)
    optimizer = ol.SGD([x], lr=1, momentum=0.5)
    optimizer.step(grads=[g])
    optimizer.add_param_group({"params": [g]})
    parameters(optimizer)[1].grad = x
    optimizer.step()                                         # buffer of x: 0.5 * 2 + 2; gradient of g: x before, -1
    assert (x.tolist(), g.tolist()) == ([-4, -4], [3, 3])


# Threads -------------------------------------------------------------------------------------------------------------

def test_stepping_one_optimizer_from_two_threads_raises() -> None:
    optimizer = Halting([zeros()], lr=1)
    parameters(optimizer)[0].grad = ones()
    thread = optimizer.begin()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="already stepping in another thread; step it from one thread at a time"):
            optimizer.step()
    optimizer.finish(thread)
    optimizer.step()
    assert parameters(optimizer)[0].tolist() == [-2, -2]
    assert optimizer.steps_taken == 2


@pytest.mark.parametrize("drop", [lambda p, o: setattr(p, "grad", None), lambda p, o: delattr(p, "grad"),
                                  lambda p, o: o.zero_grad(), lambda p, o: setattr(p, "grad", 9 * ones())])
def test_a_gradient_dropped_while_a_step_runs_lives_until_it_ends(drop: Any) -> None:
    optimizer = Halting([zeros()], lr=1)
    [p] = parameters(optimizer)
    p.grad = ones()
    used = weakref.ref(p.grad)
    thread = optimizer.begin()
    drop(p, optimizer)
    assert used() is not None
    optimizer.finish(thread)
    assert used() is None
    assert p.tolist() == [-1, -1]


def test_a_dropped_gradient_is_not_kept_by_steps_that_began_later() -> None:
    """Two threads whose steps overlap all the time, a GAN's say, must not pile their gradients up."""
    one, other = Halting([zeros()], lr=1), Halting([zeros()], lr=1)
    [p], [q] = parameters(one), parameters(other)
    p.grad, q.grad = ones(), ones()
    first = one.begin()
    dropped = weakref.ref(p.grad)
    p.grad = None
    second = other.begin()
    try:
        one.finish(first)
        assert dropped() is None
    finally:
        other.finish(second)


def test_gradients_replaced_in_a_race_with_steps_are_never_read_after_they_were_freed() -> None:
    """Freed memory is unmapped or overwritten here; every gradient is all ones, so every step takes exactly 1 away."""
    assert output_of("""
        import threading, numpy as np, optimlite as ol
        size, steps = 400_000, 1000
        ones = np.ones(size, np.float32)
        p = ol.Parameter(np.zeros(size, np.float32))
        optimizer = ol.SGD([p], lr=1)
        p.grad = ones.copy()
        def work():
            for _ in range(steps):
                optimizer.step()
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            p.grad = ones.copy()
        thread.join()
        assert (p.data == -steps).all(), p.data
        print("ok")
    """, MALLOC_PERTURB_="165", MALLOC_MMAP_THRESHOLD_="65536", OPTIMLITE_NUM_THREADS="2") == "ok"


# Memory that would move ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("array_of", [lambda p, o: p.data, lambda p, o: p.grad,
                                      lambda p, o: o.state[p]["momentum_buffer"]], ids=["data", "grad", "state"])
def test_arrays_that_a_plan_points_to_cannot_be_resized(array_of: Any) -> None:
    p = ol.Parameter(np.zeros(2, np.float32))
    optimizer = ol.SGD([p], lr=1, momentum=0.5)
    p.grad = ones()
    optimizer.step()
    with pytest.raises(ValueError, match="resize"):
        array_of(p, optimizer).resize(1 << 16)
    optimizer.step()
    assert p.tolist() == [-2.5, -2.5]


def test_the_steps_of_a_thread_that_died_do_not_block_the_next() -> None:
    optimizer = Halting([zeros()], lr=1)
    [p] = parameters(optimizer)
    p.grad = ones()
    optimizer.coefficients = lambda *args: 1 / 0             # type: ignore[method-assign]

    def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            optimizer.step()

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join(20)
    del optimizer.coefficients
    optimizer.go.set()
    optimizer.step()
    assert p.tolist() == [-1, -1]


def test_a_users_own_step_gets_gradients_too() -> None:
    """Though it only knows a closure: they are assigned before it runs, after the hooks."""
    given, assigned = PlainMomentum(model()), PlainMomentum(model())
    for count in range(3):
        grads = {name: gradient(count, i, array) for i, (name, array) in enumerate(model().items())}
        given.step(grads={**grads, "t": None})
        for p in parameters(assigned):
            name = assigned.state.name_of(p)
            p.grad = grads[name] if name != "t" else None
        assigned.step()
    assert values(given) == values(assigned)
    assert given.steps_taken == 3
    with pytest.raises(ValueError, match="unknown"):
        given.step(grads={**grads, "unknown": grads["W"]})
    assert values(given) == values(assigned)
