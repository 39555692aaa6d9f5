# An inverse problem with a hand-written adjoint: a blurred, noisy picture is made sharp again, in float32.
#
# The unknown is the picture, 256 x 256 pixels.  The forward model blurs it (a convolution, by FFT); its adjoint is the
# convolution with the kernel turned around.  The regularisation is total variation, smoothed.
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import optimlite as ol

try:
    import matplotlib

    matplotlib.use("Agg")  # draws into files: no display needed
    import matplotlib.pyplot as plt
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install matplotlib")

Array = np.ndarray


def phantom(size: int) -> Array:
    """Layers with a fault and two bodies in them: what a seismic section is made of."""
    y, x = np.mgrid[0:1:size * 1j, 0:1:size * 1j]
    depth = y + 0.06 * np.sin(5 * x) + np.where(x > 0.55 + 0.25 * y, 0.09, 0.0)
    picture = np.select([depth < 0.25, depth < 0.4, depth < 0.6, depth < 0.75], [0.15, 0.55, 0.3, 0.8], 0.5)
    picture[(x - 0.25) ** 2 + (y - 0.68) ** 2 < 0.008] = 1.0
    picture[(x - 0.78) ** 2 / 3 + (y - 0.3) ** 2 < 0.004] = 0.0
    return picture.astype(np.float32)


class Deblurring:
    """loss(x) = |blur(x) - data|^2 / 2 + weight * sum sqrt(|grad x|^2 + eps^2)"""

    def __init__(self, size: int, weight: float = 2e-3, eps: float = 2e-2) -> None:
        self.truth, self.weight, self.eps = phantom(size), weight, eps
        k = np.fft.fftfreq(size, 1 / size)
        kernel = np.exp(-(k[:, None] ** 2 / 2 / 3.0**2 + k**2 / 2 / 2.0**2))  # blurs depth more than width
        self.spectrum = np.fft.rfft2(kernel / kernel.sum())
        noise = np.random.default_rng(0).standard_normal(self.truth.shape)
        self.data = (self.convolve(self.truth, self.spectrum) + 0.01 * noise).astype(np.float32)
        self.history: list[float] = []

    @staticmethod
    def convolve(picture: Array, spectrum: Array) -> Array:
        return np.fft.irfft2(np.fft.rfft2(picture) * spectrum, picture.shape).astype(np.float32)

    def __call__(self, x: Array) -> tuple[float, Array]:
        residual = self.convolve(x, self.spectrum) - self.data
        gradient = self.convolve(residual, self.spectrum.conj())  # the adjoint
        down, right = np.diff(x, axis=0, append=x[-1:]), np.diff(x, axis=1, append=x[:, -1:])
        length = np.sqrt(down * down + right * right + np.float32(self.eps) ** 2)
        loss = 0.5 * np.vdot(residual, residual).astype(float) + self.weight * float(length.sum(dtype=np.float64))
        for axis, slope in ((0, down / length), (1, right / length)):  # minus the divergence: the adjoint of the slopes
            slope *= np.float32(self.weight)
            gradient -= slope
            gradient[1:] += slope[:-1] if axis == 0 else 0
            gradient[:, 1:] += slope[:, :-1] if axis == 1 else 0
        self.history.append(loss)
        return loss, gradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--evaluations", type=int, default=300)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    problem = Deblurring(options.size)
    if not (checked := ol.check_grad(problem, problem.data.copy(), directions=1)):
        sys.exit(f"the gradient is wrong: {checked}")
    print(f"gradient checked: {checked}")
    search: dict[str, Any] = {"max_iter": options.evaluations, "max_eval": options.evaluations, "tolerance_grad": 0,
                              "tolerance_change": 0, "line_search_fn": "hager_zhang"}
    methods: dict[str, Callable[[Any], ol.Optimizer]] = {
        "Adam, lr 0.03": lambda p: ol.Adam(p, lr=0.03),
        "Adam, lr 0.003": lambda p: ol.Adam(p, lr=0.003),
        "CG (Polak-Ribière+)": lambda p: ol.ConjugateGradient(p, **search),
        "L-BFGS": lambda p: ol.LBFGS(p, history_size=10, **search),
        "L-BFGS, 0 ≤ x ≤ 1": lambda p: ol.LBFGS(p, history_size=10, bounds=(0, 1), **search),
    }
    histories, pictures = {}, {}
    for name, make in methods.items():
        problem = Deblurring(options.size)
        x = problem.data.copy()
        optimizer = make([x])
        start = time.perf_counter()
        while len(problem.history) < options.evaluations:
            before = len(problem.history)
            optimizer.step(lambda x=x, problem=problem: (lambda loss, g: (loss, [g]))(*problem(x)))
            if len(problem.history) == before + 1 and not name.startswith("Adam"):
                break  # nothing more to gain
        error = np.sqrt(np.mean((x - problem.truth) ** 2))
        print(f"{name:20} loss {min(problem.history):9.5f} after {len(problem.history)} evaluations, "
              f"{time.perf_counter() - start:4.1f} s; error {error:.4f}")
        histories[name], pictures[name] = np.minimum.accumulate(problem.history), x
    draw(problem, histories, pictures, options.output / "inverse_problem.png")


def draw(problem: Deblurring, histories: dict[str, Array], pictures: dict[str, Array], path: Path) -> None:
    figure = plt.figure(figsize=(12, 7), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=[1, 1.1])
    for column, (title, picture) in enumerate({"truth": problem.truth, "blurred, with noise": problem.data,
                                               "L-BFGS": pictures["L-BFGS"]}.items()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(picture, vmin=0, vmax=1, cmap="viridis")
        axes.set(title=title, xticks=[], yticks=[])
    axes = figure.add_subplot(grid[1, :])
    lowest = min(history[-1] for history in histories.values())
    for name, history in histories.items():
        least = history[-1] if "≤" in name else lowest  # within bounds the minimum is another one
        axes.semilogy(np.arange(1, len(history) + 1), np.maximum(history / least - 1, 1e-7), label=name)
    axes.set(xlabel="evaluations of loss and gradient", ylabel="loss / lowest loss - 1",
             title=f"Deblurring {problem.data.shape[0]} × {problem.data.shape[1]} pixels, float32")
    axes.legend()
    figure.savefig(path, dpi=110)
    print(f"drawn: {path}")


if __name__ == "__main__":
    main()
