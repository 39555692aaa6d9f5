"""A second set of unconstrained problems, which no constant was tuned on: most are from CUTE, up to 1,000 unknowns.

Each function returns the loss and its gradient, written by hand.  Starting points and minima are the published ones;
where a minimum has no closed form, it was computed to twelve digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from support.problems import Array, within

Function = Callable[[Array], tuple[float, Array]]


class Known(NamedTuple):
    name: str
    function: Function
    start: Array
    minima: tuple[float, ...]

    @np.errstate(all="ignore")                   # far trials overflow: searches must bear it
    def __call__(self, x: Array) -> tuple[float, Array]:
        return self.function(x)

    def solved(self, loss: float, gradient: Array) -> bool:
        return within(self.minima, loss, gradient)


MORE: list[Known] = []


def known(name: str, start: object, *minima: float) -> Callable[[Function], Function]:
    def enter(function: Function) -> Function:
        MORE.append(Known(name, function, np.array(start, np.float64), minima))
        return function

    return enter


def count(x: Array) -> Array:
    return np.arange(1, x.size + 1)


# Valleys -------------------------------------------------------------------------------------------------------------

@known("Extended Rosenbrock 1000", np.tile([-1.2, 1], 500), 0)
def extended_rosenbrock(x: Array) -> tuple[float, Array]:
    u, v, g = x[1::2] - x[::2]**2, 1 - x[::2], np.empty_like(x)
    g[1::2], g[::2] = 200 * u, -400 * u * x[::2] - 2 * v
    return (100 * u**2 + v**2).sum(), g


@known("Chained Rosenbrock 50", np.tile([-1.2, 1], 25), 0, 3.98662385437)
@known("Fletcher's chained Rosenbrock 100", np.zeros(100), 0)
def chained_rosenbrock(x: Array) -> tuple[float, Array]:
    u, v, g = x[1:] - x[:-1]**2, 1 - x[:-1], np.zeros_like(x)
    g[1:] += 200 * u
    g[:-1] -= 400 * u * x[:-1] + 2 * v
    return (100 * u**2 + v**2).sum(), g


@known("Extended Wood 400", np.tile([-3, -1, -3, -1], 100), 0)
def extended_wood(x: Array) -> tuple[float, Array]:
    a, b, c, d = x.reshape(-1, 4).T
    u, v, p, q = b - a**2, d - c**2, b + d - 2, b - d
    loss = 100 * u**2 + (1 - a)**2 + 90 * v**2 + (1 - c)**2 + 10 * p**2 + q**2 / 10
    return loss.sum(), np.stack([-400 * a * u - 2 * (1 - a), 200 * u + 20 * p + q / 5,
                                 -360 * c * v - 2 * (1 - c), 180 * v + 20 * p - q / 5], axis=1).ravel()


@known("LIARWHD 1000", np.full(1000, 4), 0)
def liarwhd(x: Array) -> tuple[float, Array]:
    u, v = x**2 - x[0], x - 1
    g = 16 * u * x + 2 * v
    g[0] -= 8 * u.sum()
    return (4 * u**2 + v**2).sum(), g


@known("NONDIA 1000", np.full(1000, -1), 0)
def nondia(x: Array) -> tuple[float, Array]:
    u, g = x[0] - x[:-1]**2, np.zeros_like(x)
    g[:-1] = -400 * u * x[:-1]
    g[0] += 2 * (x[0] - 1) + 200 * u.sum()
    return (x[0] - 1)**2 + 100 * (u**2).sum(), g


@known("Dixon and Price 25", np.ones(25), 0, 2 / 3)
def dixon_price(x: Array) -> tuple[float, Array]:
    i, u, g = count(x)[1:], 2 * x[1:]**2 - x[:-1], np.zeros_like(x)
    g[1:] = 8 * i * u * x[1:]
    g[:-1] -= 2 * i * u
    g[0] += 2 * (x[0] - 1)
    return (x[0] - 1)**2 + (i * u**2).sum(), g


@known("Himmelblau", [1, 1], 0)
@known("Himmelblau from (-4, 4)", [-4, 4], 0)
def himmelblau(x: Array) -> tuple[float, Array]:
    u, v = x[0]**2 + x[1] - 11, x[0] + x[1]**2 - 7
    return u**2 + v**2, np.array([4 * x[0] * u + 2 * v, 2 * u + 4 * x[1] * v])


@known("Beale from (4, -1)", [4, -1], 0)
@known("Beale from (-2, -2)", [-2, -2], 0)
def beale(x: Array) -> tuple[float, Array]:
    k = np.arange(1, 4)
    r = np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1]**k)
    return (r**2).sum(), np.array([-2 * (r * (1 - x[1]**k)).sum(), 2 * x[0] * (r * k * x[1]**(k - 1)).sum()])


# Separable or banded, many unknowns ----------------------------------------------------------------------------------

def dixmaan(alpha: float, beta: float, gamma: float, delta: float) -> Function:
    def function(x: Array) -> tuple[float, Array]:
        m, g = x.size // 3, 2 * alpha * x
        a, b, c = x[:-1], x[1:], x[1:] + x[1:]**2
        loss = 1 + alpha * (x**2).sum() + beta * (a**2 * c**2).sum()
        g[:-1] += 2 * beta * a * c**2
        g[1:] += 2 * beta * a**2 * c * (1 + 2 * b)
        p, q = x[:2 * m], x[m:]
        loss = loss + gamma * (p**2 * q**4).sum() + delta * (x[:m] * x[2 * m:]).sum()
        g[:2 * m] += 2 * gamma * p * q**4
        g[m:] += 4 * gamma * p**2 * q**3
        g[:m] += delta * x[2 * m:]
        g[2 * m:] += delta * x[:m]
        return loss, g

    return function


for letter, constants in {"A": (1, 0, 0.125, 0.125), "B": (1, 0.0625, 0.0625, 0.0625), "C": (1, 0.125, 0.125, 0.125),
                          "D": (1, 0.26, 0.26, 0.26)}.items():
    known(f"DIXMAAN{letter} 300", np.full(300, 2), 1)(dixmaan(*constants))


@known("ENGVAL1 1000", np.full(1000, 2), 1108.19471879)
def engval(x: Array) -> tuple[float, Array]:
    u, g = x[:-1]**2 + x[1:]**2, np.zeros_like(x)
    g[:-1] = 4 * u * x[:-1] - 4
    g[1:] += 4 * u * x[1:]
    return (u**2 - 4 * x[:-1] + 3).sum(), g


@known("ARWHEAD 1000", np.ones(1000), 0)
def arwhead(x: Array) -> tuple[float, Array]:
    u, g = x[:-1]**2 + x[-1]**2, np.zeros_like(x)
    g[:-1] = 4 * u * x[:-1] - 4
    g[-1] = 4 * u.sum() * x[-1]
    return (u**2 - 4 * x[:-1] + 3).sum(), g


@known("EDENSCH 200", np.zeros(200), 1203.28459202)
def edensch(x: Array) -> tuple[float, Array]:
    a, b, g = x[:-1], x[1:], np.zeros_like(x)
    u = a * b - 2 * b
    g[:-1] = 4 * (a - 2)**3 + 2 * u * b
    g[1:] += 2 * u * (a - 2) + 2 * (b + 1)
    return 16 + ((a - 2)**4 + u**2 + (b + 1)**2).sum(), g


@known("BDQRTIC 100", np.ones(100), 378.769191809)
def bdqrtic(x: Array) -> tuple[float, Array]:
    m, weights = x.size - 4, (1, 2, 3, 4, 5)
    parts = [x[k:k + m] for k in range(4)] + [np.broadcast_to(x[-1:], m)]
    u, v, g = 3 - 4 * parts[0], sum(w * p**2 for w, p in zip(weights, parts, strict=True)), np.zeros_like(x)
    g[:m] -= 8 * u
    for k in range(4):
        g[k:k + m] += 4 * weights[k] * v * parts[k]
    g[-1] += (20 * v * parts[4]).sum()
    return (u**2 + v**2).sum(), g


@known("CRAGGLVY 100", np.r_[1, np.full(99, 2)], 32.2699114586)
def cragglvy(x: Array) -> tuple[float, Array]:
    a, b, c, d = x[:-3:2], x[1:-2:2], x[2:-1:2], x[3::2]
    e, u, v, w, g = np.exp(a) - b, b - c, c - d, d - 1, np.zeros_like(x)
    t = np.tan(v) + v
    slope = 4 * t**3 * (2 + np.tan(v)**2)
    g[:-3:2] += 4 * e**3 * np.exp(a) + 8 * a**7
    g[1:-2:2] += -4 * e**3 + 600 * u**5
    g[2:-1:2] += -600 * u**5 + slope
    g[3::2] += -slope + 2 * w
    return (e**4 + 100 * u**6 + t**4 + a**8 + w**2).sum(), g


@known("COSINE 100", np.ones(100), -99)
def cosine(x: Array) -> tuple[float, Array]:
    u, g = x[:-1]**2 - x[1:] / 2, np.zeros_like(x)
    g[:-1] = -2 * np.sin(u) * x[:-1]
    g[1:] += np.sin(u) / 2
    return np.cos(u).sum(), g


@known("Quartic 100", np.full(100, 2), 0)
def quartic(x: Array) -> tuple[float, Array]:
    u = x - count(x)
    return (u**4).sum(), 4 * u**3


@known("Raydan's second 100", np.ones(100), 505)
def raydan(x: Array) -> tuple[float, Array]:
    w = count(x) / 10
    return (w * (np.exp(x) - x)).sum(), w * (np.exp(x) - 1)


# Quadratic forms -----------------------------------------------------------------------------------------------------

@known("TRIDIA 200", np.ones(200), 0)
def tridia(x: Array) -> tuple[float, Array]:
    i, u, g = count(x)[1:], 2 * x[1:] - x[:-1], np.zeros_like(x)
    g[0] = 2 * (x[0] - 1)
    g[1:] += 4 * i * u
    g[:-1] -= 2 * i * u
    return (x[0] - 1)**2 + (i * u**2).sum(), g


@known("POWER 100", np.ones(100), 0)
def power(x: Array) -> tuple[float, Array]:
    i = count(x)
    total = (i * x**2).sum()
    return total**2, 4 * total * i * x


@known("Trid 30", np.zeros(30), -30 * 34 * 29 / 6)
def trid(x: Array) -> tuple[float, Array]:
    g = 2 * (x - 1)
    g[1:] -= x[:-1]
    g[:-1] -= x[1:]
    return ((x - 1)**2).sum() - (x[1:] * x[:-1]).sum(), g


@known("Zakharov 20", np.ones(20), 0)
def zakharov(x: Array) -> tuple[float, Array]:
    w = count(x) / 2
    total = w @ x
    return (x**2).sum() + total**2 + total**4, 2 * x + (2 * total + 4 * total**3) * w


@known("Hilbert 8", np.full(8, -3), 0)
def hilbert(x: Array) -> tuple[float, Array]:
    i = count(x)
    product = (1 / (i[:, None] + i - 1)) @ x
    return x @ product, 2 * product


# Statistics ----------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((300, 40)) * np.logspace(-1, 1, 40)
LABELS = (FEATURES @ RNG.standard_normal(40) / 5 + RNG.standard_normal(300) > 0).astype(np.float64)
COUNTS = RNG.poisson(np.exp(0.02 * FEATURES.sum(axis=1))).astype(np.float64)


@known("Logistic regression 40", np.zeros(40), 19.0719409214)
def logistic(x: Array) -> tuple[float, Array]:
    z = FEATURES @ x
    return ((np.log(1 + np.exp(z)) - LABELS * z).sum() + 0.05 * (x**2).sum(),
            FEATURES.T @ (1 / (1 + np.exp(-z)) - LABELS) + 0.1 * x)


@known("Poisson regression 40", np.zeros(40), 266.522753263)
def poisson(x: Array) -> tuple[float, Array]:
    z = FEATURES @ x
    return (np.exp(z) - COUNTS * z).sum() + 0.05 * (x**2).sum(), FEATURES.T @ (np.exp(z) - COUNTS) + 0.1 * x
