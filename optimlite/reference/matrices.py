"""Methods of whole matrices in plain NumPy: Muon, NorMuon, SOAP and Shampoo.

Sums in another order have other bits, so products and decompositions are those of the methods themselves.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from ..engine.method import Group
from ..engine.modifiers import decay_of
from ..native.runtime import power
from .rule import Array, sign, towards
from .sums import sum_squares

State = dict[str, Array]


# Muon: Jordan et al. 2024.  NorMuon: Li et al. 2025.

def muon(group: Group, p: Array, g: Array, state: State, scalars: dict[str, Any], normalize: Any = None) -> None:
    real, lr, b = p.dtype.type, group["lr"], state["momentum_buffer"]
    if not p.size:
        return
    b[...] = towards(b, g, real(1 - group["momentum"]))
    u = g + real(group["momentum"]) * (b - g) if group["nesterov"] else b
    u = np.asarray(u, order="F" if p.flags.fnc else "C").reshape(len(p), -1)         # the products' bits depend on it
    rows, columns = u.shape
    shape = {"match_rms_adamw": 0.2 * math.sqrt(max(rows, columns)), "spectral_norm": math.sqrt(rows / columns),
             }.get(group["adjust_lr_fn"], math.sqrt(max(1.0, rows / columns)))
    x = orthogonal(u, group)
    if normalize:
        x = normalize(x)
    keep, step = real(1 - lr * decay_of(group)), real(lr * shape) * x.reshape(p.shape)
    p[...] = (np.where(sign(step) * sign(p) > 0, keep, real(1)) if group["cautious_weight_decay"] else keep) * p - step


def orthogonal(u: Array, group: Group) -> Array:
    """Newton-Schulz; the products are the BLAS's, in memory as it finds them."""
    if not u.flags.c_contiguous:
        return orthogonal(u.T, group).T
    real, listed, norm = u.dtype.type, group["ns_coefficients"], math.sqrt(sum_squares(u))
    size = max(norm, group["eps"])
    if listed == "polar_express":
        listed, size = POLAR_EXPRESS, 1.02 * norm + group["eps"]
    tall = len(u) > u.shape[1]
    x: Array = u * real(1 / size if size else np.inf)
    for k in range(group["ns_steps"]):
        a, b, c = map(real, listed[k] if isinstance(listed[0], tuple) else listed)
        gram = x.T @ x if tall else x @ x.T
        polynomial = c * (gram @ gram) + b * gram
        x = (x @ polynomial if tall else polynomial @ x) + a * x
    return x


POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323))


def normuon(group: Group, p: Array, g: Array, state: State, scalars: dict[str, Any]) -> None:
    def normalize(x: Array) -> Array:
        real, v = x.dtype.type, state["second_momentum_buffer"]
        means = np.square(x).mean(axis=1, keepdims=True)
        v[...] = towards(v, means, real(1 - group["beta2"]))
        scale = 1 / (np.sqrt(v) + real(1e-10))
        before, after = (math.sqrt(x.shape[1] * float(y.sum())) for y in (means, scale * scale * means))
        return x * (scale * real(before / (after + 1e-10)))

    muon(group, p, g, state, scalars, normalize)


# What SOAP and Shampoo share: a matrix for each axis.

