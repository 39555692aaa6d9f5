"""An inverse problem without a matrix, and how often its operator is applied until it is solved."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

import optimlite as ol

Array = np.ndarray


class Reached(Exception):  # noqa: N818 - the aim, not an error
    """The cost is low enough."""


class Blur:
    """A picture that was blurred: a linear problem, with a preference for smooth pictures."""

    def __init__(self, size: int = 64, sigma: float = 3.0, weight: float = 0.02) -> None:
        k = np.minimum(np.arange(size), size - np.arange(size))
        kernel = np.exp(-0.5 * (k / sigma)**2) / np.exp(-0.5 * (k / sigma)**2).sum()
        self.transfer, self.weight, self.shape = np.fft.rfft2(np.outer(kernel, kernel)), weight, (size, size)
        self.count, self.aim = 0, -np.inf
        truth = np.zeros(self.shape)
        truth[size // 4:size // 2, size // 3:2 * size // 3] = 1
        self.data = self.blur(truth) + 0.01 * np.random.default_rng(0).standard_normal(self.shape)

    def blur(self, u: Array) -> Array:
        """Symmetric: it is its own transpose."""
        self.count += 1
        return np.fft.irfft2(self.transfer * np.fft.rfft2(u), self.shape)

    def jvp(self, _: Any, v: Array) -> list[Array]:
        return [self.blur(v), self.weight * np.diff(v, axis=0), self.weight * np.diff(v, axis=1)]

    def vjp(self, _: Any, u: list[Array]) -> Array:
        found = self.blur(u[0])
        for axis in (0, 1):
            rows, rough = np.moveaxis(found, axis, 0), self.weight * np.moveaxis(u[1 + axis], axis, 0)
            rows[1:] += rough
            rows[:-1] -= rough
        return found

    def residuals(self, u: Array) -> list[Array]:
        found = self.jvp(u, u)
        found[0] = found[0] - self.data
        if 0.5 * sum(float(np.vdot(r, r)) for r in found) <= self.aim:
            raise Reached
        return found

    def cost(self, u: Array) -> tuple[float, Array]:
        r = self.residuals(u)
        return 0.5 * sum(float(np.vdot(part, part)) for part in r), self.vjp(u, r)


def applications(blur: Blur, within: float) -> tuple[int, int]:
    """By least_squares and by L-BFGS, until the cost is so close to the least, in parts of it."""
    jac, start = (blur.jvp, blur.vjp), np.zeros(blur.shape)
    blur.aim = -np.inf
    blur.aim = (1 + within) * ol.least_squares(blur.residuals, start, jac, ftol=1e-14, xtol=1e-14, gtol=1e-10).cost
    found = []
    for solve in (lambda: ol.least_squares(blur.residuals, start, jac, ftol=0, gtol=0),
                  lambda: ol.minimize(blur.cost, start, options={"ftol": 0, "gtol": 0})):
        blur.count = 0
        with suppress(Reached):
            solve()
            raise AssertionError("a run ended before the aim")
        found.append(blur.count)
    return found[0], found[1]
