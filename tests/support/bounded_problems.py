"""Problems with bounds, written from their published formulas: twenty-five, of 2 to 400 unknowns.

HS: Hock & Schittkowski 1981.  MGH: the functions of Moré, Garbow & Hillstrom within bounds as Gay's of 1984.  CUTE:
Bongartz, Conn, Gould & Toint 1995.  MINPACK-2: Averick, Carter, Moré & Xue 1992.  The last few have many active bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .problems import PROBLEMS

Array = np.ndarray
Function = Callable[[Any], tuple[float, Array]]


class Bounded(NamedTuple):
    name: str
    function: Function
    start: Array
    low: Array
    high: Array

    @np.errstate(all="ignore")
    def __call__(self, x: Array) -> tuple[float, Array]:
        return self.function(x)

    def projected(self, x: Array) -> float:
        """max |P(x - g) - x|: 0 at a solution."""
        return float(abs(np.clip(x - self(x)[1], self.low, self.high) - x).max())

    def active(self, x: Array, margin: float = 1e-9) -> Array:
        """At which bound each unknown is: -1, 0 or 1."""
        return (x >= self.high - margin).astype(int) - (x <= self.low + margin)


BOUNDED: list[Bounded] = []


def bounded(name: str, start: object, low: object, high: object) -> Callable[[Function], Function]:
    def enter(function: Function) -> Function:
        x = np.array(start, np.float64)
        BOUNDED.append(Bounded(name, function, x, np.broadcast_to(np.array(low, float), x.shape),
                               np.broadcast_to(np.array(high, float), x.shape)))
        return function

    return enter


# Hock and Schittkowski -----------------------------------------------------------------------------------------------

inf = np.inf


@bounded("HS1", [-2, 1], [-inf, -1.5], inf)
@bounded("HS2", [-2, 1], [-inf, 1.5], inf)
def rosenbrock(x: Array) -> tuple[float, Array]:
    u, v = x[1] - x[0]**2, 1 - x[0]
    return 100 * u**2 + v**2, np.array([-400 * u * x[0] - 2 * v, 200 * u])


@bounded("HS3", [10, 1], [-inf, 0], inf)
def hs3(x: Array) -> tuple[float, Array]:
    u = 1e-5 * (x[1] - x[0])
    return x[1] + u * (x[1] - x[0]), np.array([-2 * u, 1 + 2 * u])


@bounded("HS4", [1.125, 0.125], [1, 0], inf)
def hs4(x: Array) -> tuple[float, Array]:
    return (x[0] + 1)**3 / 3 + x[1], np.array([(x[0] + 1)**2, 1.0])


@bounded("HS5", [0, 0], [-1.5, -3], [4, 3])
def hs5(x: Array) -> tuple[float, Array]:
    c, d = np.cos(x[0] + x[1]), 2 * (x[0] - x[1])
    return np.sin(x[0] + x[1]) + d**2 / 4 - 1.5 * x[0] + 2.5 * x[1] + 1, np.array([c + d - 1.5, c - d + 2.5])


@bounded("HS45", [2, 2, 2, 2, 2], 0, [1, 2, 3, 4, 5])
def hs45(x: Array) -> tuple[float, Array]:
    others = np.array([np.prod(np.delete(x, k)) for k in range(5)])
    return float(2 - np.prod(x) / 120), -others / 120


@bounded("HS110", np.full(10, 9.0), 2.001, 9.999)
def hs110(x: Array) -> tuple[float, Array]:
    a, b, p = np.log(x - 2), np.log(10 - x), np.prod(x)**0.2
    return float((a**2 + b**2).sum() - p), 2 * a / (x - 2) - 2 * b / (10 - x) - 0.2 * p / x


# Functions of the unconstrained set ----------------------------------------------------------------------------------

for title, lower, upper in (
        ("Rosenbrock", [-50, 0], [0.5, 100]), ("Beale", [0.6, 0.5], [10, 100]),
        ("Helical valley", [-100, -1, -1], [0.8, 1, 1]), ("Gaussian", [0.398, 1, -0.5], [4.2, 2, 0.1]),
        ("Box three-dimensional", [0, 5, 0], [2, 9.5, 20]), ("Powell singular", [0.1, -20, -1, -1], [100, 20, 1, 50]),
        ("Wood", -100, [0, 10, 100, 100]), ("Biggs EXP6", [0, 0, 0, 1, 0, 0], [2, 8, 1, 7, 5, 5])):
    free = next(problem for problem in PROBLEMS if problem.name == title)
    bounded(f"{title} in a box", np.clip(free.start, lower, upper), lower, upper)(free)
bounded("HS38", [-3, -1, -3, -1], -10, 10)(next(problem for problem in PROBLEMS if problem.name == "Wood"))


# CUTE ----------------------------------------------------------------------------------------------------------------

@bounded("Generalized Rosenbrock 25", np.full(25, 3.0), np.where(np.arange(25) % 2, -100, 1), 100)
def driver1(x: Array) -> tuple[float, Array]:
    """The example of L-BFGS-B (Zhu, Byrd, Lu & Nocedal 1997)."""
    u, g = x[1:] - x[:-1]**2, np.zeros_like(x)
    g[1:] += 8 * u
    g[:-1] -= 16 * u * x[:-1]
    g[0] += 2 * (x[0] - 1)
    return float((x[0] - 1)**2 + 4 * u @ u), g


@bounded("MCCORMCK 50", np.zeros(50), -1.5, 3)
def mccormck(x: Array) -> tuple[float, Array]:
    a, b, g = x[:-1], x[1:], np.zeros_like(x)
    c, d = np.cos(a + b), 2 * (a - b)
    g[:-1] += -1.5 + d + c
    g[1:] += 2.5 - d + c
    return float((-1.5 * a + 2.5 * b + 1 + d**2 / 4 + np.sin(a + b)).sum()), g


@bounded("BIGGSB1 50", np.zeros(50), 0, np.r_[np.full(49, 0.9), inf])
def biggsb1(x: Array) -> tuple[float, Array]:
    r = np.diff(x, prepend=1, append=1)
    r[0], r[-1] = x[0] - 1, 1 - x[-1]
    return float(r @ r), 2 * (r[:-1] - r[1:])


@bounded("CVXBQP1 100", np.full(100, 0.5), 0.1, 10)
def cvxbqp1(x: Array) -> tuple[float, Array]:
    i = np.arange(1, x.size + 1)
    j, k = (2 * i - 1) % x.size, (3 * i - 1) % x.size
    r, g = x + x[j] + x[k], np.zeros_like(x)
    for at in (i - 1, j, k):
        np.add.at(g, at, i * r)
    return float((i * r**2).sum()) / 2, g


# Fields: quadratic, with bounds that are active in a part of the plane -----------------------------------------------

def dirichlet(v: Array, wx: Array, wy: Array) -> tuple[float, Array]:
    """sum w |difference|^2 / 2 to the right and below, zeros around."""
    p, g = np.pad(v, 1), np.zeros((v.shape[0] + 2, v.shape[1] + 2))
    dx, dy = np.diff(p, axis=1)[1:-1], np.diff(p, axis=0)[:, 1:-1]
    g[1:-1, 1:] += wx * dx
    g[1:-1, :-1] -= wx * dx
    g[1:, 1:-1] += wy * dy
    g[:-1, 1:-1] -= wy * dy
    return float((wx * dx**2).sum() + (wy * dy**2).sum()) / 2, g[1:-1, 1:-1]


SIDE = 20
GRID = np.arange(1, SIDE + 1) / (SIDE + 1)
ONE = np.ones((SIDE, SIDE + 1))


def membrane(x: Array, force: float) -> tuple[float, Array]:
    """|grad v|^2 / 2 - force * v over the unit square."""
    v, h2 = x.reshape(SIDE, SIDE), 1 / (SIDE + 1)**2
    loss, g = dirichlet(v, ONE, ONE.T)
    return float(loss - force * h2 * v.sum()), (g - force * h2).ravel()


def obstacle(a: float, b: float) -> Array:
    return np.ravel(np.sin(a * GRID)[:, None] * np.sin(b * GRID)**3)


@bounded("Obstacle A 400", np.full(SIDE**2, 1.0), obstacle(3.2, 3.3), 2000)
def obstacle_a(x: Array) -> tuple[float, Array]:
    return membrane(x, 1)


@bounded("Obstacle B 400", np.full(SIDE**2, 0.2), obstacle(9.2, 9.3)**3, obstacle(9.2, 9.3)**2 + 0.02)
def obstacle_b(x: Array) -> tuple[float, Array]:
    return membrane(x, 1)


EDGE = np.minimum(np.minimum.outer(GRID, GRID), np.minimum.outer(1 - GRID, 1 - GRID)).ravel()


@bounded("Torsion 400", EDGE, -EDGE, EDGE)
def torsion(x: Array) -> tuple[float, Array]:
    """An elastic-plastic bar."""
    return membrane(x, 5)


@bounded("Journal bearing 400", np.maximum(np.sin(2 * np.pi * np.tile(GRID, (SIDE, 1))), 0).ravel(), 0, inf)
def bearing(x: Array) -> tuple[float, Array]:
    """The pressure in a film of oil, over 2 pi by 20: eccentricity 0.1."""
    hx, hy, v = 2 * np.pi / (SIDE + 1), 20 / (SIDE + 1), x.reshape(SIDE, SIDE)
    film = (1 + 0.1 * np.cos(hx * np.arange(SIDE + 2)))**3
    wx = np.tile((film[1:] + film[:-1]) / 2, (SIDE, 1)) * hy / hx
    wy = np.tile(film[1:-1], (SIDE + 1, 1)) * hx / hy
    loss, g = dirichlet(v, wx, wy)
    force = 0.1 * hx * hy * np.tile(np.sin(hx * np.arange(1, SIDE + 1)), (SIDE, 1))
    return float(loss - (force * v).sum()), (g - force).ravel()


SPIKES = np.zeros(60)
SPIKES[[8, 20, 24, 41, 52]] = 1.0, 0.6, 1.2, 0.8, 0.3
BLUR = np.exp(-np.subtract.outer(np.arange(60), np.arange(60))**2 / 8)


@bounded("Deconvolution 60", np.full(60, 0.1), 0, inf)
def deconvolution(x: Array) -> tuple[float, Array]:
    """Nonnegative least squares: spikes, blurred, with ripples for noise."""
    r = BLUR @ (x - SPIKES) - 0.02 * np.sin(7 * np.arange(60))
    return float(r @ r), 2 * BLUR @ r
