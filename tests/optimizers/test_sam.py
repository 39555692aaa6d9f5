"""SAM: the gradient of the worst point nearby, and its closures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.wrappers import Arrays, assert_same, bowl, sam, same_bits, values


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_second_gradient_is_that_of_the_worst_point(adaptive: bool, maximize: bool) -> None:
    ours, plain = values(0), values(0)
    opt, other = sam(ours, 0.5, adaptive, maximize=maximize), ol.AdamW(plain, lr=0.05, maximize=maximize)
    for t in range(4):
        grads = bowl(plain, t)()[1]
        weights = {key: abs(p) if adaptive else np.ones_like(p) for key, p in plain.items()}
        norm = np.sqrt(sum(np.sum((weights[key] * g)**2) for key, g in grads.items()))
        radius = (-0.5 if maximize else 0.5) / norm
        moved = {key: p + radius * weights[key]**2 * grads[key] for key, p in plain.items()}
        other.step(grads=bowl(moved, t)()[1])
        assert opt.step(bowl(ours, t)) == 1.0
        for key, p in ours.items():
            np.testing.assert_allclose(p, plain[key], rtol=1e-11, atol=1e-13)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("call", [1, 2])
def test_parameters_are_restored_to_the_bit_when_the_closure_raises(call: int, dtype: Any) -> None:
    params: Arrays = {**values(0, dtype), "strided": np.ones((6, 6), dtype)[:, ::2], "empty": np.ones((0, 3), dtype)}
    params["a"][0, :2] = np.nan, -0.0
    opt = sam(params, 1e30, kind=ol.SGD)
    before = {key: p.copy() for key, p in params.items()}
    calls: list[int] = []

    def closure() -> Any:
        calls.append(1)
        assert all(same_bits(p, before[key]) for key, p in params.items()) is (len(calls) == 1)
        if len(calls) == call:
            raise Stop
        return 1.0, {key: np.ones_like(p) for key, p in params.items()}

    with pytest.raises(Stop):
        opt.step(closure)
    assert len(calls) == call
    assert_same(params, before)
    assert not opt.steps_taken
    opt.step(lambda: (1.0, {key: np.ones_like(p) for key, p in params.items()}))       # and the next one is fine


def test_closures_may_set_gradients_themselves() -> None:
    ours, plain = values(0), values(0)
    opt, other = sam(ours), sam(plain)

    def closure() -> float:
        opt.zero_grad()
        for key, g in bowl(ours)()[1].items():
            opt.state.find(key).grad = g
        return 1.0

    assert opt.step(closure, max_grad_norm=0.1) == 1.0
    other.step(bowl(plain), max_grad_norm=0.1)
    assert_same(ours, plain)
    assert opt.last_grad_norm == other.last_grad_norm
