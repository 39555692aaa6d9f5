"""Every rule in plain NumPy: the formulas that anybody can read, once more.

A rule takes the finished coefficients `h` (each cast once to the arrays' type), the parameter, the finished gradient
and the state arrays, in the order in which the optimizer's `rule` names them.  It moves the state and returns the
update, which is subtracted from the parameter; few rules write the parameter themselves.

A pass before the last returns numbers for each element.  They are combined over a tensor or over more, and a function
of float64 coefficients `c`, of the sums and of their count makes the tensor's own numbers of them: `keep` and `scale`
in p = keep * p - scale * update; `against`, which takes the place of `scale` where update and gradient don't have the
same sign; and fields of `h`.  It may move scalars of state, given as a list: the tensor's own, or those of a group.  It
returns False to cancel the last pass; scalars then stand still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .sums import larger

Array = Any      # of elements, as are the bounds that tests compute with


class Pass(NamedTuple):
    """One that measures, before the last."""

    measure: Callable[..., tuple[Array, ...]]
    how: tuple[str, ...]                 # "sum", "squares", "products" (with the number after it), "largest"
    between: Callable[..., Any]          # of rows: what each row's own numbers are; else whether to go on
    moves: bool = False                  # it stores the state that it has moved
    scope: str = "tensor"                # or "group", "everything", "rows"; "lines": squares by row and by column
    of_update: bool = False              # it measures the update that the last pass will make


class Rule(NamedTuple):
    update: Callable[..., Any]
    passes: tuple[Pass, ...] = ()
    whole: bool = False                  # writes the parameter itself
    lines: Callable[..., Array] | None = None        # what the rule finds in the place of a state: row times column
    own_scalars: int = 0                 # scalars of state, the last, that a pass moves for each tensor
    row_states: int = 0                  # state arrays, the last, with a number for each row


def towards(a: Array, b: Array, weight: Any) -> Array:
    """A choice, since a + 1 * (b - a) is not b but b rounded."""
    return b if weight == 1 else a + weight * (b - a)


def decayed(g: Array, decay: Any, p: Array) -> Array:
    return g + decay * p if decay != 0 else g


def root(x: float) -> float:
    return float(np.sqrt(np.float64(x)))


def quotient(a: float, b: float) -> float:
    return float(np.float64(a) / np.float64(b))


# SGD, momentum and Nesterov's: Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013.

def sgd(h: Any, p: Array, g: Array) -> Array:
    return h.lr * g


def momentum(h: Any, p: Array, g: Array, b: Array) -> Array:
    b[...] = h.momentum * b + h.fresh * g
    return h.lr * b


def nesterov(h: Any, p: Array, g: Array, b: Array) -> Array:
    b[...] = h.momentum * b + h.fresh * g
    return h.lr * (g + h.momentum * b)


# Adam and AdamW: Kingma & Ba 2015; Loshchilov & Hutter 2019; AMSGrad: Reddi et al. 2018.

def adam_moments(h: Any, g: Array, m: Array, v: Array) -> None:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)


def adam_update(h: Any, m: Array, v: Array) -> Array:
    return h.step_size * m / (np.sqrt(v) * h.inv_root_bias2 + h.eps)


def adam(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    adam_moments(h, g, m, v)
    return adam_update(h, m, v)


def amsgrad(h: Any, p: Array, g: Array, m: Array, v: Array, largest: Array) -> Array:
    adam_moments(h, g, m, v)
    largest[...] = np.maximum(largest, v)
    return adam_update(h, m, largest)


def adam_root(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    adam_moments(h, g, m, v)
    return adam_update(h, m, v + h.eps_root)


def amsgrad_root(h: Any, p: Array, g: Array, m: Array, v: Array, largest: Array) -> Array:
    adam_moments(h, g, m, v)
    largest[...] = np.maximum(largest, v)
    return adam_update(h, m, largest + h.eps_root)


# The running mean of parameters: Polyak & Juditsky 1992; Izmailov et al. 2018.

def mean(h: Any, a: Array, p: Array) -> None:
    a[...] = towards(a, p, h.weight)


# Adagrad: Duchi, Hazan & Singer 2011.

def adagrad(h: Any, p: Array, g: Array, s: Array) -> Array:
    s[...] = s + g * g
    return h.step_size * g / (np.sqrt(s) + h.eps)


# Adadelta: Zeiler 2012.

def adadelta(h: Any, p: Array, g: Array, v: Array, u: Array) -> Array:
    v[...] = h.rho * v + h.fresh * (g * g)
    delta = np.sqrt(u + h.eps) / np.sqrt(v + h.eps) * g
    u[...] = h.rho * u + h.fresh * (delta * delta)
    return h.lr * delta


# Adamax: Kingma & Ba 2015.

def adamax(h: Any, p: Array, g: Array, m: Array, u: Array) -> Array:
    m[...] = h.beta1 * m + h.fresh1 * g
    u[...] = np.maximum(h.beta2 * u, abs(g) + h.eps)
    return h.step_size * m / u


# NAdam: Dozat 2016.

def nadam(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    return (h.step_grad * g + h.step_mean * m) / (np.sqrt(v) * h.inv_root_bias2 + h.eps)


# RAdam: Liu et al. 2020.

def radam(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    return h.step_size * m / (np.sqrt(v) + h.eps if h.rectified else 1)


# RMSprop, centered and with momentum: Tieleman & Hinton 2012; Graves 2013.

def rmsprop(h: Any, p: Array, g: Array, v: Array) -> Array:
    v[...] = h.alpha * v + h.fresh * (g * g)
    return h.lr * g / (np.sqrt(v) + h.eps)


def rmsprop_momentum(h: Any, p: Array, g: Array, v: Array, b: Array) -> Array:
    v[...] = h.alpha * v + h.fresh * (g * g)
    b[...] = h.momentum * b + g / (np.sqrt(v) + h.eps)
    return h.lr * b


def rmsprop_centered(h: Any, p: Array, g: Array, v: Array, a: Array) -> Array:
    v[...] = h.alpha * v + h.fresh * (g * g)
    a[...] = h.alpha * a + h.fresh * g
    return h.lr * g / (np.sqrt(np.maximum(v - a * a, 0)) + h.eps)


def rmsprop_centered_momentum(h: Any, p: Array, g: Array, v: Array, a: Array, b: Array) -> Array:
    v[...] = h.alpha * v + h.fresh * (g * g)
    a[...] = h.alpha * a + h.fresh * g
    b[...] = h.momentum * b + g / (np.sqrt(np.maximum(v - a * a, 0)) + h.eps)
    return h.lr * b


# Rprop: Riedmiller & Braun 1993; Igel & Hüsken 2000.

def sign(x: Array) -> Any:
    """torch's sign: 0 for NaN."""
    return np.subtract(x > 0, x < 0, dtype=x.dtype)


