"""A convex problem in two arrays, and the points that its minimizer accepts."""

from __future__ import annotations

from typing import Any

import numpy as np

import optimlite as ol

from .helpers import content


class Bowl:
    """A convex problem in two arrays, and the points that its minimizer accepts."""

    def __init__(self, cls: type[ol.LBFGS | ol.ConjugateGradient | ol.NewtonCG], options: dict[str, Any]) -> None:
        self.arrays = {"a": np.full(2, 2.0), "b": np.full(4, -1.5)}
        self.optimizer = cls(self.arrays, callback=lambda result: self.accept(), **options)
        self.accepted: list[Any] = []
        self.accept()

    def accept(self) -> None:
        self.accepted.append(self.point())

    def point(self) -> Any:
        return [content(array) for array in self.arrays.values()]

    def closure(self) -> tuple[float, dict[str, np.ndarray]]:
        x = np.concatenate([*self.arrays.values()])
        slope = np.arange(1.0, 7.0) * x - np.cos(np.arange(6.0))
        return float(0.5 * x @ slope - 0.5 * x @ np.cos(np.arange(6.0)) + 0.25 * (x**4).sum()), {
            "a": (slope + x**3)[:2], "b": (slope + x**3)[2:]}

    def step(self) -> None:
        self.optimizer.step(self.closure)
