"""Rules that are a formula for one element."""

from __future__ import annotations

from typing import Any

import numpy as np

from .rule import Array, Rule, decayed, sign, towards

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


# The running mean of parameters: Polyak & Juditsky 1992; Izmailov et al. 2018.

def mean(h: Any, a: Array, p: Array) -> None:
    a[...] = towards(a, p, h.weight)


# AdaBelief: Zhuang et al. 2020.

def adabelief(h: Any, p: Array, g: Array, m: Array, s: Array) -> Array:
    m[...] = h.beta1 * m + h.fresh1 * g
    surprise = g - m
    s[...] = h.beta2 * s + h.fresh2 * (surprise * surprise) + h.eps
    return h.step_size * m / (np.sqrt(s) * h.inv_root_bias2 + h.eps)


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


# What whole-matrix methods apply.

def descend(h: Any, p: Array, g: Array) -> Array:
    return h.step_size * g


RULES: dict[str, Rule] = {
    **{rule.__name__: Rule(rule) for rule in (
        sgd, momentum, nesterov, adam, amsgrad, adam_root, amsgrad_root, adagrad, adadelta, adamax, nadam, radam,
        rmsprop, rmsprop_centered, rmsprop_momentum, rmsprop_centered_momentum, rprop, adabelief, lion, adopt,
        adopt_first, laprop, adan, ademamix, schedule_free_sgd, schedule_free_adam, descend)},
    "mean": Rule(mean, whole=True),
    "asgd": Rule(asgd, whole=True),
}
