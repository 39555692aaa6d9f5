"""Rules that measure a tensor, its rows or its lines before they step."""

from __future__ import annotations

from typing import Any

import numpy as np

from .elementwise import adam
from .rule import Array, Pass, Rule, decayed, quotient, root, towards
from .sums import larger

# LAMB: You et al. 2020.

def lamb_direction(h: Any, p: Array, m: Array, v: Array) -> Array:
    return decayed(m * h.inv_bias1 / (np.sqrt(v) * h.inv_root_bias2 + h.eps), h.decay, p)


def lamb_moments(h: Any, p: Array, g: Array, m: Array, v: Array) -> tuple[Array, ...]:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    return p, lamb_direction(h, p, m, v)


def lamb_trust(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    ratio = 1.0
    if c.adapts and sums[0] > 0 and sums[1] > 0:
        ratio = min(root(sums[0]) / root(sums[1]), c.most)
    own["scale"] = own["against"] = c.lr * ratio
    return True


def lamb(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    return lamb_direction(h, p, m, v)


# LARS: You, Gitman & Ginsburg 2017.

def lars_norms(h: Any, p: Array, g: Array, *b: Array) -> tuple[Array, ...]:
    return p, decayed(g, h.measured_decay, p)


def lars_trust(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    weight, gradient, ratio = root(sums[0]), root(sums[1]), 1.0
    if c.adapts and weight > 0 and gradient > 0:
        with np.errstate(all="ignore"):
            ratio = float(np.float64(c.trust * weight) / (gradient + weight * c.denominator_decay + c.eps))
    if c.adapts:
        ratio = min(ratio, c.most)
    own["ratio"] = c.factor * ratio
    return True


def trusted(h: Any, p: Array, g: Array) -> Array:
    return decayed(g, h.decay, p) * h.ratio


def lars(h: Any, p: Array, g: Array) -> Array:
    return h.lr * trusted(h, p, g)


def lars_momentum(h: Any, p: Array, g: Array, b: Array) -> Array:
    b[...] = h.momentum * b + h.fresh * trusted(h, p, g)
    return h.lr * b


def lars_nesterov(h: Any, p: Array, g: Array, b: Array) -> Array:
    step = trusted(h, p, g)
    b[...] = h.momentum * b + h.fresh * step
    return h.lr * (step + h.momentum * b)


# StableAdamW: Wortsman et al. 2023.

def stable_moments(h: Any, p: Array, g: Array, m: Array, v: Array) -> tuple[Array, ...]:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    return (np.where(g == 0, g.dtype.type(0), g / np.sqrt(np.maximum(v * h.inv_bias2, h.eps_squared))),)


def stable_step(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    rms = root(sums[0] / count)
    lr = c.lr / rms if rms > 1 else c.lr
    own["scale"] = own["against"] = lr
    own["keep"] = 1.0 - lr * c.decay
    return True


def stable_adamw(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    return m * h.inv_bias1 / (np.sqrt(v * h.inv_bias2) + h.eps)


# NovoGrad: Ginsburg et al. 2019.

def novograd_norm(h: Any, p: Array, g: Array, m: Array) -> tuple[Array, ...]:
    return (g,)


def novograd_size(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    moved[0] = sums[0] if moved[0] == 0 else c.beta2 * moved[0] + c.fresh2 * sums[0]
    own["size"] = root(moved[0]) + c.eps
    return True


def novograd(h: Any, p: Array, g: Array, m: Array) -> Array:
    m[...] = h.beta1 * m + h.fresh * decayed(g / h.size, h.decay, p)
    return h.lr * m


# MARS: Yuan et al. 2024.

def corrected(h: Any, g: Array, last: Array) -> Array:
    return decayed(g, h.change, g - last)


def mars_norm(h: Any, p: Array, g: Array, m: Array, v: Array, last: Array) -> tuple[Array, ...]:
    return (corrected(h, g, last),)


def mars_size(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    norm = root(sums[0])
    own["norm"] = norm if norm > 1 or norm != norm else 1.0
    return True


def mars(h: Any, p: Array, g: Array, m: Array, v: Array, last: Array) -> Array:
    c = corrected(h, g, last) / h.norm
    m[...] = h.beta1 * m + h.fresh1 * c
    v[...] = h.beta2 * v + h.fresh2 * (c * c)
    last[...] = g
    return h.step_size * m / (np.sqrt(v) * h.inv_root_bias2 + h.eps)


def mars_vector(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    m[...] = h.beta1_1d * m + h.fresh1_1d * g
    v[...] = h.beta2_1d * v + h.fresh2_1d * (g * g)
    return h.step_size_1d * m / (np.sqrt(v) * h.inv_root_bias2_1d + h.eps)


# Adafactor: Shazeer & Stern 2018.  Matrices have means of squares by row, r, and by column, c; vectors a variance each.

def not_below(eps1: Any, like: Array) -> Any:
    return np.finfo(like.dtype).eps if eps1 < 0 else eps1


def capped(x: Array, h: Any) -> Array:
    cap = 1 / not_below(h.eps1, x)
    return np.where(x > cap, cap, x)


def gradient_alone(h: Any, p: Array, g: Array, *s: Array) -> tuple[Array, ...]:
    return (g,)


def adafactor_lines(c: Any, by_row: Array | None, by_column: Array | None, r: Array, q: Array) -> Array:
    """Moves r and q to sums over rows and columns, where they are given; returns what the rule finds as s[0]."""
    real, n, m = r.dtype.type, r.shape[-2], q.shape[-1]
    if by_row is not None and by_column is not None:
        r[...] = towards(r, (by_row / m).astype(real).reshape(r.shape), real(c.newest))
        q[...] = towards(q, (by_column / n).astype(real).reshape(q.shape), real(c.newest))
    mean = (np.add.accumulate(r, axis=-2, dtype=np.float64)[..., -1:, :] / n).astype(real)
    rows = 1 / np.sqrt(r / np.maximum(mean, not_below(real(c.least), r)))
    product: Array = rows * (1 / np.sqrt(q))
    return product


def adafactor(h: Any, p: Array, g: Array, factors: Array) -> Array:
    return g * capped(factors, h)


def adafactor_sizes(h: Any, p: Array, g: Array, factors: Array) -> tuple[Array, ...]:
    return p, adafactor(h, p, g, factors)


def adafactor_vector(h: Any, p: Array, g: Array, v: Array) -> Array:
    return g * capped(1 / np.sqrt(v), h)


def adafactor_vector_sizes(h: Any, p: Array, g: Array, v: Array) -> tuple[Array, ...]:
    v[...] = towards(v, g * g, h.weight)
    return p, adafactor_vector(h, p, g, v)


def adafactor_step(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    size, excess = root(sums[0] / count), root(sums[1] / count) / c.clip
    scale = (size if size > c.relative else c.relative) * c.lr
    own["scale"] = own["against"] = scale / excess if excess > 1 else scale
    return True


# AdamP: Heo et al. 2021.  What comes between is of all rows: their sums, one array of what each keeps, and so on.

def adamp_step(h: Any, g: Array, m: Array, v: Array) -> Array:
    return decayed(h.step_mean * m, h.step_grad, g) / (np.sqrt(v) * h.inv_root_bias2 + h.eps)


def adamp_moments(h: Any, p: Array, g: Array, m: Array, v: Array) -> tuple[Array, ...]:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    return adamp_step(h, g, m, v), p, g, p


def cosine(sums: list[float], least: float) -> float:
    return quotient(abs(sums[1]), larger(least, root(sums[2])) * larger(least, root(sums[3])))


def share_along(sums: list[float], least: float) -> float:
    norm = root(sums[3]) + least
    return -quotient(sums[0], norm * norm)


def adamp_projection(h: Any, c: Any, rows: list[list[float]], length: int, states: Any) -> dict[str, list[float]]:
    whole, largest = [0.0] * 4, 0.0
    for sums in rows:
        largest = larger(largest, cosine(sums, c.least))
        whole = [a + b for a, b in zip(whole, sums, strict=True)]
    if largest < quotient(c.delta, root(length)):
        shares = [share_along(sums, c.least) for sums in rows]
    elif cosine(whole, c.least) < quotient(c.delta, root(length * len(rows))):
        shares = [share_along(whole, c.least)] * len(rows)
    else:
        return {}
    return {"along": shares, "keep": [c.keep_projected] * len(rows)}


def no_projection(h: Any, c: Any, rows: list[list[float]], length: int, states: Any) -> dict[str, list[float]]:
    return {}


def adamp(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    u = adamp_step(h, g, m, v)
    return np.where(h.along != 0, u + h.along * p, u)


# Adam-mini: Zhang et al. 2024.

def adam_mini_moments(h: Any, c: Any, rows: list[list[float]], length: int, states: Any) -> dict[str, Array]:
    [v] = states
    v[...] = h.beta2 * v + h.fresh2 * np.array([sums[0] / length for sums in rows]).astype(v.dtype)
    return {"step_size": h.step_size / (np.sqrt(v) * h.inv_root_bias2 + h.eps)}


def adam_mini(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    m[...] = h.beta1 * m + h.fresh1 * g
    return h.step_size * m


TWO_SQUARES = ("squares", "squares")
FOUR = ("products", "products", *TWO_SQUARES)
LARS = (Pass(lars_norms, TWO_SQUARES, lars_trust),)

RULES: dict[str, Rule] = {
    "lamb": Rule(lamb, (Pass(lamb_moments, TWO_SQUARES, lamb_trust, moves=True),)),
    "lars": Rule(lars, LARS),
    "lars_momentum": Rule(lars_momentum, LARS),
    "lars_nesterov": Rule(lars_nesterov, LARS),
    "stable_adamw": Rule(stable_adamw, (Pass(stable_moments, ("squares",), stable_step, moves=True),)),
    "novograd": Rule(novograd, (Pass(novograd_norm, ("squares",), novograd_size),), own_scalars=1),
    "mars": Rule(mars, (Pass(mars_norm, ("squares",), mars_size),)),
    "mars_vector": Rule(mars_vector),
    "adafactor": Rule(adafactor, (Pass(gradient_alone, ("squares",), adafactor_step, scope="lines"),
                                  Pass(adafactor_sizes, TWO_SQUARES, adafactor_step)), lines=adafactor_lines),
    "adafactor_vector": Rule(adafactor_vector,
                             (Pass(adafactor_vector_sizes, TWO_SQUARES, adafactor_step, moves=True),)),
    "adamp": Rule(adamp, (Pass(adamp_moments, FOUR, adamp_projection, moves=True, scope="rows"),)),
    "adamp_vector": Rule(adamp, (Pass(adamp_moments, FOUR, no_projection, moves=True, scope="rows"),)),
    "adam_mini": Rule(adam_mini, (Pass(gradient_alone, ("squares",), adam_mini_moments, scope="rows"),), row_states=1),
    "adam_mini_elements": Rule(adam),
}
