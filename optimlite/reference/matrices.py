"""Methods of whole matrices in plain NumPy: Muon (Jordan et al. 2024)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.method import Group
from .rules import Array, towards
from .sums import sum_squares

State = dict[str, Array]


def muon(group: Group, p: Array, g: Array, state: State, scalars: dict[str, Any]) -> None:
    real, lr, b = p.dtype.type, group["lr"], state["momentum_buffer"]
    if not p.size:
        return
    b[...] = towards(b, g, real(1 - group["momentum"]))
    u = g + real(group["momentum"]) * (b - g) if group["nesterov"] else b
    u = np.asarray(u, order="F" if p.flags.fnc else "C").reshape(len(p), -1)         # the products' bits depend on it
    rows, columns = u.shape
    shape = 0.2 * math.sqrt(max(rows, columns)) if group["adjust_lr_fn"] == "match_rms_adamw" else (
        math.sqrt(max(1.0, rows / columns)))
    x = orthogonal(u, group)
    p[...] = real(1 - lr * group["weight_decay"]) * p - real(lr * shape) * x.reshape(p.shape)


def orthogonal(u: Array, group: Group) -> Array:
    """Newton-Schulz; the products are the BLAS's, in memory as it finds them."""
    if not u.flags.c_contiguous:
        return orthogonal(u.T, group).T
    a, b, c = map(u.dtype.type, group["ns_coefficients"])
    tall = len(u) > u.shape[1]
    x: Array = u * u.dtype.type(1 / max(math.sqrt(sum_squares(u)), group["eps"]))
    for _ in range(group["ns_steps"]):
        gram = x.T @ x if tall else x @ x.T
        polynomial = c * (gram @ gram) + b * gram
        x = (x @ polynomial if tall else polynomial @ x) + a * x
    return x


METHODS = {"muon": muon}