def rprop(h: Any, p: Array, g: Array, prev: Array, size: Array) -> Array:
    agreement = g * prev
    grown = np.where(agreement > 0, h.grow, np.where(agreement < 0, h.shrink, g.dtype.type(1))) * size
    grown = np.where(grown > h.least, grown, h.least)
    size[...] = np.where(grown < h.most, grown, h.most)
    prev[...] = np.where(agreement < 0, 0, g)
    return sign(prev) * size


# ASGD: Polyak & Juditsky 1992; Bottou 2010.

def asgd(h: Any, p: Array, g: Array, ax: Array) -> None:
    p[...] = h.shrink * p - h.eta * g
    ax[...] = towards(ax, p, h.mu)


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


# AdaBelief: Zhuang et al. 2020.

def adabelief(h: Any, p: Array, g: Array, m: Array, s: Array) -> Array:
    m[...] = h.beta1 * m + h.fresh1 * g
    surprise = g - m
    s[...] = h.beta2 * s + h.fresh2 * (surprise * surprise) + h.eps
    return h.step_size * m / (np.sqrt(s) * h.inv_root_bias2 + h.eps)


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


# Lion: Chen et al. 2023.

def lion(h: Any, p: Array, g: Array, m: Array) -> Array:
    direction = sign(h.beta1 * m + h.fresh1 * g)
    m[...] = h.beta2 * m + h.fresh2 * g
    return h.lr * direction


# ADOPT: Taniguchi et al. 2024.

