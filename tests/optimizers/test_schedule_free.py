"""Schedule-Free: what is evaluated is the average, and whatever happens meanwhile, training goes on from y."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.helpers import values

KINDS = [ol.ScheduleFreeSGD, ol.ScheduleFreeAdamW, ol.ScheduleFreeRAdam]
TRAVELS: list[Callable[[Any], Any]] = [lambda found: pickle.loads(pickle.dumps(found)), copy.deepcopy]


def made(kind: type[ol.Optimizer], steps: int = 0, **options: Any) -> tuple[dict[str, np.ndarray], Any]:
    """A model, and its optimizer after some steps; `late` hasn't stepped."""
    model = {"W": np.arange(6.0).reshape(2, 3), "b": np.ones(3, np.float32), "late": np.ones(2)}
    at_once = {"silent_sgd_phase": False} if kind is ol.ScheduleFreeRAdam else {}
    optimizer = kind(model, **{"lr": 0.1, **at_once, **options})
    for t in range(steps):
        step(optimizer, t)
    return model, optimizer


def step(optimizer: ol.Optimizer, t: int) -> None:
    rng = np.random.default_rng(t)
    optimizer.step(grads={"W": rng.standard_normal((2, 3)), "b": rng.standard_normal(3).astype(np.float32),
                          "late": None})


def held(model: dict[str, np.ndarray]) -> list[list[float]]:
    return [array.tolist() for array in model.values()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("momentum", [0.6, 0.9])
def test_inside_the_parameters_hold_the_average(kind: type[ol.Optimizer], momentum: float) -> None:
    """x_(t+1) = (1 - c) * x_t + c * z_(t+1), with c of the weights t * lr_max^2."""
    share = {"momentum": momentum} if kind is ol.ScheduleFreeSGD else {"betas": (momentum, 0.9)}
    model, optimizer = made(kind, r=1.0, **share)
    x = model["W"].copy()
    for t in range(12):
        optimizer.param_groups[0]["lr"] = 0.1 if t < 5 else 0.05
        before = float(optimizer.state["W"].get("weight_sum", 0.0))
        step(optimizer, t)
        weight = float(optimizer.state["W"]["weight_sum"]) - before
        c = weight / (before + weight) if weight else 0.0
        x = (1 - c) * x + c * optimizer.state["W"]["z"]
        y = held(model)
        with optimizer.swapped():
            assert np.allclose(model["W"], x, 1e-12, 1e-13)
            assert model["late"].tolist() == [1, 1]          # which has not stepped: x = y
            assert model["b"].dtype == np.float32
        assert held(model) == y


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_inside_is_refused(kind: type[ol.Optimizer]) -> None:
    _, optimizer = made(kind, 3)
    with optimizer.swapped():
        before = values(optimizer)
        for stepping in (lambda: step(optimizer, 3), lambda: reference.step(optimizer)):
            with pytest.raises(RuntimeError, match=r"leave `with optimizer.swapped\(\)`, or the Average's"):
                stepping()
        with pytest.raises(RuntimeError, match="swapped in already"), optimizer.swapped():
            pass
        assert values(optimizer) == before
    step(optimizer, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_inside_goes_on_as_what_is_saved_outside(kind: type[ol.Optimizer], tmp_path: Path) -> None:
    model, optimizer = made(kind, 3)
    y = held(model)
    with optimizer.swapped():
        state_dict = optimizer.state_dict()
        ol.save(tmp_path / "run", model=model, optimizer=optimizer)
        ol.save(tmp_path / "later", background=True, model=model, optimizer=optimizer)
        average = copy.deepcopy(model)
        ol.save(tmp_path / "x", model=average)
        assert held(average) == held(model) != y
    assert held(ol.load(tmp_path / "x")["model"]) == held(average)
    step(optimizer, 3)
    for path in ("run", "later"):
        fresh, other = made(kind)
        ol.restore(tmp_path / path, model=fresh, optimizer=other)
        assert held(fresh) == y
        step(other, 3)
        assert (held(fresh), values(other)) == (held(model), values(optimizer))
    fresh, other = made(kind)
    for name, array in fresh.items():
        array[...] = y[list(model).index(name)]
    other.load_state_dict(state_dict)
    step(other, 3)
    assert (held(fresh), values(other)) == (held(model), values(optimizer))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_restored_inside_is_there_outside(kind: type[ol.Optimizer], tmp_path: Path) -> None:
    model, optimizer = made(kind, 3)
    ol.save(tmp_path / "run", model=model, optimizer=optimizer)
    fresh, other = made(kind, 7)
    with other.swapped():
        ol.restore(tmp_path / "run", model=fresh, optimizer=other)
    assert (held(fresh), values(other)) == (held(model), values(optimizer))


@pytest.mark.parametrize("travel", TRAVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_made_inside_hold_y(kind: type[ol.Optimizer], travel: Callable[[Any], Any]) -> None:
    model, optimizer = made(kind, 3)
    with optimizer.swapped():
        x = held(model)
        twin, other = travel((model, optimizer))
        shallow = copy.copy(optimizer)
        assert held(model) == x                  # which the shallow one shares
        with pytest.raises(RuntimeError, match="before step"):
            step(shallow, 3)
    assert held(twin) == held(model) != x
    for each in (optimizer, other):
        step(each, 3)
    assert held(twin) == held(model)


def test_an_exception_inside_puts_y_back() -> None:
    model, optimizer = made(ol.ScheduleFreeSGD, 3)
    y = held(model)

    def fail() -> None:
        with optimizer.swapped():
            model["W"][...] = 7                  # which is lost, as documented
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert held(model) == y
    step(optimizer, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")        # of forks beside threads
def test_a_child_that_was_forked_inside_leaves_with_y() -> None:
    model, optimizer = made(ol.ScheduleFreeSGD, 3)
    y = held(model)
    child = None
    try:
        with optimizer.swapped():
            child = os.fork()
        same = held(model) == y
        step(optimizer, 3)
    finally:
        if child == 0:
            os._exit(0 if same else 1)
    assert child
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert same


def test_a_momentum_of_0_or_1_is_refused() -> None:
    """With 0 the parameters would hold z, and x would be nowhere."""
    for momentum in (0.0, 1.0):
        with pytest.raises(ValueError, match="`momentum` must be > 0 and < 1"):
            made(ol.ScheduleFreeSGD, momentum=momentum)
        for kind in KINDS[1:]:
            with pytest.raises(ValueError, match=r"`betas\[0\]` must be"):
                made(kind, betas=(momentum, 0.9))


def test_an_average_and_schedule_free_are_not_in_the_parameters_place_at_once() -> None:
    model, optimizer = made(ol.ScheduleFreeAdamW, 3)
    average = ol.Average(model)
    average.update()
    with optimizer.swapped(), pytest.raises(RuntimeError, match="already"), average.swapped():
        pass
    with average.swapped(), pytest.raises(RuntimeError, match="already"), optimizer.swapped():
        pass
