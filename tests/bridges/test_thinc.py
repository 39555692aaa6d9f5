"""optimlite.thinc: thinc's models, whose finish_update calls an optimizer for each parameter."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.group_plan import GroupPlan

api: Any = pytest.importorskip("thinc.api")
ours: Any = importlib.import_module("optimlite.thinc")
X = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
Y = (X[:, :1] * X[:, 1:2]).astype(np.float32)


def network(seed: int = 0) -> Any:
    api.fix_random_seed(seed)
    return api.chain(api.Relu(nO=16, nI=4), api.Linear(nO=1, nI=16)).initialize(X, Y)


def train(model: Any, optimizer: Any, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        guess, backprop = model.begin_update(X)
        losses.append(float(np.mean((guess - Y) ** 2)))
        backprop((guess - Y) / len(X))
        model.finish_update(optimizer)
        optimizer.step_schedules()
    return losses


def weights(model: Any) -> list[Any]:
    return [node.get_param(name) for node in model.walk() for name in node.param_names if node.has_param(name)]


def test_adam_is_thincs() -> None:
    """Its epsilon is outside of the bias correction."""
    one, other = network(), network()
    train(one, ours.Optimizer(ol.Adam, lr=0.01, uncorrected_eps=True, eps=1e-8), 20)
    train(other, api.Adam(0.01, L2=0, grad_clip=0, use_averages=False, eps=1e-8), 20)
    for mine, theirs in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [ol.AdamW, ol.Lion, ol.SGD, ol.LAMB])
def test_models_learn(kind: Any) -> None:
    rates = {ol.SGD: 0.1, ol.Lion: 0.003}
    model, optimizer = network(), ours.Optimizer(kind, lr=rates.get(kind, 0.01), max_grad_norm=5.0)
    losses = train(model, optimizer, 150)
    assert losses[-1] < 0.7 * losses[0]
    assert optimizer.inner.steps_taken == 150
    assert all(not node.get_grad(name).any() for node in model.walk() for name in node.param_names
               if node.has_grad(name))


def test_a_schedule_and_a_scale_of_the_rate() -> None:
    optimizer = ours.Optimizer(ol.SGD, schedule=lambda step: 1.0 / (step + 1))
    w = np.zeros(2, np.float32)
    for step in range(3):
        w[:] = 0
        optimizer((1, "W"), w, np.ones(2, np.float32), lr_scale=0.5)
        assert w[0] == pytest.approx(-0.5 / (step + 1))
        optimizer.step_schedules()


def test_a_parameters_rate_is_its_groups_alone() -> None:
    optimizer = ours.Optimizer(ol.SGD, schedule=lambda step: 1.0 / (step + 1))
    both = [np.zeros(2, np.float32), np.zeros(2, np.float32)]
    for step in range(3):
        for key, w in enumerate(both):
            w[:] = 0
            optimizer((key, "W"), w, np.ones(2, np.float32), lr_scale=0.5 ** key)
            assert w[0] == pytest.approx(-(0.5 ** key) / (step + 1))
            rates = [group["lr"] for group in optimizer.inner.param_groups]
            assert rates[key] == 1.0 / (step + 1)
            assert all(rate == 1.0 / step for rate in rates[key + 1:])       # not yet written
        optimizer.step_schedules()


def test_a_parameter_that_comes_makes_no_plans_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make = GroupPlan.make_plans

    def counting(plan: GroupPlan, method: Any, recipes: Any) -> Any:
        made.append(plan.group["params"][0].name)
        return make(plan, method, recipes)

    monkeypatch.setattr(GroupPlan, "make_plans", counting)
    optimizer = ours.Optimizer(ol.Adam)
    arrays = {f"{at}": np.ones(2, np.float32) for at in range(5)}
    for _ in range(3):
        for key, array in arrays.items():
            optimizer(key, array, np.ones(2, np.float32))
    assert made == [*arrays]


def test_weights_that_were_loaded_are_trained_on() -> None:
    optimizer = ours.Optimizer(ol.SGD, lr=1.0)
    first, second = np.zeros(2, np.float32), np.full(2, 5, np.float32)
    optimizer((1, "W"), first, np.ones(2, np.float32))
    returned, gradient = optimizer((1, "W"), second, np.ones(2, np.float32))
    assert returned is second
    assert (first[0], second[0], gradient[0]) == (-1, 4, 0)


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="SGD has no argument `learn_rate`; it has `lr`, `momentum`"):
        ours.Optimizer(ol.SGD, learn_rate=0.1)
    with pytest.raises(TypeError, match="Prodigy estimates a number from all its parameters together"):
        ours.Optimizer(ol.Prodigy)((1, "W"), np.zeros(2, np.float32), np.ones(2, np.float32))
