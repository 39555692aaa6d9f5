"""check_grad: it finds planted errors, passes right gradients, and leaves everything as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.tools.gradient_check import GradCheck

Params = dict[str, np.ndarray]


def network(dtype: Any, seed: int) -> tuple[Params, Any]:
    """Two layers with a square weight, so that a transposed gradient has the right shape, and a table of few rows."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 12))
    x, y = (rng.standard_normal((20, n)).astype(dtype) for _ in range(2))
    params = {"W1": rng.standard_normal((n, n)), "b1": rng.standard_normal(n), "W2": rng.standard_normal((n, n)),
              "scale": np.array(1.5)}
    params = {name: np.asarray(a * 0.4, dtype) for name, a in params.items()}

    def fun(p: Params) -> tuple[float, Params]:
        h = np.tanh(x @ p["W1"] + p["b1"])
        error = p["scale"] * (h @ p["W2"]) - y
        d = 2 * error / dtype(len(x))
        dh = (p["scale"] * d @ p["W2"].T) * (1 - h * h)
        return float((error ** 2).sum() / len(x)), {
            "W1": x.T @ dh, "b1": dh.sum(0), "W2": p["scale"] * h.T @ d, "scale": np.asarray((d * (h @ p["W2"])).sum())}

    return params, fun


def planted(fun: Any, kind: str, name: str, at: int) -> Any:
    def wrong(p: Params) -> tuple[float, Params]:
        loss, grads = fun(p)
        g = np.array(grads[name])
        if kind == "sign":
            g = -g
        elif kind == "factor":
            g = g * g.dtype.type(1.1)
        elif kind == "transposed":
            g = np.ascontiguousarray(g.T)
        else:
            g.flat[at % g.size] += np.abs(g).max()
        return loss, {**grads, name: g}

    return wrong


ERRORS = [(kind, name, seed) for seed in range(6) for kind in ("sign", "factor", "element")
          for name in ("W1", "b1", "W2", "scale")][:40] + [("transposed", name, seed) for seed in range(5)
                                                           for name in ("W1", "W2")]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "name", "seed"), ERRORS)
def test_every_planted_error_is_found(kind: str, name: str, seed: int, dtype: Any) -> None:
    params, fun = network(dtype, seed)
    found: GradCheck = ol.check_grad(planted(fun, kind, name, seed), params)
    assert not found
    assert [tensor.name for tensor in found.tensors if not tensor.ok] == [name]
    [wrong] = [tensor for tensor in found.tensors if not tensor.ok]
    assert f"{name} {params[name].shape}: WRONG" in repr(found)
    assert wrong.worst is not None
    if kind == "element" and wrong.shape:
        assert np.ravel_multi_index(wrong.worst, wrong.shape) == seed % params[name].size
    _, right = fun(params)
    assert wrong.expected == pytest.approx(float(right[name][wrong.worst]), rel=0.05, abs=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(50))
def test_right_gradients_pass_and_nothing_changes(seed: int, dtype: Any) -> None:
    params, fun = network(dtype, seed + 100)
    before = {name: a.tobytes() for name, a in params.items()}
    assert ol.check_grad(fun, params), ol.check_grad(fun, params)
    assert {name: a.tobytes() for name, a in params.items()} == before


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("function", [
    lambda a: (float((a ** 4).sum()), 4 * a ** 3), lambda a: (float(np.exp(a / 7).sum()), np.exp(a / 7) / 7),
    lambda a: (float(np.maximum(a, 0).sum()), (a > 0).astype(a.dtype)),
    lambda a: (3.0, 0 * a), lambda a: (float(np.log(np.cosh(a)).sum()), np.tanh(a))])
def test_other_functions_and_sizes(function: Any, scale: float) -> None:
    a = np.random.default_rng(0).standard_normal((5, 4)) + 0.3

    def scaled(params: Any) -> Any:
        loss, grad = function(params[0] / scale)
        return loss, [grad / scale]

    assert ol.check_grad(scaled, [a * scale])
    assert not ol.check_grad(lambda params: (scaled(params)[0], [scaled(params)[1][0] + 0.5 / scale]), [a * scale])


def test_parameters_that_get_their_gradients_assigned_and_sparse_ones() -> None:
    table = ol.Parameter(np.arange(8.0).reshape(4, 2), name="table")

    def fun(params: Any, factor: float = 2) -> float:
        rows = table[[1, 3, 3]]
        table.grad = ol.SparseGrad([1, 3, 3], factor * rows)
        return float((rows ** 2).sum())

    assert ol.check_grad(fun, [table])
    assert not ol.check_grad(lambda params: fun(params, 1), [table])


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_kinks_make_no_right_gradient_wrong(factor: float) -> None:
    """Half of these tensors were called wrong, where the largest steps alone were asked."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((64, 3))
        params = {"W": rng.standard_normal((3, 32)), "b": rng.standard_normal(32), "v": rng.standard_normal(32)}

        def fun(p: Params, x: np.ndarray = x) -> tuple[float, Params]:
            before = x @ p["W"] + p["b"]
            hidden = np.maximum(before, 0)
            error = hidden @ p["v"] - x[:, 0]
            back = np.outer(error, p["v"]) * (before > 0)
            return float(error @ error) / 2, {"W": factor * (x.T @ back), "b": back.sum(0), "v": hidden.T @ error}

        assert [tensor.ok for tensor in ol.check_grad(fun, params).tensors] == [factor == 1.0, True, True]


def test_smaller_steps_acquit_no_wrong_gradient_in_single_precision() -> None:
    """By five tolerances; a loss of 100 has few digits of them."""
    for seed in range(20):
        p = np.random.default_rng(seed).standard_normal(4).astype(np.float32)

        def fun(q: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
            loss = np.float32(100) + np.float32(0.5) * np.mean(q[0] ** 2, dtype=np.float32)
            return float(loss), [np.float32(1.01 / 4) * q[0]]

        assert not ol.check_grad(fun, [p], seed=seed)


def test_a_loss_that_is_noise_is_not_passed() -> None:
    rng = np.random.default_rng(0)
    found = ol.check_grad(lambda p: (float(p[0] @ p[0]) + rng.standard_normal(), [2 * p[0]]), [np.ones(3)])
    assert not found
    assert "UNSURE" in repr(found) or "WRONG" in repr(found)
    assert not ol.check_grad(lambda p: (float("nan"), [p[0]]), [np.ones(3)])


def test_an_exception_leaves_the_parameters_as_they_were() -> None:
    w, calls = np.ones(3), []

    def fun(params: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError
        return float(params @ params), 2 * params

    with pytest.raises(ZeroDivisionError):
        ol.check_grad(fun, w)
    assert w.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("fun", "options", "message"), [
    (3, {}, "`fun` must be a function of `params`, got int"),
    (lambda p: 1.0, {}, r"`fun` must return \(loss, grads\) or assign every .grad, got none for '0'"),
    (lambda p: (1.0, [np.ones(2)]), {}, r"has shape \(2,\) but the parameter has \(3,\)"),
    (lambda p: (1.0, [np.ones(3)]), {"directions": 0}, "`directions` must be an integer >= 1, got 0"),
    (lambda p: (1.0, [np.ones(3)]), {"tolerance": 0}, "`tolerance` must be > 0, got 0"),
])
def test_what_is_refused(fun: Any, options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.check_grad(fun, [np.ones(3)], **options)
