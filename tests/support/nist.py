"""NIST's 27 nonlinear regressions as least-squares problems: the models here, the published tables in nist.txt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .paths import TESTS

Array = np.ndarray
exp = np.exp


def misra1a(b: Array, x: Array) -> Array:
    return b[0] * (1 - exp(-b[1] * x))


def chwirut(b: Array, x: Array) -> Array:
    return exp(-b[0] * x) / (b[1] + b[2] * x)


def gauss(b: Array, x: Array) -> Array:
    return (b[0] * exp(-b[1] * x) + b[2] * exp(-(x - b[3])**2 / b[4]**2) + b[5] * exp(-(x - b[6])**2 / b[7]**2))


def lanczos(b: Array, x: Array) -> Array:
    return b[0] * exp(-b[1] * x) + b[2] * exp(-b[3] * x) + b[4] * exp(-b[5] * x)


def cubics(b: Array, x: Array) -> Array:
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def enso(b: Array, x: Array) -> Array:
    def wave(c: Any, s: Any, period: Any) -> Array:
        return c * np.cos(2 * np.pi * x / period) + s * np.sin(2 * np.pi * x / period)

    return b[0] + wave(b[1], b[2], 12) + wave(b[4], b[5], b[3]) + wave(b[7], b[8], b[6])


MODELS: dict[str, Callable[..., Array]] = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x)**(-1 / b[2]),
    "BoxBOD": misra1a, "Chwirut1": chwirut, "Chwirut2": chwirut,
    "DanWood": lambda b, x: b[0] * x**b[1],
    "Eckerle4": lambda b, x: b[0] / b[1] * exp(-0.5 * ((x - b[2]) / b[1])**2),
    "ENSO": enso, "Gauss1": gauss, "Gauss2": gauss, "Gauss3": gauss, "Hahn1": cubics,
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos1": lanczos, "Lanczos2": lanczos, "Lanczos3": lanczos,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * exp(-x * b[3]) + b[2] * exp(-x * b[4]),
    "Misra1a": misra1a,
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2)**-2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x)**-0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x: b[0] - b[1] * x[0] * exp(-b[2] * x[1]),       # of log y
    "Rat42": lambda b, x: b[0] / (1 + exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + exp(b[1] - b[2] * x))**(1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - np.arctan(b[2] / (x - b[3])) / np.pi,
    "Thurber": cubics,
}


class Regression(NamedTuple):
    name: str
    starts: list[Array]
    certified: Array
    deviations: Array
    rss: float
    y: Array
    x: Array

    @np.errstate(all="ignore")                   # far trials overflow
    def residuals(self, b: Array) -> Array:
        y = np.log(self.y) if self.name == "Nelson" else self.y
        return MODELS[self.name](b, self.x) - y

    def jacobian(self, b: Array) -> Array:
        return jacobian(self.residuals, b)

    @property
    def rounding(self) -> float:
        """By what part of itself the sum of squares may be off in float64: |e| is about 3 eps |y| in 2 r.e / r.r.

        That is 1e-9 or less, but for Lanczos1, whose residuals are of y's 13th digit: 0.02.
        """
        return float(6.0 * np.finfo(float).eps * np.linalg.norm(self.y) / np.sqrt(self.rss))

    def digits(self, b: Array) -> float:
        """In how many digits the parameters agree with the certified ones: of the worst."""
        error = float(np.max(abs(b - self.certified) / abs(self.certified)))
        return -np.log10(error) if error > 0 else 11.0


def jacobian(residuals: Callable[[Array], Array], x: Array) -> Array:
    """By complex steps, which are exact to rounding."""
    columns = []
    for k in range(x.size):
        shifted = x.astype(complex)
        shifted[k] += 1e-30j
        columns.append(np.asarray(residuals(shifted)).imag / 1e-30)
    return np.column_stack(columns)


def tables() -> list[Regression]:
    found: dict[str, dict[str, list[list[float]]]] = {}
    table: dict[str, list[list[float]]] = {}
    numbers: list[float] = []
    for line in (TESTS / "support" / "nist.txt").read_text().splitlines():
        words = line.split()
        if line.startswith("    "):              # goes on with the numbers of the line before
            numbers += map(float, words)
        elif line.startswith("  "):
            numbers = [float(word) for word in words[1:]]
            table.setdefault(words[0], []).append(numbers)
        elif not line.startswith("#"):
            found[line] = table = {}
    return [Regression(name, [np.array(start) for start in t["start"]], np.array(t["certified"][0]),
                       np.array(t["deviations"][0]), t["rss"][0][0], np.array(t["y"][0]),
                       np.array(t["x"] if len(t["x"]) > 1 else t["x"][0])) for name, t in found.items()]


REGRESSIONS = tables()
NIST = {regression.name: regression for regression in REGRESSIONS}
