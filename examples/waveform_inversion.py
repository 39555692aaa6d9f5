# Waveform inversion with a hand-written adjoint: the velocity of sound in the ground, from seismograms, in float32.
#
# Waves are sent from the surface and recorded there and in two boreholes.  The forward model steps the wave equation;
# its adjoint steps it backwards, with the misfits of the recordings as sources.  The velocity is bounded, and the run
# goes on from a file half-way, with the same bits.
from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from maps import draw

import optimlite as ol

Array = np.ndarray
SPACING, TIMESTEP = np.float32(10), np.float32(1.5e-3)  # metres, seconds
SLOWEST, FASTEST = 1500, 3500  # metres a second


def laplacian(u: Array) -> Array:
    """Five points, zero around; symmetric, so that it is its own adjoint."""
    out = -4 * u
    out[1:] += u[:-1]
    out[:-1] += u[1:]
    out[:, 1:] += u[:, :-1]
    out[:, :-1] += u[:, 1:]
    return out


class Survey:
    """loss(c) = |recorded(c) - data|^2 / 2, over all shots, and its gradient."""

    def __init__(self, size: int, steps: int) -> None:
        z, x = np.mgrid[0:1:size * 1j, 0:1:size * 1j]
        self.start = (1800 + 900 * z).astype(np.float32)
        self.truth = self.start + np.float32(350) * np.exp(-((x - 0.6) ** 2 + (z - 0.55) ** 2) / 0.02)
        self.truth -= np.float32(250) * np.exp(-((x - 0.3) ** 2 + (z - 0.35) ** 2) / 0.01)
        t = TIMESTEP * np.arange(steps) - 0.09
        a = (np.pi * 12 * t) ** 2
        self.wavelet = ((1 - 2 * a) * np.exp(-a)).astype(np.float32)
        self.shots = [(2, int(k)) for k in np.linspace(4, size - 5, 5)]
        top, side = np.arange(2, size - 2, 2), np.arange(2, size - 2, 3)
        self.rows = np.concatenate([np.full(top.size, 1), side, side])
        self.columns = np.concatenate([top, np.full(side.size, 1), np.full(side.size, size - 2)])
        self.evaluations = 0
        self.data = [self.forward(self.truth, shot)[self.at] for shot in self.shots]

    @property
    def at(self) -> tuple[slice, Array, Array]:
        return slice(None), self.rows, self.columns

    def forward(self, c: Array, shot: tuple[int, int]) -> Array:
        """The field at all times: u[n+1] = 2 u[n] - u[n-1] + m L u[n] + source."""
        m = (c * TIMESTEP / SPACING) ** 2
        u = np.zeros((self.wavelet.size + 1, *c.shape), np.float32)
        for n, source in enumerate(self.wavelet):
            u[n + 1] = 2 * u[n] + m * laplacian(u[n])
            if n:
                u[n + 1] -= u[n - 1]
            u[(n + 1, *shot)] += source
        return u

    def __call__(self, c: Array) -> tuple[float, Array]:
        self.evaluations += 1
        m, gradient, loss = (c * TIMESTEP / SPACING) ** 2, np.zeros_like(c), 0.0
        for shot, data in zip(self.shots, self.data, strict=True):
            u = self.forward(c, shot)
            misfit = u[self.at] - data
            loss += 0.5 * float(np.vdot(misfit, misfit))
            later, now = np.zeros_like(c), np.zeros_like(c)  # the adjoint field at n + 1 and n
            for n in range(len(u) - 1, 0, -1):
                later, now = now, 2 * now + laplacian(m * now) - later
                now[self.rows, self.columns] += misfit[n]
                gradient += now * laplacian(u[n - 1])
        return loss, gradient * (2 * c * (TIMESTEP / SPACING) ** 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--iterations", type=int, default=40)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    survey = Survey(options.size, options.steps)
    if not (checked := ol.check_grad(survey, survey.start.copy(), directions=1)):
        sys.exit(f"the gradient is wrong: {checked}")
    print(f"gradient checked: {checked}")
    half = options.iterations // 2
    bounds = (SLOWEST, FASTEST)
    # the first trial is a step of length `lr`, in metres a second over all cells: about 20 in each
    run = {"lr": 20.0 * options.size, "ftol": 0, "gtol": 0}
    first = ol.minimize(survey, survey.start, bounds=bounds, options={**run, "maxiter": half})
    with tempfile.TemporaryDirectory() as folder:
        ol.save(Path(folder) / "run", run=first.state)
        state = ol.load(Path(folder) / "run")["run"]
    rest = ol.minimize(survey, state=state, options={"maxiter": options.iterations - half})
    error = [float(np.sqrt(np.mean((c - survey.truth) ** 2))) for c in (survey.start, first.x, rest.x)]
    print(f"loss {first.fun:.4g} after {first.nit} iterations, {rest.fun:.4g} after {first.nit + rest.nit}; "
          f"error {error[0]:.0f}, {error[1]:.0f}, {error[2]:.0f} m/s")
    maps = {"truth": survey.truth, "start": survey.start, "found": rest.x}
    draw(maps, 1600, 3000, "m/s", options.output / "waveform_inversion.png")


if __name__ == "__main__":
    main()
