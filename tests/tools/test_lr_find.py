"""lr_find: a usable rate for every optimizer, and everything as it was afterwards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import CASES
from support.helpers import content, parameters

X = np.random.default_rng(0).standard_normal((64, 8))
Y = X @ np.arange(8.0) + 1


def problem(dtype: Any = np.float64) -> tuple[dict[str, np.ndarray], Any]:
    params = {"W": np.zeros((8, 1), dtype), "b": np.zeros((1, 1), dtype)}

    def closure() -> Any:
        error = X @ params["W"] + params["b"] - Y[:, None]
        return float(np.mean(error ** 2)), {"W": (2 * X.T @ error / 64).astype(dtype),
                                            "b": 2 * error.mean(keepdims=True).astype(dtype)}

    return params, closure


def everything(opt: ol.Optimizer) -> Any:
    saved = opt.state_dict()
    return ([content(p.data) for p in parameters(opt)], [content(p.grad) for p in parameters(opt)],
            {(i, k): content(a) for i, entries in saved["state"].items() for k, a in entries.items()},
            str(saved["param_groups"]), opt.steps_taken, opt.skipped_steps, opt.last_grad_norm)


TRAINED = {case.optimizer: case for case in CASES if case.optimizer is not ol.SparseAdam}


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("optimizer", TRAINED, ids=lambda kind: kind.__name__)
def test_everything_is_as_it_was(optimizer: Any, steps: int) -> None:
    params, closure = problem()
    opt = optimizer(params, **TRAINED[optimizer].options)
    for _ in range(steps):
        opt.step(closure, max_grad_norm=10.0)
    before = everything(opt)
    found = ol.lr_find(opt, closure, steps=20)
    assert everything(opt) == before
    assert found.lrs[0] == 1e-7
    assert len(found.lrs) == len(found.losses) <= 20


@pytest.mark.parametrize(("kind", "options"), [(ol.SGD, {}), (ol.SGD, {"momentum": 0.9}), (ol.Adam, {}), (ol.Lion, {})])
def test_the_rate_that_it_finds_trains(kind: Any, options: Any) -> None:
    params, closure = problem()
    opt = kind(params, **options)
    found = ol.lr_find(opt, closure)
    assert found.lr <= found.lowest
    start = closure()[0]
    for group in opt.param_groups:
        group["lr"] = found.lr
    for _ in range(200):
        opt.step(closure)
    assert closure()[0] < 0.2 * start


def test_groups_keep_their_proportions() -> None:
    rates = []
    a, b = np.ones(2), np.ones(2)
    opt = ol.SGD([{"params": [a], "lr": 0.5}, {"params": [b], "lr": 0.05}, {"params": [np.ones(1)], "lr": 0.0}])

    def closure() -> Any:
        rates.append([group["lr"] for group in opt.param_groups])
        return float(a @ a), [[2 * a], [2 * b], [np.zeros(1)]]

    ol.lr_find(opt, closure, start=1e-3, end=0.1, steps=3)
    assert rates == [pytest.approx([lr, lr / 10, 0]) for lr in (1e-3, 1e-2, 1e-1)]
    assert [group["lr"] for group in opt.param_groups] == [0.5, 0.05, 0]


def test_an_exception_restores_too() -> None:
    params, closure = problem()
    opt = ol.Adam(params)
    opt.step(closure)
    before, calls = everything(opt), []

    def fails() -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise ZeroDivisionError
        return closure()

    with pytest.raises(ZeroDivisionError):
        ol.lr_find(opt, fails)
    assert everything(opt) == before


def test_a_curve_without_a_descent_and_one_that_is_never_finite() -> None:
    opt = ol.SGD([np.ones(2)])
    found = ol.lr_find(opt, lambda: (1.0, [np.zeros(2)]), steps=10)
    assert found.lr == found.lowest / 10
    with pytest.raises(ValueError, match="the loss must be finite at `start`, got nan at lr 1e-07"):
        ol.lr_find(opt, lambda: (math.nan, [np.zeros(2)]))


def test_the_plot_shows_the_suggestion() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    params, closure = problem()
    found = ol.lr_find(ol.SGD(params), closure)
    ax = found.plot()
    curve, line = ax.lines
    assert list(curve.get_xdata()) == found.lrs
    assert line.get_xdata()[0] == found.lr
    assert ax.get_xscale() == "log"
    assert found.plot(ax) is ax
    assert repr(found).startswith(f"LRFind(lr={found.lr:.3g}, ")


@pytest.mark.parametrize(("options", "message"), [
    ({"start": 0}, "`start` must be > 0, got 0"), ({"end": 1e-8}, "`end` must be > start = 1e-07, got 1e-08"),
    ({"steps": 1}, "`steps` must be >= 2"), ({"smoothing": 1}, "`smoothing` must be >= 0 and < 1, got 1"),
    ({"stop": 1}, "lr_find has no argument `stop`")])
def test_what_is_refused(options: Any, message: str) -> None:
    params, closure = problem()
    with pytest.raises((TypeError, ValueError), match=message):
        ol.lr_find(ol.SGD(params), closure, **options)


@pytest.mark.parametrize("loss", [None, "a", 1j, np.ones(2)])
def test_what_is_no_loss(loss: Any) -> None:
    w = np.ones(2)
    assert ol.lr_find(ol.SGD([w]), lambda: (np.array([w @ w]), [2 * w]), steps=9).lr > 0
    with pytest.raises(TypeError, match="`closure` must return the loss, a number, got "):
        ol.lr_find(ol.SGD([w]), lambda: (loss, [w]))
    assert w.tolist() == [1, 1]


def test_what_is_no_optimizer() -> None:
    with pytest.raises(TypeError, match="`optimizer` must be an optimizer, got list"):
        ol.lr_find([np.ones(2)], lambda: 1.0)                    # type: ignore[arg-type]
