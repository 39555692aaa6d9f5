"""Nothing that steps waits for the cyclic collector to be freed: it takes no notice of megabytes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler
from support.cases import Case, per_case
from support.helpers import PlainMomentum


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def assert_freed(make: Callable[[], Any]) -> None:
    """The object is freed with its last name, and so are its state and the arrays in it."""
    kept = make()
    optimizer = getattr(kept, "optimizer", kept)
    watched = [weakref.ref(kept)]
    if isinstance(optimizer, ol.Optimizer):
        watched += [weakref.ref(optimizer), weakref.ref(optimizer.state)]
        watched += [weakref.ref(array) for state in optimizer.state.values() for array in state.values()]
        watched += [weakref.ref(parameter) for parameter in optimizer._parameters()]
    del kept, optimizer
    assert [reference() for reference in watched] == [None] * len(watched)


@per_case
def test_a_stepped_optimizer(case: Case) -> None:
    def make() -> ol.Optimizer:
        shapes = (4, 3), case.fit(5)
        optimizer = case.optimizer([np.ones(shape, np.float32) for shape in shapes], **case.options)
        for _ in range(3):
            optimizer.step(grads=[np.ones(shape, np.float32) for shape in shapes], max_grad_norm=1.0, zero_grad=True)
        return optimizer

    assert_freed(make)


def test_sparse_gradients() -> None:
    def make() -> ol.Optimizer:
        optimizer = ol.SparseAdam([np.ones((5, 2), np.float32)])
        for _ in range(3):
            optimizer.step(grads=[ol.SparseGrad([1, 3], np.ones((2, 2), np.float32))])
        return optimizer

    assert_freed(make)


def test_a_users_own_optimizer() -> None:
    def make() -> ol.Optimizer:
        optimizer = PlainMomentum([np.ones(3)])
        for _ in range(2):
            optimizer.step(grads=[np.ones(3)])
        return optimizer

    assert_freed(make)


def bowl(w: np.ndarray) -> tuple[float, np.ndarray]:
    return float(w @ w), 2 * w


@pytest.mark.parametrize("kind", [ol.LBFGS, ol.ConjugateGradient])
def test_closures_with_their_history(kind: type[ol.Optimizer]) -> None:
    def make() -> ol.Optimizer:
        w = np.array([1.0, 2.0, 3.0])
        optimizer = kind([w])
        for _ in range(3):
            optimizer.step(lambda: (bowl(w)[0], [bowl(w)[1]]))
        return optimizer

    assert_freed(make)


def test_minimize_keeps_nothing() -> None:
    seen: list[weakref.ref[np.ndarray]] = []

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = bowl(w)
        seen.extend((weakref.ref(w), weakref.ref(gradient)))
        return value, gradient

    result = ol.minimize(loss, np.ones(3))
    assert result.success
    del result
    assert [one() for one in seen] == [None] * len(seen)


def test_an_average_that_was_swapped() -> None:
    def make() -> ol.Average:
        average = ol.Average([np.ones(3)], decay=0.5)
        average.update()
        with average.swapped():
            pass
        average.update()
        return average

    assert_freed(make)


SCHEDULERS: dict[str, Callable[[ol.Optimizer], Any]] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9),
    "ReduceLROnPlateau": lr_scheduler.ReduceLROnPlateau,
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)]),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_and_its_optimizer(name: str) -> None:
    def make() -> Any:
        optimizer = ol.SGD([np.ones(3)], lr=0.1, momentum=0.9)
        scheduler = SCHEDULERS[name](optimizer)
        for _ in range(3):
            optimizer.step(grads=[np.ones(3)])
            scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
        return scheduler

    assert_freed(make)


def test_an_optimizer_after_a_step_that_failed() -> None:
    def make() -> ol.Optimizer:
        optimizer = ol.Adam([np.ones(3)])
        optimizer.step(grads=[np.ones(3)])
        optimizer.param_groups[0]["lr"] = -1.0
        with pytest.raises(ValueError, match="`lr` must be"):
            optimizer.step(grads=[np.ones(3)])
        return optimizer

    assert_freed(make)


def test_a_loaded_and_a_copied_one() -> None:
    import copy

    def make() -> ol.Optimizer:
        optimizer = ol.Adam([np.ones(3)])
        optimizer.step(grads=[np.ones(3)])
        other = copy.deepcopy(optimizer)
        other.load_state_dict(optimizer.state_dict())
        other.step(grads=[np.ones(3)])
        return other

    assert_freed(make)
