"""Runs that were saved, copied or pickled go on with the bits of one that never stopped."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import CASES, ONE_RATE, Case, per_case
from support.helpers import PlainMomentum, content, gradient, model, ones, parameters, train, values, zeros
from support.state_dicts import bits

TYPES = [np.float32, np.float64]


# Resume --------------------------------------------------------------------------------------------------------------

def whole(case: Case, arrays: dict[str, np.ndarray]) -> ol.Optimizer:
    return case.optimizer(arrays, **case.options)


def two_groups(case: Case, arrays: dict[str, np.ndarray]) -> ol.Optimizer:
    beside = {"weight_decay": 0.02} if case.optimizer in ONE_RATE else {"lr": 0.02}
    return case.optimizer([{"params": {"W": arrays["W"]}}, {"params": {n: arrays[n] for n in ("b", "t")}, **beside}],
                          **case.options)


def positions(case: Case, arrays: dict[str, np.ndarray]) -> ol.Optimizer:
    return case.optimizer(list(arrays.values()), **case.options)


HOW = {"group": whole, "two groups": two_groups, "positions": positions}
RESUMES = {"pickle": lambda d: pickle.loads(pickle.dumps(d)), "copy": lambda d: d,
           "zip": lambda d: {**d, "state": {k: {n: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape)
                                                for n, a in s.items()} for k, s in d["state"].items()}}}


@pytest.mark.parametrize("transport", RESUMES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("dtype", TYPES)
@per_case
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(case: Case, dtype: Any, how: str, transport: str) -> None:
    """pytorch#102261: an extra or a missing step after resuming."""
    straight = train(HOW[how](case, model(dtype, axes=case.axes)), range(10))
    half = train(HOW[how](case, model(dtype, axes=case.axes)), range(5))
    arrays = {name: p.data.copy() for name, p in zip(model(), parameters(half), strict=True)}
    resumed = HOW[how](case._replace(options={**case.options, "lr": 7}), arrays)
    resumed.load_state_dict(RESUMES[transport](half.state_dict()))
    assert values(train(resumed, range(5, 10))) == values(straight)


@per_case
def test_a_group_that_came_late_and_a_frozen_parameter_resume_too(case: Case) -> None:
    def run(optimizer: ol.Optimizer, steps: range) -> ol.Optimizer:
        for step in steps:
            if step == 3:
                beside = {} if case.optimizer in ONE_RATE else {"lr": 0.03}
                optimizer.add_param_group({"params": {"late": late.copy()}, **beside})
            for index, p in enumerate(parameters(optimizer)):
                p.grad = gradient(step, index, p) if index != 1 else None        # 'b' is frozen
            optimizer.step()
        return optimizer

    late = model(axes=case.axes)["b"] + 1
    straight = run(whole(case, model(axes=case.axes)), range(9))
    half = run(whole(case, model(axes=case.axes)), range(5))
    resumed = whole(case, {name: p.data.copy() for name, p in zip(model(), parameters(half), strict=False)})
    resumed.add_param_group({"params": {"late": parameters(half)[3].data.copy()}})
    resumed.load_state_dict(half.state_dict())
    assert values(run(resumed, range(5, 9))) == values(straight)


# Whole optimizers ----------------------------------------------------------------------------------------------------

COPIES = {"pickle": lambda o: pickle.loads(pickle.dumps(o)), "deepcopy": copy.deepcopy}
OWN = Case(PlainMomentum, {"lr": 0.2})


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("case", [*CASES, OWN], ids=lambda case: case.id)
def test_a_copied_optimizer_goes_on_alike_and_alone(case: Case, how: str, way: str) -> None:
    optimizer = train(HOW[how](case, model(axes=case.axes)), range(5))
    twin = COPIES[way](optimizer)
    assert type(twin) is case.optimizer
    assert repr(twin) == repr(optimizer)
    assert twin.steps_taken == optimizer.steps_taken
    assert [content(p.grad) for p in parameters(twin)] == [content(p.grad) for p in parameters(optimizer)]
    before = values(optimizer)
    after = values(train(twin, range(5, 9)))
    assert values(optimizer) == before
    assert values(train(optimizer, range(5, 9))) == after
    assert bits(twin.state_dict()) == bits(optimizer.state_dict())


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_before_the_first_step_takes_gradients_by_name_and_nesting(way: str) -> None:
    twin = COPIES[way](ol.SGD([{"params": {"W": zeros()}}, {"params": [zeros()]}], lr=1))
    twin.step(grads=[{"W": ones()}, [ones()]])
    assert [p.tolist() for p in parameters(twin)] == [[-1, -1]] * 2
    assert twin.state["W"] == {}


@pytest.mark.parametrize("way", COPIES)
def test_a_model_and_its_optimizer_copied_together_stay_together(way: str) -> None:
    W, array = ol.Parameter(ones(), "W"), ones()
    parts = COPIES[way]({"optimizer": ol.SGD([W, array], lr=1), "W": W, "array": array})
    parts["W"].grad = ones()
    parts["optimizer"].step()
    parts["optimizer"].step(grads=[None, ones()])
    assert (parts["W"].tolist(), parts["array"].tolist()) == ([0, 0], [0, 0])
    assert (W.tolist(), array.tolist()) == ([1, 1], [1, 1])
