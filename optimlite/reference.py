"""Every rule again in plain NumPy: the specification that anybody can read, the tests' oracle, the baseline of speed.

`step(optimizer)` does what `optimizer.step()` does, bit for bit, without a compiled kernel.  A rule below takes the
finished coefficients `h` (each cast once to the arrays' type), the parameter, the finished gradient and the state
arrays, in the order in which the optimizer's `rule` names them.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from ._state import State
from .matrix import MatrixOptimizer
from .optimizer import Group, Optimizer
from .parameter import Parameter
from .sparse import SparseGrad

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


# Adagrad: Duchi, Hazan & Singer 2011.

def adagrad(h: Any, p: Array, g: Array, s: Array) -> None:
    s[...] = s + g * g
    p[...] = p - h.step_size * g / (np.sqrt(s) + h.eps)


# Adadelta: Zeiler 2012.

def adadelta(h: Any, p: Array, g: Array, v: Array, u: Array) -> None:
    v[...] = h.rho * v + h.fresh * (g * g)
    delta = np.sqrt(u + h.eps) / np.sqrt(v + h.eps) * g
    u[...] = h.rho * u + h.fresh * (delta * delta)
    p[...] = p - h.lr * delta


# Adamax: Kingma & Ba 2015.

def adamax(h: Any, p: Array, g: Array, m: Array, u: Array) -> None:
    m[...] = h.beta1 * m + h.fresh1 * g
    u[...] = np.maximum(h.beta2 * u, abs(g) + h.eps)
    p[...] = p - h.step_size * m / u


# NAdam: Dozat 2016.

def nadam(h: Any, p: Array, g: Array, m: Array, v: Array) -> None:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    p[...] = h.keep * p - (h.step_grad * g + h.step_mean * m) / (np.sqrt(v) * h.inv_root_bias2 + h.eps)


# RAdam: Liu et al. 2020.

def radam(h: Any, p: Array, g: Array, m: Array, v: Array) -> None:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    p[...] = h.keep * p - h.step_size * m / (np.sqrt(v) + h.eps if h.rectified else 1)


# RMSprop, centered and with momentum: Tieleman & Hinton 2012; Graves 2013.

def rmsprop(h: Any, p: Array, g: Array, v: Array) -> None:
    v[...] = h.alpha * v + h.fresh * (g * g)
    p[...] = p - h.lr * g / (np.sqrt(v) + h.eps)


def rmsprop_momentum(h: Any, p: Array, g: Array, v: Array, b: Array) -> None:
    v[...] = h.alpha * v + h.fresh * (g * g)
    b[...] = h.momentum * b + g / (np.sqrt(v) + h.eps)
    p[...] = p - h.lr * b


def rmsprop_centered(h: Any, p: Array, g: Array, v: Array, a: Array) -> None:
    v[...] = h.alpha * v + h.fresh * (g * g)
    a[...] = h.alpha * a + h.fresh * g
    p[...] = p - h.lr * g / (np.sqrt(np.maximum(v - a * a, 0)) + h.eps)


def rmsprop_centered_momentum(h: Any, p: Array, g: Array, v: Array, a: Array, b: Array) -> None:
    v[...] = h.alpha * v + h.fresh * (g * g)
    a[...] = h.alpha * a + h.fresh * g
    b[...] = h.momentum * b + g / (np.sqrt(np.maximum(v - a * a, 0)) + h.eps)
    p[...] = p - h.lr * b


# Rprop: Riedmiller & Braun 1993; Igel & Hüsken 2000.

def sign(x: Array) -> Any:
    """torch's sign: 0 for NaN."""
    return np.subtract(x > 0, x < 0, dtype=x.dtype)


def rprop(h: Any, p: Array, g: Array, prev: Array, size: Array) -> None:
    agreement = g * prev
    grown = np.where(agreement > 0, h.grow, np.where(agreement < 0, h.shrink, g.dtype.type(1))) * size
    grown = np.where(grown > h.least, grown, h.least)
    size[...] = np.where(grown < h.most, grown, h.most)
    prev[...] = np.where(agreement < 0, 0, g)
    p[...] = p - sign(prev) * size


# ASGD: Polyak & Juditsky 1992; Bottou 2010.

def asgd(h: Any, p: Array, g: Array, ax: Array) -> None:
    p[...] = h.keep * p - h.eta * g
    ax[...] = p if h.mu == 1 else ax + h.mu * (p - ax)


# What every rule shares.

def gradient(h: Any, p: Array, g: Array) -> Array:
    """The finished gradient: scaled, clipped by value, with coupled weight decay."""
    g = h.grad_scale * g
    if h.limit < np.inf:
        g = np.where(g > h.limit, h.limit, g)
        g = np.where(g < -h.limit, -h.limit, g)
    return g + h.l2 * p if h.l2 != 0 else g


def sum_in_lanes(block: Array) -> np.float64:
    """The sum of at most 16384 numbers >= 0 in an order that everybody can keep: in 16 lanes, then in halves."""
    lane: Array = np.add.accumulate(np.append(block, np.zeros(-block.size % 16)).reshape(-1, 16))[-1]
    for width in (8, 4, 2, 1):
        lane = lane[:width] + lane[width:2 * width]
    return np.float64(lane[0])


