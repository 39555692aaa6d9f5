"""Rules that make their rate of how far the parameters have come."""

from __future__ import annotations

from typing import Any

import numpy as np

from .rule import Array, Pass, Rule, quotient, root

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


SUM_AND_PRODUCTS = ("sum", "products")
THREE_SQUARES = ("squares", "squares", "squares")

RULES: dict[str, Rule] = {
    "prodigy": Rule(prodigy, (Pass(prodigy_moments, SUM_AND_PRODUCTS, prodigy_distance, moves=True,
                                   scope="everything"),)),
    "dadapt_adam": Rule(dadapt_adam, (Pass(dadapt_adam_moments, SUM_AND_PRODUCTS, dadapt_distance, moves=True,
                                           scope="everything"),)),
    "dog": Rule(dog, (Pass(dog_distance, THREE_SQUARES, dog_rate, moves=True, scope="group"),)),
    "ldog": Rule(dog, (Pass(dog_distance, THREE_SQUARES, dog_rate, moves=True),), own_scalars=2),
}
