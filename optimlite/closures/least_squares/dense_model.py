"""The linear model r + J p of the residuals where J is a matrix, and its lowest point within a radius."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .box import Box
from .step import Step

Array = np.ndarray


class DenseModel:
    """|r + J p|² = |z + R p|² + a constant, by QR, so that all further work is with n by n matrices.

    The step within |D p| <= radius is that of Levenberg and Marquardt, (J^T J + λ D²) p = -J^T r, with the λ of Moré
    1978; the singular values of R D^-1 give it for any λ.  Where J hasn't full rank, it is the shortest of its kind.
    """

    pause = 0.0
    sparing = False                              # a step is as cheap for any radius

    def __init__(self, J: Array, r: Array, x: Array, D: Array, box: Box | None) -> None:
        n = J.shape[1]
        factor: Any = np.column_stack([J, r])
        if len(J) >= n:
            factor = np.linalg.qr(factor, mode="r")[:n]
        self.R, self.z = factor[:, :n], factor[:, n]
        self.given, self.x, self.D, self.box = J, x, D, box
        self.gradient = J.T @ r
        self.free = np.ones(n, bool) if box is None else box.moving(x, self.gradient)
        self.decomposed: dict[bytes, Any] = {}   # by the unknowns that are free, for the next radius

    def step(self, radius: float) -> Step:
        self.whole = True
        end = self.within(self.lowest, radius)
        if self.box is not None:
            steepest = self.within(self.steepest, radius)
            if self.predicted(end) < 0.1 * self.predicted(steepest):
                end = steepest
        return Step(end, float(self.gradient @ (end - self.x)), self.predicted(end),
                    float(np.linalg.norm(self.D * (end - self.x))), self.whole)

    def within(self, move: Callable[..., Array], radius: float) -> Array:
        """Where `move` leads, which stops the unknowns that it takes out of the box at its side, and finds the others
        again."""
        end, free = self.x, self.free.copy()
        while free.any():
            end = self.x + move(end - self.x, free, radius)
            if self.box is None or not self.box.stop(end, free):
                break
        return end

    def learnt(self) -> tuple[()]:
        return ()

    def finer(self, radius: float) -> None:
        """The step is exact."""

    def predicted(self, end: Array) -> float:
        p = end - self.x
        return -float(self.gradient @ p) - 0.5 * float(np.sum((self.R @ p)**2))

    def lowest(self, p: Array, free: Array, radius: float) -> Array:
        """p, with its free elements where the model is lowest within the radius, given the others."""
        key = free.tobytes()
        if key not in self.decomposed:
            self.decomposed[key] = np.linalg.svd(self.R[:, free] / self.D[free], full_matrices=False)
        U, s, Vt = self.decomposed[key]
        b = U.T @ (self.z + self.R[:, ~free] @ p[~free])
        damping, y = damped(s, b, radius)
        self.whole &= damping == 0.0
        p = p.copy()
        p[free] = -(Vt.T @ y) / self.D[free]
        return p

    def steepest(self, p: Array, free: Array, radius: float) -> Array:
        """The same along the steepest descent alone: what any step must come up to, to a tenth."""
        d = np.where(free, -self.gradient / self.D**2, 0.0)
        along = self.R @ d
        slope, curvature = float(along @ (self.z + self.R @ np.where(free, 0.0, p))), float(along @ along)
        length = float(np.linalg.norm(self.D * d))
        t = min(-slope / curvature if curvature > 0 else np.inf, radius / length if length > 0 else 0.0)
        return np.where(free, max(t, 0.0) * d, p)


def damped(s: Array, b: Array, radius: float) -> tuple[float, Array]:
    """λ and y = s b / (s² + λ): λ = 0 if |y| is within the radius then, else |y| is the radius to a tenth.

    Newton's method on 1 / |y(λ)|, which is almost linear (Hebden 1973), within bounds that close in (Moré 1978).
    """
    kept = s > np.finfo(float).eps * max(s.size, b.size) * s.max(initial=0.0)
    y = np.where(kept, b / np.where(kept, s, 1.0), 0.0)
    if np.linalg.norm(y) <= 1.1 * radius:
        return 0.0, y
    low, high = 0.0, float(np.linalg.norm(s * b)) / radius
    damping = 0.0 if kept.all() else 1e-3 * high
    for _ in range(20):
        square = s**2 + damping
        y = s * b / square
        length = float(np.linalg.norm(y))
        if abs(length - radius) <= 0.1 * radius:
            break
        low, high = (damping, high) if length > radius else (low, damping)
        damping += (length - radius) / radius * length**2 / float(np.sum(y**2 / square))
        if not low < damping < high:
            damping = max(1e-3 * high, np.sqrt(low * high))
    return damping, y
