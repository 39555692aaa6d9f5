"""Nothing that steps waits for the cyclic collector to be freed: it takes no notice of megabytes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler
from support.cases import Case, per_case
from support.helpers import PlainMomentum, label


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


@pytest.mark.parametrize("kind", [ol.LBFGS, ol.ConjugateGradient, ol.NewtonCG,
                                  lambda params: ol.NewtonCG(params, hessp=lambda v: [2 * v[0]]),
                                  lambda params: ol.SAM(ol.Adam(params))])
def test_closures_with_their_history(kind: Callable[..., ol.Optimizer]) -> None:
    def make() -> ol.Optimizer:
        w = np.array([1.0, 2.0, 3.0])
        optimizer = kind([w])
        for _ in range(3):
            optimizer.step(lambda: (bowl(w)[0], [bowl(w)[1]]))
        return optimizer

    assert_freed(make)


@pytest.mark.parametrize("options", [{}, {"method": "cg"}, {"method": "newton-cg"}, {"bounds": (0, 2)}], ids=str)
@pytest.mark.parametrize("callback", [None, lambda x: None, lambda intermediate_result: None])
def test_minimize_keeps_nothing(options: dict[str, Any], callback: Any) -> None:
    seen: list[weakref.ref[np.ndarray]] = []

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = bowl(w)
        seen.extend((weakref.ref(w), weakref.ref(gradient)))
        return value, gradient

    assert ol.minimize(loss, np.ones(3), callback=callback, **options).success
    assert [one() for one in seen] == [None] * len(seen)


def product(w: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(shape=(3, 3), matvec=lambda v: 2 * v, rmatvec=lambda v: 2 * v)


@pytest.mark.parametrize("options", [{"method": "lm"}, {"bounds": (-1, 1)}, {"method": "gauss-newton"},
                                     {"jac": product}, {"jac": product, "bounds": (-1, 1)}], ids=label)
@pytest.mark.parametrize("callback", [None, lambda x: None, lambda intermediate_result: None])
def test_least_squares_keep_nothing(options: dict[str, Any], callback: Any) -> None:
    seen: list[weakref.ref[np.ndarray]] = []

    def residuals(w: np.ndarray) -> np.ndarray:
        made = 2 * w
        seen.extend((weakref.ref(w), weakref.ref(made)))
        return made

    assert ol.least_squares(residuals, np.ones(3), callback=callback, **options).success
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


class Kept(SimpleNamespace):
    """Takes weak references."""


AROUND: dict[str, Callable[[ol.Optimizer, Path], Any]] = {
    "Lookahead": lambda o, folder: ol.Lookahead(o, k=1),
    "EarlyStopping": lambda o, folder: stopped(ol.EarlyStopping(o)),
    "lr_find": lambda o, folder: ol.lr_find(o, lambda: (1.0, [np.ones(3)]), steps=3),
    "metrics": lambda o, folder: (o.watch(), o)[1],
    "offload": lambda o, folder: (o.offload(folder), o)[1],
    "hooks": lambda o, folder: (o.register_step_post_hook(lambda *_: None), o)[1],
}


def stopped(stopping: ol.EarlyStopping) -> ol.EarlyStopping:
    stopping.step(1.0)
    stopping.restore()
    return stopping


@pytest.mark.parametrize("name", AROUND)
def test_what_stands_around_an_optimizer(tmp_path: Path, name: str) -> None:
    def make() -> Any:
        optimizer = ol.Adam([np.ones(3)])
        made = Kept(optimizer=optimizer, other=AROUND[name](optimizer, tmp_path))
        stepped = made.other if isinstance(made.other, ol.Optimizer) else optimizer
        for _ in range(3):
            stepped.step(grads=[np.ones(3)])
        stepped.metrics()
        return made

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
