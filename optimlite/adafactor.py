"""Adafactor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Any

import numpy as np

from ._check import flag, interval, nonnegative
from .matrix import MatrixOptimizer, Update, mean_square
from .optimizer import Group
from .parameter import Parameter


def epsilons(name: str, value: Any) -> tuple[float | None, float]:
    items = list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)) else []
    if len(items) != 2:
        raise TypeError(f"`{name}` must be a pair of a number or None and a number, got {value!r}")
    first, second = items
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
    The means come from NumPy: the bits are the same on one machine, whatever the number of threads.
    Raises ValueError for `beta2_decay` above 0, `d` below 1, and for other hyper-parameters that are negative, NaN or
    infinite.
    """

    checks = {"lr": nonnegative, "beta2_decay": interval(high=0), "eps": epsilons, "d": interval(low=1),
              "weight_decay": nonnegative, "maximize": flag}
    scalars = {"step": 0}
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
               scalars: dict[str, Any]) -> Update:
        t = scalars["step"] = scalars["step"] + 1
        eps1, eps2 = group["eps"]
        eps1 = float(np.finfo(p.dtype).eps) if eps1 is None else eps1
        keep = 1.0 - group["lr"] * group["weight_decay"]
        if not p.size:
            return Update(keep, 0.0, p, {})
        weight = p.dtype.type(float(t) ** group["beta2_decay"])
        u = np.multiply(g, g, out=np.empty_like(p, subok=False))         # 0-d too: an array, no scalar
        if p.ndim < 2:
            new = {"variance": np.asarray(state["variance"] + weight * (u - state["variance"]))}
            np.copyto(u, new["variance"])
        else:
            rows, columns = state["row_var"], state["col_var"]
            rows = rows + weight * (u.mean(axis=-1, keepdims=True, dtype=np.float64).astype(p.dtype) - rows)
            columns = columns + weight * (u.mean(axis=-2, keepdims=True, dtype=np.float64).astype(p.dtype) - columns)
            new = {"row_var": rows, "col_var": columns}
            mean = rows.mean(axis=-2, keepdims=True, dtype=np.float64)
            np.multiply(rows / np.maximum(mean, eps1).astype(p.dtype), columns, out=u)
        np.maximum(u, p.dtype.type(eps1 * eps1), out=u)
        np.sqrt(u, out=u)
        np.divide(g, u, out=u)
        size = max(eps2, sqrt(mean_square(p))) * min(group["lr"], 1.0 / sqrt(t))
        return Update(keep, size / max(1.0, sqrt(mean_square(u)) / group["d"]), u, new)
