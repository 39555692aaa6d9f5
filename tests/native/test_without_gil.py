"""Several Python threads, each with optimizers of its own, or all with one.

With the GIL they take turns, often; a Python without it runs them at once.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import PATIENCE, parameters, values

THREADS = 8
KINDS = (ol.Adam, ol.SGD, ol.LAMB, ol.Adafactor, ol.LBFGS)


@pytest.fixture(autouse=True)
def brisk() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(work: Callable[[int], Any]) -> None:
    """work(0), work(1), ... in threads that begin together; what any of them raises fails the test."""
    faults: list[BaseException] = []
    begin = threading.Barrier(THREADS)

    def run(number: int) -> None:
        begin.wait(60)
        try:
            work(number)
        except BaseException as fault:
            faults.append(fault)

    workers = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60 * PATIENCE)
    assert not faults, faults
    assert not any(worker.is_alive() for worker in workers)


def fresh(number: int) -> list[ol.Optimizer]:
    """A thread's two optimizers."""
    rng = np.random.default_rng(number)
    return [kind([rng.standard_normal(n) for n in (1, 40, 600)], lr=0.01)
            for kind in (ol.AdamW, KINDS[number % len(KINDS)])]


def train(optimizers: list[ol.Optimizer], seed: int) -> None:
    """What a training loop does to optimizers: gradients, clipping, another rate, their state."""
    rng = np.random.default_rng(seed)
    for optimizer in optimizers:
        schedule = ol.lr_scheduler.ExponentialLR(optimizer, 0.9)
        for step in range(8):
            grads = [rng.standard_normal(p.shape) for p in parameters(optimizer)]
            if isinstance(optimizer, ol.LBFGS):
                optimizer.step(lambda grads=grads: (1.0, grads))
                continue
            optimizer.step(grads=grads, max_grad_norm=1.0 if step % 2 else None)
            schedule.step()
            if step == 4:
                optimizer.load_state_dict(optimizer.state_dict())
                optimizer.zero_grad()


def test_optimizers_of_eight_threads_have_the_bits_of_turns() -> None:
    in_turn = [fresh(number) for number in range(THREADS)]
    for number, optimizers in enumerate(in_turn):
        train(optimizers, number)
    together = [fresh(number) for number in range(THREADS)]
    at_once(lambda number: train(together[number], number))
    assert [[values(one) for one in pair] for pair in together] == [[values(one) for one in pair] for pair in in_turn]


def test_one_optimizer_in_eight_threads_makes_whole_steps_or_refuses() -> None:
    """Not one is lost, done twice or mixed with another: they are as many as its state says, and have their bits."""
    def made() -> ol.Optimizer:
        return ol.Adam([np.ones(300), np.ones((5, 4))], lr=0.01)

    optimizer, done, refusals = made(), [0] * THREADS, set()
    for p in parameters(optimizer):
        p.grad = np.full(p.shape, 0.5)

    def step_some(number: int) -> None:
        for _ in range(60):
            try:
                optimizer.step()
                done[number] += 1
            except RuntimeError as refusal:
                refusals.add(str(refusal))

    at_once(step_some)
    assert refusals <= {"this optimizer is already stepping in another thread; step it from one thread at a time, or "
                        "use one optimizer per thread"}
    alone = made()
    for _ in range(sum(done)):
        alone.step(grads=[np.full(p.shape, 0.5) for p in parameters(alone)])
    assert values(optimizer) == values(alone)
    assert {int(state["step"]) for state in optimizer.state.values()} == {sum(done)} != {0}


@pytest.mark.filterwarnings("ignore:step.. changed nothing")         # before the first gradient
def test_gradients_and_rates_may_be_replaced_while_another_thread_steps() -> None:
    """Each step has what was there at some time; whatever is replaced stays in memory as long as it is read."""
    array = np.zeros(200)
    optimizer = ol.SGD([array], lr=1.0)
    [parameter] = parameters(optimizer)
    parameter.grad = np.ones(200)

    def work(number: int) -> None:
        for k in range(60):
            if number:
                parameter.grad = np.full(200, 2.0 ** -(k % 4)) if k % 9 else None
                optimizer.param_groups[0]["lr"] = 2.0 ** -(k % 3)
                now = parameter.grad
                assert now is None or now[0] == now[-1]
            else:
                optimizer.step()

    at_once(work)
    assert len({*array}) == 1
    assert np.isfinite(array[0])
    array[:] = 0.0
    parameter.grad, optimizer.param_groups[0]["lr"] = np.full(200, 3.0), 0.5
    optimizer.step()
    assert array.tolist() == [-1.5] * 200                 # the last one, however many came at the same time