def merged(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The shape with neighbouring axes merged, from the first on, while the product is at most `most`."""
    result = [1]
    for n in shape:
        if result[-1] * n <= most or result[-1] == 1:
            result[-1] *= n
        else:
            result.append(n)
    return tuple(result) if len(result) == 1 or result[-1] > 1 else tuple(result[:-1])


def taken(flat: Array, sizes: list[int]) -> list[Array]:
    """The matrices in an array, without those of no elements."""
    ends = np.cumsum([n * n for n in sizes])
    return [flat[end - n * n:end].reshape(n, n) for n, end in zip(sizes, ends, strict=True)]


def grams(x: Array, axes: list[int]) -> Array:
    """Of each of these axes x x^T, with all others as columns, one behind the other."""
    rows = [np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for axis in axes]
    return np.concatenate([np.zeros(0, x.dtype), *(np.ravel(row @ row.T) for row in rows)])


def along(x: Array, matrices: dict[int, Array]) -> Array:
    """Times a matrix along each of its axes; the first axis goes to the end each time.

    The factors lie in memory as the optimizer's own do: BLAS may round otherwise for a transposed matrix.
    """
    for axis in range(x.ndim):
        rows = x.reshape(len(x), -1).T
        x = (rows @ matrices[axis] if axis in matrices else rows).reshape(*x.shape[1:], -1)
    return np.asarray(x, order="C")


def eigen(matrix: Array) -> tuple[Array, Array]:
    if not np.isfinite(matrix).all():
        return np.full(len(matrix), np.nan, matrix.dtype), np.full_like(matrix, np.nan)
    values, vectors = np.linalg.eigh(matrix)
    return values, vectors


# SOAP: Vyas et al. 2024.

def soap(group: Group, p: Array, g: Array, state: State, scalars: dict[str, Any]) -> None:
    t, real, most = scalars["step"], p.dtype.type, group["max_precond_dim"]
    scalars["step"] += 1
    if not p.size:
        return
    shape = merged(p.shape, most) if group["merge_dims"] and p.ndim > 1 else p.shape
    axes = [k for k, n in enumerate(shape) if n <= most and (p.ndim > 1 or group["precondition_1d"])]
    sizes = [shape[k] for k in axes]
    g = np.asarray(g, order="C").reshape(shape)
    bases = dict(zip(axes, taken(state["Q"], sizes), strict=True))
    sb = group["betas"][1] if group["shampoo_beta"] is None else group["shampoo_beta"]
    state["GG"][...] = towards(state["GG"], grams(g, axes), real(1 - sb))
    factors = dict(zip(axes, taken(state["GG"], sizes), strict=True))
    if t == 0:
        for k in axes:
            bases[k][...] = eigen(factors[k])[1][:, ::-1]
        return
    beta1, beta2 = group["betas"]
    m, v = (np.ascontiguousarray(state[key]).reshape(shape) for key in ("exp_avg", "exp_avg_sq"))
    h = along(g, bases)
    m = real(beta1) * m + real(1 - beta1) * h
    v = real(beta2) * v + real(1 - beta2) * (h * h)
    u = along(m / (np.sqrt(v) + real(group["eps"])), {k: q.T for k, q in bases.items()})
    step_size, keep = group["lr"], 1 - group["lr"] * group["weight_decay"]
    if group["correct_bias"]:
        step_size *= math.sqrt(1 - power(beta2, t)) / (1 - power(beta1, t))
    if group["normalize_grads"]:
        step_size /= 1e-30 + math.sqrt(sum_squares(u) / u.size)
    p[...] = real(keep) * p - real(keep * step_size) * u.reshape(p.shape)
    if t % group["precondition_frequency"] == 0:
        m = along(m, {k: q.T for k, q in bases.items()})
        for k in axes:
            moved = factors[k] @ bases[k]
            order = np.argsort(-(bases[k] * moved).sum(0), kind="stable")
            v = v.take(order, k)
            bases[k][...] = np.linalg.qr(moved[:, order])[0]
        m = along(m, bases)
    state["exp_avg"][...], state["exp_avg_sq"][...] = m.reshape(p.shape), v.reshape(p.shape)


# Shampoo: Gupta et al. 2018; Anil et al. 2020; Shi et al. 2023.

def shampoo(group: Group, p: Array, g: Array, state: State, scalars: dict[str, Any]) -> None:
    t = scalars["step"] = scalars["step"] + 1
    if not p.size:
        return
    real, (beta1, beta2), most = p.dtype.type, group["betas"], group["max_preconditioner_dim"]
    correct = group["use_bias_correction"]
    shape = merged(tuple(n for n in p.shape[::-1] if n > 1), most)[::-1] if group["merge_dims"] else p.shape
    m = g = np.asarray(g, order="C")
    if beta1:
        state["exp_avg"][...] = m = towards(state["exp_avg"], g, real(1 - beta1))
    kind, grafted = group["grafting"], m
    if kind in ("adagrad", "rmsprop", "adam"):
        b, w = 1 if kind == "adagrad" else group["grafting_beta2"], state["exp_avg_sq"]
        w[...] = real(b) * w + real(1 - b if b < 1 else 1) * (g * g)
        correction = math.sqrt(1 - power(b, t)) if kind == "adam" else 1
        grafted = m / (np.sqrt(w) * real(1 / correction) + real(group["grafting_eps"]))
    g, m, grafted = (np.asarray(x, order="C").reshape(shape) for x in (g, m, grafted))
    u, at = np.empty_like(m), 0
    start = group["start_preconditioning_step"] or group["precondition_frequency"]
    due = t >= start and (t == start or t % group["precondition_frequency"] == 0 or not state["roots"].any())
    for block in product(*([slice(k, k + most) for k in range(0, n, most)] for n in shape)):
        x, axes = g[block], [*range(g.ndim)]
        part = slice(at, at + sum(n * n for n in x.shape))
        at = part.stop
        left, r = state["factors"][part], state["roots"][part]
        left[...] = real(beta2) * left + real(1 - beta2 if beta2 < 1 else 1) * grams(x, axes)
        for factor, root in zip(taken(left, [*x.shape]), taken(r, [*x.shape]), strict=True) if due else ():
            factor = factor / real(1 - power(beta2, t) if correct and beta2 < 1 else 1)
            values, vectors = eigen(factor + np.diag(np.full(len(factor), group["eps"], factor.dtype)))
            if values[0] < real(group["eps"]):
                values = values - values[0] + real(group["eps"])
            root[...] = (vectors * values**real(-1 / (2 * x.ndim))) @ vectors.T
        u[block] = m[block] if kind is None else grafted[block]
        if t >= start:
            y = along(m[block], dict(enumerate(taken(r, [*x.shape]))))
            if kind is not None:
                longer, own = (math.sqrt(sum_squares(np.asarray(z, order="C"))) for z in (grafted[block], y))
                y = y * real(longer / (own + 1e-16))
            u[block] = y
    u = (u * real(1 / (1 - power(beta1, t) if correct else 1))).reshape(p.shape)
    lr, decay, momentum = group["lr"], group["weight_decay"], group["momentum"]
    if not momentum:
        p[...] = real(1 - lr * decay) * p - real(lr) * u
        return
    b, u = state["momentum_buffer"], u + real(decay) * p if decay else u
    b[...] = real(momentum) * b + u
    p[...] = p - real(lr) * (u + real(momentum) * b if group["nesterov"] else b)


METHODS = {"muon": muon, "normuon": normuon, "soap": soap, "shampoo": shampoo}
