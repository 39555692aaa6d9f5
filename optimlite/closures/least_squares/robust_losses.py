"""Robust losses: rho of the squared residuals, and what it makes of residuals and Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...checks import shown

Array = np.ndarray
Rho = tuple[Array, Array, Array]                 # rho(z) and its first two derivatives


def huber(z: Array) -> Rho:
    root = np.sqrt(np.maximum(z, 1.0))           # 1 where rho(z) = z
    return np.where(z <= 1.0, z, 2.0 * root - 1.0), 1.0 / root, np.where(z <= 1.0, 0.0, -0.5 / root**3)


def soft_l1(z: Array) -> Rho:
    root = np.sqrt(1.0 + z)
    return 2.0 * z / (root + 1.0), 1.0 / root, -0.5 / root**3     # 2 (root - 1), without its cancellation


def cauchy(z: Array) -> Rho:
    return np.log1p(z), 1.0 / (1.0 + z), -1.0 / (1.0 + z)**2


def arctan(z: Array) -> Rho:
    return np.arctan(z), 1.0 / (1.0 + z**2), -2.0 * z / (1.0 + z**2)**2


LOSSES: dict[str, Callable[[Array], Rho] | None] = {
    "linear": None, "huber": huber, "soft_l1": soft_l1, "cauchy": cauchy, "arctan": arctan}


class Loss:
    """cost = f_scale² / 2 · sum rho((r / f_scale)²)."""

    def __init__(self, loss: Any, f_scale: float) -> None:
        if not callable(loss) and not (isinstance(loss, str) and loss in LOSSES):
            raise ValueError(f"`loss` must be one of {', '.join(map(repr, LOSSES))} or a function rho(z) that returns "
                             f"three rows, got {shown(loss)}")
        self.name = loss if isinstance(loss, str) else None
        self.rho: Any = loss if callable(loss) else LOSSES[loss]
        self.f_scale = f_scale

    @np.errstate(over="ignore", invalid="ignore")         # an infinite cost is no fault
    def cost(self, r: Array) -> float:
        if self.rho is None:
            return 0.5 * dot(r, r)
        return 0.5 * self.f_scale**2 * float(np.sum(self._of(r)[0]))

    def corrections(self, r: Array) -> tuple[Array, Array] | None:
        """Factors of the Jacobian's rows and of the residuals, with which J^T J is a Hessian without the second
        derivatives of the residuals, and J^T r the gradient (Triggs, McLauchlan, Hartley & Fitzgibbon 2000).

        Where rho curves down so much that the Hessian isn't positive, a row counts for next to nothing.
        """
        if self.rho is None:
            return None
        _, first, second = self._of(r)
        z = (np.float64(r) / self.f_scale)**2
        rows = np.sqrt(np.maximum(first + 2.0 * second * z, np.finfo(np.float64).eps))
        return rows.astype(r.dtype), (first / rows).astype(r.dtype)

    def _of(self, r: Array) -> Array:
        z = (np.float64(r) / self.f_scale)**2
        rho = np.asarray(self.rho(z), np.float64)
        if rho.shape != (3, r.size):
            raise ValueError(f"`loss` must return rho(z) and its first two derivatives, three rows of {r.size}, got "
                             f"shape {rho.shape}")
        return rho


@np.errstate(over="ignore", invalid="ignore")
def dot(u: Array, v: Array) -> float:
    """The product, summed in double."""
    if u.dtype == v.dtype == np.float64:
        return float(u @ v)
    block, total = 65536, 0.0
    for k in range(0, u.size, block):
        total += float(u[k:k + block].astype(np.float64) @ v[k:k + block].astype(np.float64))
    return total
