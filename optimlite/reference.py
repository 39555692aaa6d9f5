"""Every rule again in plain NumPy: the specification that anybody can read, the tests' oracle, the baseline of speed.

`step(optimizer)` does what `optimizer.step()` does, bit for bit, without a compiled kernel.  A rule below takes the
finished coefficients `h` (each cast once to the arrays' type), the parameter, the finished gradient and the state
arrays, in the order in which the optimizer's `rule` names them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from .optimizer import Optimizer

Array = np.ndarray


# SGD, momentum and Nesterov's: Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013.

def sgd(h: Any, p: Array, g: Array) -> None:
    p[...] = p - h.lr * g


def momentum(h: Any, p: Array, g: Array, b: Array) -> None:
    b[...] = h.momentum * b + h.fresh * g
    p[...] = p - h.lr * b


def nesterov(h: Any, p: Array, g: Array, b: Array) -> None:
    b[...] = h.momentum * b + h.fresh * g
    p[...] = p - h.lr * (g + h.momentum * b)


# Adam and AdamW: Kingma & Ba 2015; Loshchilov & Hutter 2019; AMSGrad: Reddi et al. 2018.

def adam(h: Any, p: Array, g: Array, m: Array, v: Array) -> None:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    p[...] = h.keep * p - h.step_size * m / (np.sqrt(v) * h.inv_root_bias2 + h.eps)


def amsgrad(h: Any, p: Array, g: Array, m: Array, v: Array, largest: Array) -> None:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    largest[...] = np.maximum(largest, v)
    p[...] = h.keep * p - h.step_size * m / (np.sqrt(largest) * h.inv_root_bias2 + h.eps)


# The running mean of parameters: Polyak & Juditsky 1992; Izmailov et al. 2018.

def mean(h: Any, a: Array, p: Array) -> None:
    a[...] = a + h.weight * (p - a)


def gradient(h: Any, p: Array, g: Array) -> Array:
    """What every rule shares: scale, clip by value, coupled weight decay."""
    g = h.grad_scale * g
    if h.limit < np.inf:
        g = np.where(g > h.limit, h.limit, g)
        g = np.where(g < -h.limit, -h.limit, g)
    return g + h.l2 * p if h.l2 != 0 else g


def step(optimizer: Optimizer) -> None:
    """One step of `optimizer` in plain NumPy: the same parameters and state as `optimizer.step()`, bit for bit.

    A gradient that overlaps another parameter or state in memory is read as it is when its turn comes.
    """
    for group in optimizer.param_groups:
        name, slots = optimizer.rule(group)
        rule = globals()[name]
        for p in group["params"]:
            if p.grad is None:
                continue
            state = optimizer.state[p]
            first = not any(key in state for key in (*slots, *optimizer.scalars))
            for key, initial in slots.items():
                if key not in state:
                    state[key] = np.full_like(p.data, initial)
            scalars = {key: state[key].item() if key in state else initial
                       for key, initial in optimizer.scalars.items()}
            coefficients = optimizer.coefficients(group, scalars, first)
            coefficients = {"limit": np.inf, "l2": 0.0, **coefficients,
                            "grad_scale": -1.0 if group.get("maximize") else 1.0}
            with np.errstate(all="ignore"):
                h = SimpleNamespace(**{key: p.dtype.type(value) for key, value in coefficients.items()})
                rule(h, p.data, gradient(h, p.data, p.grad), *(state[key] for key in slots))
            for key, value in scalars.items():
                state[key] = state.get(key, np.asarray(value))
                state[key][...] = value