def grad_norm(gradients: list[tuple[Array, Array]], norm_type: float = 2.0) -> float:
    """The norm of order 1, 2 or inf of all gradients together, in float64, given as (parameter, gradient).

    float32 goes before float64; elements are taken in the order of the parameter's memory, in blocks of 16384.
    """
    total = np.float64(0)
    with np.errstate(all="ignore"):
        for p, g in sorted(gradients, key=lambda pair: pair[0].itemsize):
            x = np.abs(np.ravel(g, "C" if p.flags.c_contiguous else "F").astype(np.float64))
            for start in range(0, x.size, 16384):
                block = x[start:start + 16384]
                if norm_type == np.inf:
                    total = np.maximum(total, block.max())
                else:
                    total = total + sum_in_lanes(block * block if norm_type == 2 else block)
        return float(np.sqrt(total) if norm_type == 2 else total)


def clip_coefficient(max_norm: float, norm: float) -> float:
    return float(np.minimum(1.0, max_norm / (norm + 1e-6)))


def touched(sparse: SparseGrad) -> tuple[Array, Array]:
    """The rows that a sparse gradient touches, and the values of each, added up in the order in which they came."""
    rows, first, which = np.unique(sparse.indices, return_index=True, return_inverse=True)
    later = np.ones(len(which), bool)
    later[first] = False
    values = sparse.values[first]
    np.add.at(values, which[later], sparse.values[later])
    return rows, values


def pieces(optimizer: Optimizer, group: Group, p: Parameter) -> list[Array]:
    """The gradient as steps read it: one array, or one for each row that is touched."""
    if not isinstance(p.grad, SparseGrad):
        return [np.asarray(p.grad)]      # of a subclass, `*` may be something else
    return list(touched(p.grad)[1]) if optimizer.still_rows_stay(group) else [p.grad.to_dense(len(p.data))]


def step(optimizer: Optimizer, *, grad_scale: float = 1.0, max_grad_norm: float | None = None,
         max_grad_value: float | None = None, skip_nonfinite: bool = False, zero_grad: bool = False) -> None:
    """One step of `optimizer` in plain NumPy: the same parameters and state as `optimizer.step()`, bit for bit.

    A gradient that overlaps another parameter or state in memory is read as it is when its turn comes.
    """
    factor = grad_scale
    gradients = [(p.data, g) for group in optimizer.param_groups for p in group["params"] if p.grad is not None
                 for g in pieces(optimizer, group, p)]
    optimizer.last_grad_norm = None
    skip = False
    if max_grad_norm is not None or skip_nonfinite:
        norm = optimizer.last_grad_norm = grad_scale * grad_norm(gradients)
        skip = skip_nonfinite and not math.isfinite(norm)
        if max_grad_norm is not None:
            factor = grad_scale * clip_coefficient(max_grad_norm, norm)
    if skip:
        optimizer.skipped_steps += 1
    else:
        update(optimizer, factor, np.inf if max_grad_value is None else max_grad_value)
    if zero_grad:
        for p in optimizer._parameters():
            if isinstance(p.grad, SparseGrad):
                p.grad = p.grad.empty()
            elif p.grad is not None:
                p.grad[...] = 0


def elements(optimizer: Optimizer, group: Group, p: Parameter, state: State, scalars: dict[str, Any], first: bool,
             factor: float, limit: float) -> None:
    """A rule for single elements; of a sparse gradient's rows alone where the others stay as they are."""
    name, slots = optimizer.rule(group)
    coefficients = {"l2": 0.0, **optimizer.coefficients(group, scalars, first), "limit": limit, "grad_scale": factor}
    h = SimpleNamespace(**{key: p.dtype.type(value) for key, value in coefficients.items()})
    arrays = [p.data, *(state[key] for key in slots)]
    if isinstance(p.grad, SparseGrad) and optimizer.still_rows_stay(group):
        rows, g = touched(p.grad)
        copies = [array[rows] for array in arrays]
        globals()[name](h, copies[0], gradient(h, copies[0], g), *copies[1:])
        for array, copy in zip(arrays, copies, strict=True):
            array[rows] = copy
    else:
        [g] = pieces(optimizer, group, p)
        globals()[name](h, p.data, gradient(h, p.data, g), *arrays[1:])


def whole_matrix(optimizer: MatrixOptimizer, group: Group, p: Parameter, state: State, scalars: dict[str, Any],
                 factor: float, limit: float) -> None:
    """Adafactor and Muon compute their updates in NumPy anyway; here NumPy puts them in place too."""
    h = SimpleNamespace(grad_scale=p.dtype.type(factor), limit=p.dtype.type(limit), l2=0)
    update = optimizer.update(group, p.data, gradient(h, p.data, p.grad), state, scalars)
    p.data[...] = p.dtype.type(update.keep) * p.data - p.dtype.type(update.step_size) * update.direction
    for key, array in update.state.items():
        state[key][...] = array


def update(optimizer: Optimizer, factor: float, limit: float) -> None:
    for group in optimizer.param_groups:
        optimizer._check_group(group)            # NumPy scalars become numbers of full precision
        signed = -factor if group.get("maximize") else factor
        initial = optimizer.rule(group)[1]
        for p in group["params"]:
            if p.grad is None:
                continue
            state, shapes = optimizer.state[p], optimizer.state_shapes(group, p)
            first = not any(key in state for key in (*shapes, *optimizer.scalars))
            for key, shape in shapes.items():
                if key not in state:
                    state[key] = np.full(shape, initial.get(key, 0.0), p.dtype, order="F" if p.flags.fnc else "C")
            scalars = {key: state[key].item() if key in state else value
                       for key, value in optimizer.scalars.items()}
            with np.errstate(all="ignore"):
                if isinstance(optimizer, MatrixOptimizer):
                    whole_matrix(optimizer, group, p, state, scalars, signed, limit)
                else:
                    elements(optimizer, group, p, state, scalars, first, signed, limit)
            for key, value in scalars.items():
                state[key] = state.get(key, np.asarray(value))
                state[key][...] = value
