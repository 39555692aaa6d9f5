"""The 35 problems of Moré, Garbow & Hillstrom 1981: residuals, standard starting points, known minima.

Each is a sum of squares of the residuals.  Their Jacobian comes from complex steps, which are exact to rounding.  A
problem with several local minima names all that are known.  They stand in the paper's order, with its numbers of
unknowns where those are fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .nist import NIST

Array = np.ndarray


def within(minima: tuple[float, ...], loss: float, gradient: Array) -> bool:
    """At a stationary point to 1e-6, or at a known minimum to 1e-8 of its value (of 1 if that is less)."""
    if not (np.isfinite(loss) and (abs(gradient) < 1e100).all()):
        return False
    return bool(np.linalg.norm(gradient) <= 1e-6
                or any(abs(loss - least) <= 1e-8 * max(1.0, abs(least)) for least in minima))


class Problem(NamedTuple):
    name: str
    residuals: Callable[[Array], Array]
    start: Array
    minima: tuple[float, ...]
    blocks: int = 1              # so many problems side by side: the residual i is one of problem i % blocks

    @np.errstate(all="ignore")                   # far trials overflow: searches must bear it
    def __call__(self, x: Array) -> tuple[float, Array]:
        """The loss and its gradient."""
        x = np.asarray(x, np.float64)
        h, r, n, gradient = 1e-30, self.residuals(x), x.size // self.blocks, np.empty(x.size)
        for k in range(n):
            shifted = x.astype(complex)
            shifted[k::n] += 1j * h
            products = r * (self.residuals(shifted).imag / h)
            gradient[k::n] = 2.0 * products.reshape(-1, self.blocks).sum(axis=0)
        return float(r @ r), gradient

    def solved(self, loss: float, gradient: Array) -> bool:
        return within(self.minima, loss, gradient)


PROBLEMS: list[Problem] = []


def problem(name: str, start: object, *minima: float,
            blocks: int = 1) -> Callable[[Callable[[Array], Array]], Callable[[Array], Array]]:
    def enter(residuals: Callable[[Array], Array]) -> Callable[[Array], Array]:
        PROBLEMS.append(Problem(name, residuals, np.array(start, np.float64), minima, blocks))
        return residuals

    return enter


def grid(n: int) -> Array:
    return np.arange(1, n + 1) / (n + 1)


@problem("Rosenbrock", [-1.2, 1], 0)
def rosenbrock(x: Array) -> Array:
    return np.array([10 * (x[1] - x[0]**2), 1 - x[0]])


@problem("Freudenstein and Roth", [0.5, -2], 0, 48.98425367924)
def freudenstein_roth(x: Array) -> Array:
    return np.array([-13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1], -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]])


@problem("Powell badly scaled", [0, 1], 0)
def powell_badly_scaled(x: Array) -> Array:
    return np.array([1e4 * x[0] * x[1] - 1, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001])


@problem("Brown badly scaled", [1, 1], 0)
def brown_badly_scaled(x: Array) -> Array:
    return np.array([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


@problem("Beale", [1, 1], 0)
def beale(x: Array) -> Array:
    return np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1]**np.arange(1, 4))


@problem("Jennrich and Sampson", [0.3, 0.4], 124.36218235562)
def jennrich_sampson(x: Array) -> Array:
    i = np.arange(1, 11)
    return 2 + 2 * i - (np.exp(i * x[0]) + np.exp(i * x[1]))


@problem("Helical valley", [-1, 0, 0], 0)
def helical_valley(x: Array) -> Array:
    theta = np.arctan(x[1] / x[0]) / (2 * np.pi) + (0.5 if x[0].real < 0 else 0.0)
    return np.array([10 * (x[2] - 10 * theta), 10 * (np.sqrt(x[0]**2 + x[1]**2) - 1), x[2]])


@problem("Bard", [1, 1, 1], 8.214877306578e-3, 17.42869333333)
def bard(x: Array) -> Array:
    y = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])
    u = np.arange(1, 16)
    v = 16 - u
    return y - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


@problem("Gaussian", [0.4, 1, 0], 1.127932769619e-8)
def gaussian(x: Array) -> Array:
    half = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]
    t = (8 - np.arange(1, 16)) / 2
    return x[0] * np.exp(-x[1] * (t - x[2])**2 / 2) - np.array([*half, 0.3989, *half[::-1]])


@problem("Meyer", NIST["MGH10"].starts[1], NIST["MGH10"].rss)
def meyer(x: Array) -> Array:
    return NIST["MGH10"].residuals(x)            # of the same data


@problem("Gulf research", [5, 2.5, 0.15], 0)
def gulf_research(x: Array) -> Array:
    t = np.arange(1, 100) / 100
    y = 25 + (-50 * np.log(t))**(2 / 3)
    return np.exp(-((y - x[1])**2)**(x[2] / 2) / x[0]) - t


@problem("Box three-dimensional", [0, 10, 20], 0)
def box(x: Array) -> Array:
    t = np.arange(1, 11) / 10
    return np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


@problem("Powell singular", [3, -1, 0, 1], 0)
def powell_singular(x: Array) -> Array:
    return np.array([x[0] + 10 * x[1], np.sqrt(5) * (x[2] - x[3]), (x[1] - 2 * x[2])**2,
                     np.sqrt(10) * (x[0] - x[3])**2])


@problem("Wood", [-3, -1, -3, -1], 0)
def wood(x: Array) -> Array:
    return np.array([10 * (x[1] - x[0]**2), 1 - x[0], np.sqrt(90) * (x[3] - x[2]**2), 1 - x[2],
                     np.sqrt(10) * (x[1] + x[3] - 2), (x[1] - x[3]) / np.sqrt(10)])


@problem("Kowalik and Osborne", [0.25, 0.39, 0.415, 0.39], 3.075056038492e-4)
def kowalik_osborne(x: Array) -> Array:
    y = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
    u = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


@problem("Brown and Dennis", [25, 5, -5, -1], 85822.20162635)
def brown_dennis(x: Array) -> Array:
    t = np.arange(1, 21) / 5
    return (x[0] + t * x[1] - np.exp(t))**2 + (x[2] + x[3] * np.sin(t) - np.cos(t))**2


@problem("Osborne 1", NIST["MGH17"].starts[1], NIST["MGH17"].rss)
def osborne_1(x: Array) -> Array:
    return NIST["MGH17"].residuals(x)            # of the same data


@problem("Biggs EXP6", [1, 2, 1, 1, 1, 1], 0, 5.65564992551e-3)
def biggs(x: Array) -> Array:
    t = np.arange(1, 14) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + x[5] * np.exp(-t * x[4]) - y


@problem("Osborne 2", [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5], 4.013773629e-2)
def osborne_2(x: Array) -> Array:
    y = np.array([
        1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606,
        0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423,
        0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668,
        0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098,
        0.054])
    t = np.arange(65) / 10
    peaks = x[1:4] * np.exp(-(t[:, None] - x[8:])**2 * x[5:8])
    return y - x[0] * np.exp(-t * x[4]) - peaks.sum(axis=1)


@problem("Watson 6", np.zeros(6), 2.28767005355e-3)
def watson(x: Array) -> Array:
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(x.size)
    slope = (j[1:] * t**(j[1:] - 1)) @ x[1:]
    return np.concatenate([slope - ((t**j) @ x)**2 - 1, [x[0], x[1] - x[0]**2 - 1]])


@problem("Extended Rosenbrock 100", np.tile([-1.2, 1], 50), 0, blocks=50)
def extended_rosenbrock(x: Array) -> Array:
    return np.concatenate([10 * (x[1::2] - x[::2]**2), 1 - x[::2]])


@problem("Extended Powell singular 100", np.tile([3, -1, 0, 1], 25), 0, blocks=25)
def extended_powell(x: Array) -> Array:
    return powell_singular(x.reshape(-1, 4).T).ravel()


@problem("Penalty I 10", np.arange(1, 11), 7.08765148e-5)
def penalty_1(x: Array) -> Array:
    return np.concatenate([np.sqrt(1e-5) * (x - 1), [x @ x - 0.25]])


@problem("Penalty II 10", np.full(10, 0.5), 2.93660537e-4)
def penalty_2(x: Array) -> Array:
    n, a = x.size, np.sqrt(1e-5)
    y = np.exp(np.arange(2, n + 1) / 10) + np.exp(np.arange(1, n) / 10)
    e = np.exp(x / 10)
    return np.concatenate([[x[0] - 0.2], a * (e[1:] + e[:-1] - y), a * (e[1:] - np.exp(-0.1)),
                           [np.arange(n, 0, -1) @ x**2 - 1]])


@problem("Variably dimensioned 10", 1 - np.arange(1, 11) / 10, 0)
def variably_dimensioned(x: Array) -> Array:
    total = np.arange(1, x.size + 1) @ (x - 1)
    return np.concatenate([x - 1, [total, total**2]])


@problem("Trigonometric 10", np.full(10, 0.1), 0, 2.79506122e-5)
def trigonometric(x: Array) -> Array:
    n = x.size
    return n - np.cos(x).sum() + np.arange(1, n + 1) * (1 - np.cos(x)) - np.sin(x)


@problem("Brown almost-linear 10", np.full(10, 0.5), 0, 1)
def brown_almost_linear(x: Array) -> Array:
    return np.concatenate([x[:-1] + x.sum() - (x.size + 1), [x.prod() - 1]])


@problem("Discrete boundary value 10", grid(10) * (grid(10) - 1), 0)
def discrete_boundary_value(x: Array) -> Array:
    h, padded = 1 / (x.size + 1), np.concatenate([[0], x, [0]])
    return 2 * x - padded[:-2] - padded[2:] + h**2 * (x + grid(x.size) + 1)**3 / 2


@problem("Discrete integral equation 10", grid(10) * (grid(10) - 1), 0)
def discrete_integral_equation(x: Array) -> Array:
    t = grid(x.size)
    kernel = np.where(t[:, None] >= t, (1 - t[:, None]) * t, t[:, None] * (1 - t))
    return x + kernel @ (x + t + 1)**3 / (2 * (x.size + 1))


@problem("Broyden tridiagonal 10", np.full(10, -1.0), 0)
def broyden_tridiagonal(x: Array) -> Array:
    padded = np.concatenate([[0], x, [0]])
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


@problem("Broyden banded 10", np.full(10, -1.0), 0)
def broyden_banded(x: Array) -> Array:
    i = np.arange(x.size)
    band = (i <= i[:, None] + 1) & (i >= i[:, None] - 5) & (i != i[:, None])
    return x * (2 + 5 * x**2) + 1 - band @ (x * (1 + x))


@problem("Linear full rank 10 of 20", np.ones(10), 10)
def linear_full_rank(x: Array) -> Array:
    return np.concatenate([x, np.zeros(10)]) - 2 / 20 * x.sum() - 1


@problem("Linear rank one 10 of 20", np.ones(10), 20 * 19 / (2 * 41))
def linear_rank_one(x: Array) -> Array:
    return np.arange(1, 21) * (np.arange(1, 11) @ x) - 1


@problem("Linear rank one, zero columns and rows 10 of 20", np.ones(10), (20**2 + 3 * 20 - 6) / (2 * (2 * 20 - 3)))
def linear_rank_one_with_zeros(x: Array) -> Array:
    return np.concatenate([np.arange(19) * (np.arange(2, 10) @ x[1:-1]), [0]]) - 1


@problem("Chebyquad 8", np.arange(1, 9) / 9, 3.516873725678e-3)
def chebyquad(x: Array) -> Array:
    n, before, now, rows = x.size, np.ones_like(x), 2 * x - 1, []
    for k in range(1, n + 1):
        rows.append(now.sum() / n + (1 / (k * k - 1) if k % 2 == 0 else 0))
        before, now = now, 2 * (2 * x - 1) * now - before
    return np.array(rows)
