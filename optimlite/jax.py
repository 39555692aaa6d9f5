"""Gradients of JAX functions, as NumPy arrays that `step` takes: `loss_and_grads = optimlite.jax.value_and_grad(loss)`.

JAX returns before it has computed, and on the CPU it may read a NumPy array where it lies, some time later.  An
optimizer that moves parameters in place would change them under its hands: the gradient would be of other parameters,
without a word.  The functions made here return when everything has been read and computed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import jax
except ImportError:
    raise ImportError("`optimlite.jax` needs JAX; install it with `pip install jax`") from None

from .checks import shown
from .engine.parameter import Parameter

__all__ = ["value_and_grad"]


def value_and_grad(fun: Callable[..., Any], has_aux: bool = False, jit: bool = True) -> Callable[..., Any]:
    """A function `(params, *args)` that returns (loss, grads) of a JAX function, in the nesting of `params`.

    fun: `fun(params, *args)` computes the loss with jax.numpy.    jit: compiles it; then `args` must be arrays.
    has_aux: `fun` returns (loss, aux), and the function ((loss, aux), grads); arrays in aux are NumPy's then.

    `params`: NumPy arrays and Parameters in dicts, lists and tuples.  The loss is a float, and gradients are read-only
    arrays of the parameters' types and shapes.  Raises TypeError for a `fun` that isn't a function, ValueError for
    float64 parameters unless JAX computes in float64, and what JAX and `fun` raise.

        >>> import jax.numpy as jnp, optimlite.jax
        >>> params = {"w": np.array([1.0, -2.0], np.float32)}
        >>> loss_and_grads = optimlite.jax.value_and_grad(lambda params, x: jnp.sum((params["w"] * x) ** 2))
        >>> opt = ol.SGD(params, lr=0.5)
        >>> opt.step(lambda: loss_and_grads(params, np.float32(1)))
        5.0
        >>> params["w"]
        array([0., 0.], dtype=float32)
    """
    if not callable(fun):
        raise TypeError(f"`fun` must be a function of (params, ...), got {shown(fun)}")
    differentiated = jax.value_and_grad(fun, has_aux=has_aux)
    wait: Callable[[Any], Any] = jax.block_until_ready
    compute = jax.jit(differentiated) if jit else differentiated

    @functools.wraps(fun)
    def loss_and_grads(params: Any, *args: Any, **options: Any) -> Any:
        arrays = jax.tree.map(plain, params)
        value, grads = wait(compute(arrays, *args, **options))
        grads = jax.tree.map(np.asarray, grads)
        if has_aux:
            loss, aux = value
            return (float(loss), jax.tree.map(as_numpy, aux)), grads
        return float(value), grads

    return loss_and_grads


def plain(leaf: Any) -> Any:
    """A parameter as JAX knows it; refuses what it would round."""
    array = leaf.data if isinstance(leaf, Parameter) else leaf
    if getattr(array, "dtype", None) == np.float64 and not getattr(jax.config, "jax_enable_x64"):  # noqa: B009
        raise ValueError(f"parameters must be float32 where JAX computes in float32, got float64 of shape "
                         f"{array.shape}; call jax.config.update('jax_enable_x64', True) before, or use float32")
    return array


def as_numpy(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf
