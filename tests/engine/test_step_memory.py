"""What a step reads and writes: gradients that overlap, arrays that another thread drops, memory that would move."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import (
    Halting,
    content,
    ones,
    output_of,
    parameters,
    values,
    zeros,
)

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
