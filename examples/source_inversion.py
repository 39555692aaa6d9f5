# A PDE-constrained problem: where the sources of a field are, from a few sensors, and what a preconditioner is worth.
#
# The field obeys -Laplace(u) = f, zero at the edge of a square, and is measured at some points, with noise.  f is
# sought, and kept smooth by alpha / 2 * (|f|^2 + gamma |grad f|^2).  The equation is solved in sines, and is its own
# adjoint.  With sensors everywhere, in the same density, the Hessian would be diagonal in sines: its inverse is the
# preconditioner.
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import optimlite as ol

try:
    import matplotlib

    matplotlib.use("Agg")  # draws into files: no display needed
    import matplotlib.pyplot as plt
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install matplotlib")

Array = np.ndarray
SENSORS = 80


class Sources:
    """loss(f) = |u(f) at the sensors - data|^2 / 2 + smoothness, and its gradient."""

    def __init__(self, size: int, alpha: float = 1e-7, gamma: float = 1.0) -> None:
        k, h = np.arange(1, size + 1), 1 / (size + 1)
        self.sines = np.sqrt(2 * h) * np.sin(np.pi * h * np.outer(k, k))  # symmetric, and its own inverse
        waves = (2 * np.sin(np.pi * h * k / 2) / h) ** 2
        self.stiffness = waves[:, None] + waves  # of -Laplace, in sines
        self.smoothness = alpha * h * h * (1 + gamma * self.stiffness)
        y, x = np.mgrid[h:1 - h / 2:h, h:1 - h / 2:h]
        self.truth = np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.01) + 0.7 * np.exp(
            -((x - 0.7) ** 2 + (y - 0.35) ** 2) / 0.02)
        rng = np.random.default_rng(0)
        places = rng.random((2, SENSORS))
        self.sensors = tuple(np.clip((places / h - 1).round().astype(int), 0, size - 1))
        self.data = self.solve(self.truth)[self.sensors] + 2e-5 * rng.standard_normal(SENSORS)

    def in_sines(self, f: Array, factor: Array) -> Array:
        return self.sines @ (factor * (self.sines @ f @ self.sines)) @ self.sines

    def solve(self, f: Array) -> Array:
        return self.in_sines(f, 1 / self.stiffness)

    def __call__(self, f: Array) -> tuple[float, Array]:
        misfit, smooth = self.solve(f)[self.sensors] - self.data, self.in_sines(f, self.smoothness)
        at_sensors = np.zeros_like(f)
        np.add.at(at_sensors, self.sensors, misfit)
        return float(misfit @ misfit + np.vdot(f, smooth)) / 2, self.solve(at_sensors) + smooth

    def h0(self, v: Array) -> Array:
        """Times the inverse of the Hessian with sensors everywhere."""
        return self.in_sines(v, 1 / (SENSORS / v.size / self.stiffness**2 + self.smoothness))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 40, 80])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for size in options.sizes:
        problem = Sources(size)
        if not (checked := ol.check_grad(problem, np.zeros((size, size)), directions=1)):
            sys.exit(f"the gradient is wrong: {checked}")
        counts = []
        for method, h0 in (("lbfgs", None), ("lbfgs", problem.h0), ("cg", None), ("cg", problem.h0)):
            limits = {"gtol": 1e-8 / size**2, "maxiter": 2000} | ({"ftol": 0} if method == "lbfgs" else {})
            result = ol.minimize(problem, np.zeros((size, size)), method=method, h0=h0, options=limits)
            counts.append(f"{method}{' with h0' if h0 else ''} {result.nfev}")
            if h0 and method == "lbfgs":
                found = result.x
        error = np.linalg.norm(found - problem.truth) / np.linalg.norm(problem.truth)
        print(f"{size} x {size}: evaluations " + ", ".join(counts) + f"; relative error {error:.2f}")
    figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    for axis, (title, f) in zip(axes, {"truth": problem.truth, "found": found}.items(), strict=True):
        axis.imshow(f, vmin=0, vmax=1, cmap="viridis")
        axis.plot(problem.sensors[1], problem.sensors[0], "w.", markersize=3)
        axis.set(title=title, xticks=[], yticks=[])
    path = options.output / "source_inversion.png"
    figure.savefig(path, dpi=110)
    print(f"drawn: {path}")


if __name__ == "__main__":
    main()
