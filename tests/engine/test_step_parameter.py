"""Steps of single parameters in a backward pass: the bits of whole steps, one count a round, clipping."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import CASES
from support.helpers import content, gradient, model, parameters

ALONE = [case for case in CASES if case.alone and case.optimizer not in (ol.SparseAdam,)]


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case.id)
def test_a_round_has_the_bits_of_a_step(case: Any) -> None:
    runs = [model(axes=case.axes) for _ in range(2)]
    together, single = (case.optimizer(names, **case.options) for names in runs)
    for step in range(4):
        grads = {name: gradient(step, at, array) for at, (name, array) in enumerate(runs[0].items())}
        together.step(grads=grads, grad_scale=0.5)
        for name in reversed(grads):
            single.step_parameter(name, grads[name], grad_scale=0.5)
            assert all(p.grad is None for p in parameters(single))
        assert single.steps_taken == together.steps_taken
    for name in runs[0]:
        assert content(runs[0][name]) == content(runs[1][name])
        for key, array in together.state[name].items():
            assert content(array) == content(single.state[name][key])


def test_clipping_is_by_the_norm_of_the_round_before() -> None:
    a, b = np.zeros(2), np.zeros(1)
    opt = ol.SGD({"a": a, "b": b}, lr=1.0)
    for scale, norm in ((1, None), (10, 13.0), (1, 130.0)):
        a[:] = b[:] = 0
        opt.step_parameter("a", scale * np.array([3.0, 4.0]), max_grad_norm=6.5)
        assert opt.last_grad_norm == (None if norm is None else pytest.approx(norm))
        opt.step_parameter("b", scale * np.array([12.0]), max_grad_norm=6.5)
        factor = scale * (1 if norm is None else 6.5 / (norm + 1e-6))
        np.testing.assert_allclose(-a, [3 * factor, 4 * factor])
        np.testing.assert_allclose(-b, [12 * factor])
    assert opt.steps_taken == 3


def test_a_parameter_may_sit_out_and_strided_and_sparse_gradients_count() -> None:
    a, b, table = np.zeros((2, 2)), np.zeros(1), np.zeros((3, 1))
    opt = ol.SGD({"a": a, "b": b, "table": table}, lr=1.0)
    opt.step_parameter(a, np.array([[3.0, 9, 4, 9], [0, 9, 0, 9]])[:, ::2], max_grad_norm=1e9)
    opt.step_parameter("table", ol.SparseGrad([1, 1], np.full((2, 1), 6.0)), max_grad_norm=1e9)
    opt.step_parameter(a, np.zeros((2, 2)), max_grad_norm=1e9)
    assert opt.last_grad_norm == pytest.approx(13.0)
    assert (a[0].tolist(), table[1, 0], b[0]) == ([-3, -4], -12, 0)
    assert opt.steps_taken == 2
    opt.step(grads={"b": np.ones(1), "a": None, "table": None})
    assert opt.steps_taken == 3


def test_what_is_refused_changes_nothing() -> None:
    a, b = ol.Parameter(np.zeros(2), "a"), ol.Parameter(np.zeros(1), "b")
    opt = ol.Adam([a, b])
    b.grad = np.ones(1)
    with pytest.raises(ValueError, match=r"'b' has a gradient, which a step of 'a' alone would apply, too; call zer"):
        opt.step_parameter(a, np.ones(2))
    opt.zero_grad()
    for bad, options, message in ((np.ones(3), {}, "shape"),
                                  (np.ones(2), {"grad_scale": 0}, "`grad_scale` must be > 0"),
                                  (np.ones(2), {"max_grad_norm": -1}, "`max_grad_norm` must be >= 0"),
                                  (np.ones(2, np.float32), {}, "is float32 but the parameter is float64")):
        with pytest.raises((TypeError, ValueError), match=message):
            opt.step_parameter(a, bad, **options)
    with pytest.raises(KeyError, match="the optimizer has no parameter 'c'"):
        opt.step_parameter("c", np.ones(2))
    assert not opt.state
    assert opt.steps_taken == 0
    assert not a.data.any()


@pytest.mark.parametrize(("kind", "message"), [
    (ol.LBFGS, "LBFGS evaluates the model several times in a step; use step"),
    (lambda params: ol.Lookahead(ol.SGD(params)), "Lookahead goes back to slow weights every few steps of all"),
    (lambda params: ol.Lookahead(ol.SGD(params)).base, "SGD goes back to slow weights every few steps of all"),
    (ol.Prodigy, "Prodigy estimates a number from all its parameters"), (ol.DoG, "DoG estimates a number")])
def test_methods_that_need_all_gradients_at_once(kind: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        kind({"a": np.ones(2)}).step_parameter("a", np.ones(2))


def test_a_whole_backward_pass_needs_one_gradient_at_a_time() -> None:
    """The use of it: a network by hand, whose gradients are gone as soon as they were used."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3))
    y = np.sin(x[:, :1])
    weights = [rng.standard_normal((3, 16)) / 2, rng.standard_normal((16, 1)) / 4]
    opt, losses = ol.Adam(weights, lr=0.02), []
    for _ in range(150):
        h = np.tanh(x @ weights[0])
        error = h @ weights[1] - y
        losses.append(float(np.mean(error ** 2)))
        back = (2 * error / len(x)) @ weights[1].T * (1 - h * h)          # before the weights move
        opt.step_parameter("1", h.T @ (2 * error / len(x)), max_grad_norm=10.0)
        opt.step_parameter("0", x.T @ back, max_grad_norm=10.0)
    assert losses[-1] < 0.1 * losses[0]
    assert math.isfinite(opt.last_grad_norm or math.nan)
    assert opt.metrics()["steps"] == 150
