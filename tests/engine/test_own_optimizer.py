"""A user's own optimizer: its step does what it says, and gets what all have."""

from __future__ import annotations

import numpy as np
import pytest

import optimlite as ol
from support.helpers import (
    PlainMomentum,
    gradient,
    model,
    ones,
    parameters,
    train,
    values,
    zeros,
)

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


# Memory that would move ----------------------------------------------------------------------------------------------

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
