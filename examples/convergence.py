"""L-BFGS, conjugate gradients and Newton-CG on four functions, beside SciPy's: the loss after so many evaluations.

    python examples/convergence.py [folder, examples/output unless given]

All runs go on as far as they get: no test of the loss or the gradient ends them.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import optimlite as ol

try:
    import matplotlib
    import scipy.optimize
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install scipy matplotlib")

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]
EVALUATIONS = 200


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    """A curved valley in each pair of neighbours."""
    u, g = x[1:] - x[:-1] ** 2, np.zeros_like(x)
    g[1:] += 200 * u
    g[:-1] += -400 * u * x[:-1] - 2 * (1 - x[:-1])
    return float(100 * u @ u + ((1 - x[:-1]) ** 2).sum()), g


def powell(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Powell's singular function: the Hessian at the minimum has rank 2."""
    a, b, c, d = x[0::4] + 10 * x[1::4], x[2::4] - x[3::4], x[1::4] - 2 * x[2::4], x[0::4] - x[3::4]
    g = np.empty_like(x)
    g[0::4], g[1::4] = 2 * a + 40 * d**3, 20 * a + 4 * c**3
    g[2::4], g[3::4] = 10 * b - 8 * c**3, -10 * b - 40 * d**3
    return float(a @ a + 5 * b @ b + (c**4).sum() + 10 * (d**4).sum()), g


def quadratic(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Condition 1,000."""
    scales = np.logspace(0, 3, x.size)
    return float(scales @ x**2) / 2, scales * x


def logistic(x: np.ndarray) -> tuple[float, np.ndarray]:
    """A regression of 300 random labels on 50 features of many scales, with a little decay."""
    scores = FEATURES @ x
    return (float(np.logaddexp(0, scores).mean() - LABELS @ scores / len(LABELS)) + 5e-4 * float(x @ x),
            FEATURES.T @ (1 / (1 + np.exp(-scores)) - LABELS) / len(LABELS) + 1e-3 * x)


RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((300, 50)) * np.logspace(-1, 1, 50)
LABELS = (RNG.random(300) < 0.5).astype(float)
PROBLEMS: dict[str, tuple[Function, np.ndarray]] = {
    "Rosenbrock, 10 unknowns": (rosenbrock, np.full(10, -1.0)),
    "Powell singular, 40 unknowns": (powell, np.tile([3.0, -1.0, 0.0, 1.0], 10)),
    "quadratic, 200 unknowns": (quadratic, np.ones(200)),
    "logistic regression, 50 unknowns": (logistic, np.zeros(50)),
}
FREE: dict[str, dict[str, Any]] = {"lbfgs": {"gtol": 0, "ftol": 0}, "cg": {"gtol": 0}}
METHODS: dict[str, tuple[str, str, Callable[[Function, np.ndarray], Any]]] = {
    "minimize, lbfgs": ("#0b6e69", "-", lambda fun, x: ol.minimize(
        fun, x, method="lbfgs", options={**FREE["lbfgs"], "maxfun": EVALUATIONS})),
    "minimize, cg": ("#7a4fa3", "-", lambda fun, x: ol.minimize(
        fun, x, method="cg", options={**FREE["cg"], "maxfun": EVALUATIONS})),
    "minimize, newton-cg": ("#d9822b", "-", lambda fun, x: ol.minimize(
        fun, x, method="newton-cg", options={"gtol": 0, "maxfun": EVALUATIONS})),
    "SciPy, L-BFGS-B": ("#0b6e69", ":", lambda fun, x: scipy.optimize.minimize(
        fun, x, jac=True, method="L-BFGS-B", options=FREE["lbfgs"])),
    "SciPy, CG": ("#7a4fa3", ":", lambda fun, x: scipy.optimize.minimize(
        fun, x, jac=True, method="CG", options=FREE["cg"])),
    "SciPy, Newton-CG": ("#d9822b", ":", lambda fun, x: scipy.optimize.minimize(
        fun, x, jac=True, method="Newton-CG", options={"xtol": 0})),
}


class LimitError(Exception):
    """EVALUATIONS were made."""


def losses(fun: Function, start: np.ndarray, run: Callable[[Function, np.ndarray], Any]) -> np.ndarray:
    """The lowest loss so far, at each evaluation."""
    found: list[float] = []

    def counted(x: np.ndarray) -> tuple[float, np.ndarray]:
        if len(found) == EVALUATIONS:
            raise LimitError
        loss, gradient = fun(x)
        found.append(loss)
        return loss, gradient

    with contextlib.suppress(LimitError):
        run(counted, start.copy())
    return np.minimum.accumulate(found)


def main() -> None:
    from matplotlib import pyplot

    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "examples/output")
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for (title, (fun, start)), ax in zip(PROBLEMS.items(), axes.flat, strict=True):
        curves = {name: losses(fun, start, run) for name, (_, _, run) in METHODS.items()}
        lowest = ol.minimize(fun, start, options=FREE["lbfgs"]).fun if fun is logistic else 0.0
        for name, curve in curves.items():
            colour, style, _ = METHODS[name]
            above = np.maximum(curve - lowest, 1e-16)
            ax.plot(np.arange(1, len(above) + 1), above, style, color=colour, label=name)
            print(f"{title:34} {name:16} {len(curve):4} evaluations, {curve[-1] - lowest:.1e} above the minimum")
        bottom = max(1e-16, min(curve[-1] - lowest for curve in curves.values()) / 10)
        ax.set(title=title, yscale="log", ylim=(bottom, None), xlim=(0, EVALUATIONS))
    for ax in axes[-1]:
        ax.set_xlabel("evaluations of the loss and its gradient")
    for ax in axes[:, 0]:
        ax.set_ylabel("loss above the minimum")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.savefig(folder / "convergence.png", dpi=110)


if __name__ == "__main__":
    matplotlib.use("Agg")
    main()