def adopt(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    u = g / np.maximum(np.sqrt(v), h.eps)
    u = np.where(u > h.most, h.most, u)
    u = np.where(u < -h.most, -h.most, u)
    m[...] = h.beta1 * m + h.fresh1 * u
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    return h.lr * m


def adopt_first(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    v[...] = g * g
    return g.dtype.type(0)


# LaProp: Ziyin, Wang & Ueda 2020.

def laprop(h: Any, p: Array, g: Array, m: Array, v: Array) -> Array:
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    m[...] = h.beta1 * m + h.fresh1 * (g / (np.sqrt(v) * h.inv_root_bias2 + h.eps))
    return h.size * m


# Adan: Xie et al. 2022.

def adan(h: Any, p: Array, g: Array, m: Array, n: Array, d: Array, before: Array) -> Array:
    change = g + before if h.seen != 0 else g.dtype.type(0)
    ahead = g + h.beta2 * change
    m[...] = h.beta1 * m + h.fresh1 * g
    n[...] = h.beta3 * n + h.fresh3 * (ahead * ahead)
    d[...] = h.beta2 * d + h.fresh2 * change
    before[...] = -g
    return (h.step_mean * m + h.step_change * d) / (np.sqrt(n) * h.inv_root_bias3 + h.eps)


# AdEMAMix: Pagliardini, Ablin & Grangier 2024.

def ademamix(h: Any, p: Array, g: Array, fast: Array, slow: Array, v: Array) -> Array:
    fast[...] = h.beta1 * fast + h.fresh1 * g
    slow[...] = h.beta3 * slow + h.fresh3 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    return (h.step_fast * fast + h.step_slow * slow) / (np.sqrt(v) * h.inv_root_bias2 + h.eps)


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


# Schedule-Free: Defazio et al. 2024.  The parameter is y.

def towards_base(h: Any, y: Array, u: Array, z: Array) -> Array:
    base = y if h.first != 0 else z
    update = h.newest * (y - base) + h.pull * u
    z[...] = base - h.lr * u
    return update


def schedule_free_sgd(h: Any, y: Array, g: Array, z: Array) -> Array:
    return towards_base(h, y, g, z)


def schedule_free_adam(h: Any, y: Array, g: Array, z: Array, v: Array) -> Array:
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    u = g / (np.sqrt(v) * h.inv_root_bias2 + h.eps) if h.normalized != 0 else g
    return towards_base(h, y, decayed(u, h.decay, y), z)


# Prodigy: Mishchenko & Defazio 2023.  D-Adaptation: Defazio & Mishchenko 2023.

def prodigy_moments(h: Any, p: Array, g: Array, s: Array, p0: Array, m: Array, v: Array) -> tuple[Array, ...]:
    if h.first != 0:
        p0[...] = p
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    s[...] = h.beta3 * s + h.fresh3 * g
    return h.counts * abs(s), h.gain * g, p0 - p


def prodigy_distance(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    d, numerator = moved[0], c.keep_numerator * moved[1] + sums[1]
    if sums[0] == 0:
        return False
    found = quotient(c.d_coef * numerator, sums[0])
    if d == c.d0 and found > d:
        d = found
    largest = found if found > moved[2] else moved[2]
    d = d * c.growth_rate
    moved[:] = d if d < largest else largest, numerator, largest
    own["d_eps"] = moved[0] * c.eps
    return True


def prodigy(h: Any, p: Array, g: Array, s: Array, p0: Array, m: Array, v: Array) -> Array:
    return h.rate * m / (np.sqrt(v) + h.d_eps)


def dadapt_adam_moments(h: Any, p: Array, g: Array, s: Array, m: Array, v: Array) -> tuple[Array, ...]:
    before = s / (np.sqrt(v) + h.eps)
    m[...] = h.beta1 * m + h.fresh1 * g
    v[...] = h.beta2 * v + h.fresh2 * (g * g)
    s[...] = h.beta3 * s + h.fresh3 * g
    return h.counts * abs(s), h.gain * g, before


def dadapt_distance(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    numerator, most = c.keep_numerator * moved[1] + c.fresh_numerator * sums[1], moved[0] * c.growth_rate
    if sums[0] == 0:
        return False
    found = quotient(numerator, c.fresh_numerator * sums[0])
    found = most if most < found else found
    moved[:] = found if found > moved[0] else moved[0], numerator
    return True


def dadapt_adam(h: Any, p: Array, g: Array, s: Array, m: Array, v: Array) -> Array:
    return h.moves * m / (np.sqrt(v) + h.eps)


# DoG and L-DoG: Ivgi, Hinder & Carmon 2023.

def dog_distance(h: Any, p: Array, g: Array, start: Array) -> tuple[Array, ...]:
    if h.first != 0:
        start[...] = p
    return g, p - start, p


def dog_rate(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    begins, distance, squares = moved[1] == 0, root(sums[1]), moved[1] + sums[0]
    if begins:
        distance, squares = c.reps_rel * (1.0 + root(sums[2])), squares + c.eps
    if squares == 0:
        return False
    moved[:] = distance if distance > moved[0] else moved[0], squares
    rate = quotient(c.lr * moved[0], root(squares))
    if begins and c.init_eta > 0:
        moved[0], rate = 0.0, c.init_eta
    own["scale"] = own["against"] = rate
    return True


def dog(h: Any, p: Array, g: Array, start: Array) -> Array:
    return g


# Cautious updates: Liang et al. 2024.

def agreement(h: Any, u: Array, g: Array) -> tuple[Array, ...]:
    return ((sign(u) * sign(g) > 0).astype(u.dtype),)


def larger_for_it(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    own["scale"] = own["scale"] / max(sums[0] / count, 1e-3)
    own["against"] = 0.0
    return True


# Updates of a limited root mean square: Shazeer & Stern 2018.

def sizes_of_update(h: Any, u: Array, g: Array) -> tuple[Array, ...]:
    [counts] = agreement(h, u, g)
    return counts, u, counts * u


def within_limit(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    if c.masked:
        larger_for_it(c, sums, count, moved, own)
    rms = own["scale"] * root(sums[2 if c.masked else 1] / count)
    if rms > c.largest_rms:
        own["scale"] = own["scale"] * quotient(c.largest_rms, rms)
        own["against"] = 0.0 if c.masked else own["scale"]
    return True


# What passes measure, for tests.

def probe_numbers(h: Any, p: Array, g: Array, *s: Array) -> tuple[Array, ...]:
    return g, g, g, p


def probe_between(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    own.update({f"number{k}": value for k, value in enumerate(sums)})
    if sums[0] < c.least:
        return False
    if moved:
        moved[0] = moved[0] + sums[0]
    return True


def probe(h: Any, p: Array, g: Array, *s: Array) -> Array:
    for k, array in enumerate(s):
        array[...] = getattr(h, f"number{k}")
    return g


# What whole-matrix methods apply.

def descend(h: Any, p: Array, g: Array) -> Array:
    return h.step_size * g


TWO_SQUARES = ("squares", "squares")
THREE_SQUARES = ("squares", "squares", "squares")
FOUR = ("products", "products", *TWO_SQUARES)
SUM_AND_PRODUCTS = ("sum", "products")
PROBED = ("sum", "squares", "products", "largest")
LARS = (Pass(lars_norms, TWO_SQUARES, lars_trust),)

RULES: dict[str, Rule] = {
    **{rule.__name__: Rule(rule) for rule in (
        sgd, momentum, nesterov, adam, amsgrad, adam_root, amsgrad_root, adagrad, adadelta, adamax, nadam, radam,
        rmsprop, rmsprop_centered, rmsprop_momentum, rmsprop_centered_momentum, rprop, adabelief, lion, adopt,
        adopt_first, laprop, adan, ademamix, mars_vector, schedule_free_sgd, schedule_free_adam, descend)},
    "mean": Rule(mean, whole=True),
    "asgd": Rule(asgd, whole=True),
    "lamb": Rule(lamb, (Pass(lamb_moments, TWO_SQUARES, lamb_trust, moves=True),)),
    "lars": Rule(lars, LARS),
    "lars_momentum": Rule(lars_momentum, LARS),
    "lars_nesterov": Rule(lars_nesterov, LARS),
    "stable_adamw": Rule(stable_adamw, (Pass(stable_moments, ("squares",), stable_step, moves=True),)),
    "adafactor": Rule(adafactor, (Pass(gradient_alone, ("squares",), adafactor_step, scope="lines"),
                                  Pass(adafactor_sizes, TWO_SQUARES, adafactor_step)), lines=adafactor_lines),
    "adafactor_vector": Rule(adafactor_vector,
                             (Pass(adafactor_vector_sizes, TWO_SQUARES, adafactor_step, moves=True),)),
    "novograd": Rule(novograd, (Pass(novograd_norm, ("squares",), novograd_size),), own_scalars=1),
    "adamp": Rule(adamp, (Pass(adamp_moments, FOUR, adamp_projection, moves=True, scope="rows"),)),
    "adamp_vector": Rule(adamp, (Pass(adamp_moments, FOUR, no_projection, moves=True, scope="rows"),)),
    "adam_mini": Rule(adam_mini, (Pass(gradient_alone, ("squares",), adam_mini_moments, scope="rows"),), row_states=1),
    "adam_mini_elements": Rule(adam),
    "mars": Rule(mars, (Pass(mars_norm, ("squares",), mars_size),)),
    "prodigy": Rule(prodigy, (Pass(prodigy_moments, SUM_AND_PRODUCTS, prodigy_distance, moves=True,
                                   scope="everything"),)),
    "dadapt_adam": Rule(dadapt_adam, (Pass(dadapt_adam_moments, SUM_AND_PRODUCTS, dadapt_distance, moves=True,
                                           scope="everything"),)),
    "dog": Rule(dog, (Pass(dog_distance, THREE_SQUARES, dog_rate, moves=True, scope="group"),)),
    "ldog": Rule(dog, (Pass(dog_distance, THREE_SQUARES, dog_rate, moves=True),), own_scalars=2),
    **{f"probe_{scope}": Rule(probe, (Pass(probe_numbers, PROBED, probe_between, scope=scope),))
       for scope in ("tensor", "group", "everything")},
    "probe_own": Rule(probe, (Pass(probe_numbers, PROBED, probe_between),), own_scalars=1),
}
MODIFIERS = {"cautious": Pass(agreement, ("sum",), larger_for_it, of_update=True),
             "limited": Pass(sizes_of_update, ("sum", *TWO_SQUARES), within_limit, of_update=True)}
