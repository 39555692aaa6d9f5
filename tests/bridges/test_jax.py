"""optimlite.jax: gradients of jitted functions, and parameters that move only when JAX has read them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import run_examples

jax: Any = pytest.importorskip("jax")
ours: Any = importlib.import_module("optimlite.jax")
jnp = jax.numpy
X = np.random.default_rng(0).standard_normal((32, 5)).astype(np.float32)
Y = (X @ np.arange(5, dtype=np.float32))[:, None] + 1


@pytest.fixture(autouse=True)
def in_float32() -> Iterator[None]:
    """As JAX computes unless told otherwise, whatever ran before in this process."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", before)


def loss(params: Any, x: Any, y: Any) -> Any:
    (W1, b1), last = params["layers"]
    return jnp.mean((jnp.tanh(x @ W1 + b1) @ last + params["b"] - y) ** 2)


def model(dtype: Any = np.float32) -> Any:
    rng = np.random.default_rng(1)
    return {"layers": [(rng.standard_normal((5, 16)).astype(dtype), np.zeros(16, dtype)),
                       np.asarray(rng.standard_normal((16, 1)) / 4, dtype)], "b": np.zeros((), dtype)}


@pytest.mark.parametrize("jit", [True, False])
def test_a_model_trains(jit: bool) -> None:
    params = model()
    opt, loss_and_grads = ol.Adam(params, lr=0.02), ours.value_and_grad(loss, jit=jit)
    first = loss_and_grads(params, X, Y)[0]
    for _ in range(150 if jit else 20):
        last = opt.step(lambda: loss_and_grads(params, X, Y))
    assert isinstance(last, float)
    assert last < 0.1 * first if jit else last < first


def test_gradients_are_jaxs_and_have_the_parameters_types() -> None:
    params = model()
    value, grads = ours.value_and_grad(loss)(params, X, Y)
    expected, expected_grads = jax.value_and_grad(loss)(params, X, Y)
    assert value == pytest.approx(float(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), grads, expected_grads)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    assert all(type(leaf) is np.ndarray and leaf.dtype == np.float32 for leaf in jax.tree.leaves(grads))


def test_parameters_move_only_when_they_have_been_read() -> None:
    """JAX computes later than it returns; here a loss of some milliseconds of a matrix that is zeroed at once."""
    matrix = np.eye(900, dtype=np.float32)

    def slow(params: Any) -> Any:
        return jnp.linalg.norm(params @ params @ params @ params)

    loss_and_grads = ours.value_and_grad(slow)
    loss_and_grads(matrix)                       # compiled
    for _ in range(5):
        matrix[...] = np.eye(900)
        value, grads = loss_and_grads(matrix)
        matrix[...] = 0
        assert value == pytest.approx(30)
        assert grads.sum() == pytest.approx(120, rel=1e-3)


def test_parameters_objects_and_aux() -> None:
    w = ol.Parameter(np.ones(3, np.float32), name="w")
    fun = ours.value_and_grad(lambda p, x: (jnp.sum(p[0] ** 2), {"twice": 2 * p[0], "note": 3}), has_aux=True)
    (value, aux), grads = fun([w], X)
    assert value == 3
    assert type(aux["twice"]) is np.ndarray
    ol.SGD([w], lr=0.5).step(grads=grads)
    assert not w.data.any()
    assert aux["twice"].tolist() == [2, 2, 2]


def test_what_jit_traces_has_no_values_yet() -> None:
    w = np.ones(3, np.float32)
    opt = ol.SGD([w], lr=0.5)

    @jax.jit
    def step(gradient: Any) -> Any:
        opt.step(grads=[gradient])
        return gradient

    with pytest.raises(TypeError, match=r"gradient of '0' must be a NumPy array, got .*Tracer; it has no values yet"):
        step(jax.numpy.ones(3))
    with pytest.raises(TypeError, match=r"got .*Tracer at '0'; it has no values yet; call this outside of"):
        jax.jit(lambda array: ol.SGD([array]) and array)(w)
    with pytest.raises(TypeError, match="in any nesting, got ArrayImpl at '0'"):
        ol.clip_grad_norm_([jax.numpy.ones(3)], 1.0)
    assert w.tolist() == [1, 1, 1]


def test_doubles_need_jax_to_compute_in_doubles() -> None:
    params = model(np.float64)
    with pytest.raises(ValueError, match="parameters must be float32 where JAX computes in float32, got float64 of sh"):
        ours.value_and_grad(loss)(params, X, Y)
    jax.config.update("jax_enable_x64", True)
    _, grads = ours.value_and_grad(loss)(params, X.astype(np.float64), Y)
    ol.SGD(params).step(grads=grads)
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(grads))
    with pytest.raises(TypeError, match=r"`fun` must be a function of \(params, ...\), got 3"):
        ours.value_and_grad(3)


def test_the_example_runs() -> None:
    assert run_examples(ours.value_and_grad, np=np, ol=ol) > 0
