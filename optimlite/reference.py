"""Every rule again in plain NumPy: the specification that anybody can read, the tests' oracle, the baseline of speed.

`step(optimizer)` does what `optimizer.step()` does, bit for bit, without a compiled kernel.  A rule below takes the
finished coefficients `h` (each cast once to the arrays' type), the parameter, the finished gradient and the state
arrays, in the order in which the optimizer's `rule` names them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from ._state import State, filled
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


# Methods of whole matrices: Adafactor (Shazeer & Stern 2018) and Muon (Jordan et al. 2024).

def adafactor(group: Group, p: Array, g: Array, state: State, scalars: dict[str, Any]) -> None:
    real, (eps1, eps2) = p.dtype.type, group["eps"]
    t = scalars["step"] = scalars["step"] + 1
    eps1 = float(np.finfo(real).eps) if eps1 is None else eps1
    weight, cap = real(float(t)**group["beta2_decay"]), real(1 / eps1 if eps1 else np.inf)
    if not p.size:
        return
    if p.ndim < 2:
        v = state["variance"]
        v[...] = v + weight * (g * g - v)
        estimate = 1 / np.sqrt(v)
        u = g * np.where(estimate > cap, cap, estimate)
        matrices = u.reshape(1, 1, -1)
    else:
        *_, n, m = p.shape
        r, c = state["row_var"], state["col_var"]
        flip = p.ndim == 2 and not p.flags.c_contiguous          # columns stand in memory as others' rows do
        by_row, by_column = sums_of_squares(g.reshape(-1, n, m).swapaxes(1, 2) if flip else g.reshape(-1, n, m))
        by_row, by_column = (by_column, by_row) if flip else (by_row, by_column)
        r[...] = r + weight * ((by_row / m).astype(real).reshape(r.shape) - r)
        c[...] = c + weight * ((by_column / n).astype(real).reshape(c.shape) - c)
        mean = np.add.accumulate(r, axis=-2, dtype=np.float64)[..., -1:, :] / n
        estimate = ((1 / np.sqrt(r / np.maximum(mean, eps1))).astype(real)
                    * (1 / np.sqrt(c, dtype=np.float64)).astype(real))
        u = g * np.where(estimate > cap, cap, estimate)
        matrices = u.reshape(-1, n, m).swapaxes(1, 2) if flip else u.reshape(-1, n, m)
    squares = matrices.astype(np.float64)**2
    total = sum(sum_in_lanes(part) for part in parts(squares))
    size = max(eps2, math.sqrt(sum_squares(p) / p.size)) * min(group["lr"], 1 / math.sqrt(t))
    size /= max(1.0, math.sqrt(total / p.size) / group["d"])
    p[...] = real(1 - group["lr"] * group["weight_decay"]) * p - real(size) * u


def parts(matrices: Array) -> Iterator[Array]:
    """Tiles, about 16384 elements at a time: of each matrix, from above, 64 rows of 1024 columns side by side.

    Rows are padded with zeros, so that each begins in the first lane.
    """
    tiles = [tile for matrix in matrices for band in np.split(matrix, range(64, len(matrix), 64))
             for tile in np.split(band, range(1024, band.shape[1], 1024), axis=1)]
    padded = [np.ravel(np.pad(tile, [(0, 0), (0, -tile.shape[1] % 16)])) for tile in tiles]
    together = max(1, 16384 // tiles[0].size)
    return (np.concatenate(padded[k:k + together]) for k in range(0, len(padded), together))


def sums_of_squares(matrices: Array) -> tuple[Any, Any]:
    """By row, in lanes, and by column, from above; tile by tile."""
    squares = matrices.astype(np.float64)**2
    by_row = [sum_in_lanes(squares[:, :, k:k + 1024]) for k in range(0, squares.shape[2], 1024)]
    by_column = [np.add.accumulate(squares[:, k:k + 64], axis=1)[:, -1] for k in range(0, squares.shape[1], 64)]
    return np.add.accumulate(by_row)[-1], np.add.accumulate(by_column)[-1]


def muon(group: Group, p: Array, g: Array, state: State, scalars: dict[str, Any]) -> None:
    real, lr, b = p.dtype.type, group["lr"], state["momentum_buffer"]
    if not p.size:
        return
    b[...] = b + real(1 - group["momentum"]) * (g - b)
    u = g + real(group["momentum"]) * (b - g) if group["nesterov"] else b
    u = np.asarray(u, order="F" if p.flags.fnc else "C").reshape(len(p), -1)         # the products' bits depend on it
    rows, columns = u.shape
    shape = 0.2 * math.sqrt(max(rows, columns)) if group["adjust_lr_fn"] == "match_rms_adamw" else (
        math.sqrt(max(1.0, rows / columns)))
    x = orthogonal(u, group)
    p[...] = real(1 - lr * group["weight_decay"]) * p - real(lr * shape) * x.reshape(p.shape)


def orthogonal(u: Array, group: Group) -> Array:
    """Newton-Schulz; the products are the BLAS's, in memory as it finds them."""
    if not u.flags.c_contiguous:
        return orthogonal(u.T, group).T
    a, b, c = map(u.dtype.type, group["ns_coefficients"])
    tall = len(u) > u.shape[1]
    x: Array = u * u.dtype.type(1 / max(math.sqrt(sum_squares(u)), group["eps"]))
    for _ in range(group["ns_steps"]):
        gram = x.T @ x if tall else x @ x.T
        polynomial = c * (gram @ gram) + b * gram
        x = (x @ polynomial if tall else polynomial @ x) + a * x
    return x


