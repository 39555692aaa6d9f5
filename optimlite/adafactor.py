"""Adafactor."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

import numpy as np

from . import _cpu
from ._check import exactly, flag, interval, nonnegative
from ._core import sum_over_tiles, sums_by_line
from .matrix import MatrixOptimizer, Put, put_now, sum_squares
from .optimizer import Group
from .parameter import Parameter


def epsilons(name: str, value: Any) -> tuple[float | None, float]:
    first, second = exactly(2, "a pair of a number or None and a number", name, value)
    return None if first is None else nonnegative(f"{name}[0]", first), nonnegative(f"{name}[1]", second)


class Adafactor(MatrixOptimizer):
    """Adafactor (Shazeer & Stern 2018), as torch has it: second moments as an outer product of row and column means.

        w = t^beta2_decay                               (of the squares of the last two axes' matrices)
        r = r + w * (mean of each row of grad^2 - r)
        c = c + w * (mean of each column of grad^2 - c)
        u = grad / sqrt(max(r c / max(mean(r), eps1), eps1^2))
        p = (1 - lr * weight_decay) * p - max(eps2, rms(p)) * min(lr, 1 / sqrt(t)) * u / max(1, rms(u) / d)

    A parameter with fewer than two axes has a variance for each element instead: v = v + w * (grad^2 - v).  `lr` is
    relative to the root mean square of the parameter.  `eps` = (eps1, eps2); eps1 = None is the machine epsilon of the
    parameter's dtype.  `d` clips the root mean square of the update.

    State: `step`, `row_var` (r) of shape (..., n, 1) and `col_var` (c) of shape (..., 1, m), or `variance`.
    A step needs no memory of a matrix's size beside it, but for F-ordered parameters of more than two axes, which are
    copied; the factors of many small matrices, such as 1x1 convolutions, are as large as these.
    Raises ValueError for `beta2_decay` above 0, `d` below 1, and for other hyper-parameters that are negative, NaN or
    infinite.
    """

    checks = {"lr": nonnegative, "beta2_decay": interval(high=0), "eps": epsilons, "d": interval(low=1),
              "weight_decay": nonnegative, "maximize": flag}
    scalars = {"step": 0}
    twin = "adafactor"
    state_names = ("step", "row_var", "col_var", "variance")

    def __init__(self, params: Any, lr: float = 1e-2, beta2_decay: float = -0.8,
                 eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0, *,
                 maximize: bool = False) -> None:
        super().__init__(params, dict(lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay,
                                      maximize=maximize))

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        if parameter.ndim < 2:
            return {"variance": parameter.shape}
        *batch, n, m = parameter.shape
        return {"row_var": (*batch, n, 1), "col_var": (*batch, 1, m)}

    def update(self, group: Group, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray],
               scalars: dict[str, Any], handling: dict[str, float]) -> list[Put]:
        t = scalars["step"] = scalars["step"] + 1
        if not p.size:
            return [Put("descend", p, g, {"keep": 1.0, "step_size": 0.0})]
        eps1, eps2 = group["eps"]
        eps1 = float(np.finfo(p.dtype).eps) if eps1 is None else eps1
        h = {**handling, "cap": 1.0 / eps1 if eps1 else inf, "keep": 1.0 - group["lr"] * group["weight_decay"]}
        weight, relative = float(t) ** group["beta2_decay"], max(eps2, sqrt(sum_squares(p) / p.size))

        def step_size(square_sum: float) -> float:
            return float(relative * min(group["lr"], 1.0 / sqrt(t)) / max(1.0, sqrt(square_sum / p.size) / group["d"]))

        if p.ndim < 2:
            v = state["variance"]
            square_sum = update_squares("update_squares_of_vector", g, g, v, (1, 1, p.size), h, weight)
            return [Put("adafactor_of_vector", p, g, {**h, "weight": weight, "step_size": step_size(square_sum)}, (v,))]
        # Rows and columns of matrices that stand in memory one behind the other; p is copied where they don't.
        beside, flipped = not p.flags.c_contiguous and p.ndim > 2, not p.flags.c_contiguous and p.ndim == 2
        target, g = (np.array(p, order="C"), np.array(g, order="C")) if beside else (p, g)
        n, m = p.shape[-2:]
        shape = (p.size // (n * m), *((m, n) if flipped else (n, m)))
        sums = sums_by_line(_cpu.reading("square_sums", p.dtype), g, shape, (h["grad_scale"], h["limit"]))
        by_row, by_column = sums[::-1] if flipped else sums
        r, c = moved(state["row_var"], by_row / m, weight), moved(state["col_var"], by_column / n, weight)
        rows = (1 / np.sqrt(r / np.maximum(sum_of_rows(r) / n, eps1))).astype(p.dtype, order="C")
        columns = (1 / np.sqrt(c, dtype=np.float64)).astype(p.dtype, order="C")
        lines, across = (columns, rows) if flipped else (rows, columns)
        size = step_size(update_squares("update_squares", g, lines, across, shape, h))
        step = Put("adafactor", target, g, {**h, "step_size": size}, (lines, across, np.array(shape[1:], np.int64)))
        if beside:
            put_now(step)
            step = Put("assign", p, np.array(target, order="F"), {})
        return [step, Put("assign", state["row_var"], r, {}), Put("assign", state["col_var"], c, {})]


def update_squares(name: str, g: np.ndarray, a: np.ndarray, b: np.ndarray, shape: tuple[int, int, int],
                   h: dict[str, float], *more: float) -> float:
    """The sum of the squares of an update that isn't clipped yet."""
    return sum_over_tiles(_cpu.reading(name, g.dtype), g, a, b, shape, (h["grad_scale"], h["limit"], h["cap"], *more))


def moved(moment: np.ndarray, mean: np.ndarray, weight: float) -> np.ndarray:
    """A factor of the second moment, after its step towards the newest means."""
    new: np.ndarray = moment + moment.dtype.type(weight) * (mean.reshape(moment.shape).astype(moment.dtype) - moment)
    return new


def sum_of_rows(r: np.ndarray) -> np.ndarray:
    """In float64, from the first row on, with few calls of NumPy for many matrices of few rows too."""
    if r.size <= r.shape[-2] ** 2:
        return np.add.accumulate(r, axis=-2, dtype=np.float64)[..., -1:, :]
    total: np.ndarray = r[..., :1, :].astype(np.float64)
    for k in range(1, r.shape[-2]):
        total += r[..., k:k + 1, :]
    return total
