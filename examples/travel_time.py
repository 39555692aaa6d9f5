# Travel-time tomography, matrix-free: the slowness of the ground between boreholes, from the first arrivals of waves.
#
# A time is the integral of the slowness along a straight ray.  The unknowns are its logarithm in each cell, so that it
# stays positive and the problem isn't linear; a smooth model is preferred.  `least_squares` gets the two products with
# the Jacobian, L-BFGS gets the cost and its gradient.  Both count how often the rays are followed, in either direction.
from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from maps import draw

import optimlite as ol

Array = np.ndarray


class Reached(Exception):  # noqa: N818 - the aim, not an error
    """The cost is low enough."""


class Survey:
    """residuals(m) = ((L exp(m) - times) / error, weight * differences of neighbours of m)"""

    def __init__(self, size: int, stations: int, weight: float = 0.5, dtype: type = np.float64) -> None:
        self.size, self.weight, self.rays, self.aim = size, weight, 0, -np.inf
        z, x = (np.mgrid[0:size, 0:size] + 0.5) / size
        self.truth = (0.15 * z - 0.5 * np.exp(-((x - 0.6)**2 + (z - 0.55)**2) / 0.02)
                      + 0.5 * np.exp(-((x - 0.3)**2 + (z - 0.3)**2) / 0.01)).astype(dtype)
        ends = (np.arange(stations) + 0.5) / stations
        source, receiver = (side.ravel() for side in np.meshgrid(ends, ends))
        # from the left borehole to the right one, and from the surface to the bottom
        start = np.concatenate([np.stack([source, 0 * source]), np.stack([0 * source, source])], axis=1)
        end = np.concatenate([np.stack([receiver, 0 * source + 1]), np.stack([0 * source + 1, receiver])], axis=1)
        part = (np.arange(2 * size) + 0.5) / (2 * size)              # two samples a cell
        points = start[:, :, None] + (end - start)[:, :, None] * part
        cells = np.minimum((points * size).astype(np.intp), size - 1)
        self.cells = cells[0] * size + cells[1]
        self.step = (np.linalg.norm(end - start, axis=0) / part.size).astype(dtype)
        self.error = dtype(0.005)
        exact = self.along(np.exp(self.truth))
        self.times = exact + self.error * np.random.default_rng(0).standard_normal(exact.size).astype(dtype)
        self.rays = 0

    def along(self, field: Array) -> Array:
        """The integrals of a field along the rays."""
        self.rays += 1
        return field.ravel()[self.cells].sum(axis=1) * self.step

    def back(self, values: Array) -> Array:
        """The adjoint: each ray's value is spread over its cells."""
        self.rays += 1
        weights = np.repeat(values * self.step, self.cells.shape[1])
        return np.bincount(self.cells.ravel(), weights, self.size**2).astype(values.dtype).reshape(self.size, self.size)

    def residuals(self, m: Array) -> list[Array]:
        found = [(self.along(np.exp(m)) - self.times) / self.error, self.weight * np.diff(m, axis=0),
                 self.weight * np.diff(m, axis=1)]
        if 0.5 * sum(float(np.vdot(r, r)) for r in found) <= self.aim:
            raise Reached
        return found

    def jvp(self, m: Array, v: Array) -> list[Array]:
        return [self.along(np.exp(m) * v) / self.error, self.weight * np.diff(v, axis=0),
                self.weight * np.diff(v, axis=1)]

    def vjp(self, m: Array, u: list[Array]) -> Array:
        found = np.exp(m) * self.back(u[0] / self.error)
        for axis, rough in enumerate(u[1:]):
            rough = self.weight * np.moveaxis(rough, axis, 0)
            rows = np.moveaxis(found, axis, 0)                       # a view
            rows[1:] += rough
            rows[:-1] -= rough
        return found

    def cost(self, m: Array) -> tuple[float, Array]:
        r = self.residuals(m)
        return 0.5 * sum(float(np.vdot(part, part)) for part in r), self.vjp(m, r)


def check_adjoint(survey: Survey) -> None:
    """(J v, u) = (v, J^T u): the first thing to do with a hand-written adjoint."""
    rng = np.random.default_rng(1)
    m, v = 0.1 * rng.standard_normal((2, survey.size, survey.size)).astype(survey.truth.dtype)
    u = [rng.standard_normal(part.shape).astype(part.dtype) for part in survey.jvp(m, v)]
    one = sum(float(np.vdot(a, b)) for a, b in zip(survey.jvp(m, v), u, strict=True))
    other = float(np.vdot(v, survey.vjp(m, u)))
    if abs(one - other) > 1e-4 * abs(one):
        sys.exit(f"the adjoint is wrong: {one:.8g}, but {other:.8g}")
    print(f"adjoint checked: {one:.6g}")


def counts(survey: Survey, start: Array, within: float = 1e-3) -> tuple[int, int, Array]:
    """How often the rays are followed until the cost is within that part of the least: by each method."""
    survey.aim = -np.inf
    best = ol.least_squares(survey.residuals, start, (survey.jvp, survey.vjp), ftol=1e-10)
    survey.aim, found = (1 + within) * best.cost, []
    for solve in (lambda: ol.least_squares(survey.residuals, start, (survey.jvp, survey.vjp), ftol=None, xtol=None),
                  lambda: ol.minimize(survey.cost, start, options={"ftol": 0, "gtol": 0})):
        survey.rays = 0
        with suppress(Reached):
            solve()
        found.append(survey.rays)
    return found[0], found[1], best.x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--stations", type=int, default=16)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    survey = Survey(options.size, options.stations)
    check_adjoint(survey)
    start = np.zeros_like(survey.truth)
    ours, theirs, found = counts(survey, start)
    error = [float(np.sqrt(np.mean((m - survey.truth)**2))) for m in (start, found)]
    print(f"{start.size} unknowns, {survey.times.size} rays; error {error[0]:.3f}, {error[1]:.3f} at the end")
    print(f"the rays were followed {ours} times by least_squares, {theirs} times by L-BFGS")
    maps = {"truth": np.exp(survey.truth), "found": np.exp(found)}
    draw(maps, 0.5, 1.8, "slowness", options.output / "travel_time.png")


if __name__ == "__main__":
    main()