# What every rule shares.

def gradient(h: Any, p: Array, g: Array) -> Array:
    """The finished gradient: scaled, clipped by value, with coupled weight decay."""
    g = h.grad_scale * g
    if h.limit < np.inf:
        g = np.where(g > h.limit, h.limit, g)
        g = np.where(g < -h.limit, -h.limit, g)
    return g + h.l2 * p if h.l2 != 0 else g


def sum_in_lanes(x: Array) -> Array:
    """Sums of numbers >= 0 along the last axis in an order that everybody can keep: in 16 lanes, then in halves."""
    x = np.concatenate([x, np.zeros((*x.shape[:-1], -x.shape[-1] % 16))], axis=-1)
    lane: Array = np.add.accumulate(x.reshape(*x.shape[:-1], -1, 16), axis=-2)[..., -1, :]
    for width in (8, 4, 2, 1):
        lane = lane[..., :width] + lane[..., width:2 * width]
    return lane[..., 0]


def blocks(p: Array, g: Array) -> Iterator[Array]:
    """The magnitudes of g in the order of the parameter's memory, in blocks of 16384."""
    x = np.abs(np.ravel(g, "C" if p.flags.c_contiguous else "F").astype(np.float64))
    return (x[start:start + 16384] for start in range(0, x.size, 16384))


def sum_squares(p: Array) -> float:
    return float(sum(sum_in_lanes(block * block) for block in blocks(p, p)))


def grad_norm(gradients: list[tuple[Array, Array]], norm_type: float = 2.0) -> float:
    """The norm of order 1, 2 or inf of all gradients together, in float64, given as (parameter, gradient).

    float32 goes before float64; elements are taken in the order of the parameter's memory, in blocks of 16384.
    """
    total: Any = np.float64(0)
    with np.errstate(all="ignore"):
        for p, g in sorted(gradients, key=lambda pair: pair[0].itemsize):
            for block in blocks(p, g):
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
                    state[key] = filled(p, shape, initial.get(key, 0.0))
            scalars = {key: state[key].item() if key in state else value
                       for key, value in optimizer.scalars.items()}
            with np.errstate(all="ignore"):
                if isinstance(optimizer, MatrixOptimizer):
                    h = SimpleNamespace(grad_scale=p.dtype.type(signed), limit=p.dtype.type(limit), l2=0)
                    globals()[optimizer.twin](group, p.data, gradient(h, p.data, p.grad), state, scalars)
                else:
                    elements(optimizer, group, p, state, scalars, first, signed, limit)
            for key, value in scalars.items():
                state[key] = state.get(key, np.asarray(value))
                state[key][...] = value
