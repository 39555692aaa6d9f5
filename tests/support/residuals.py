"""A fit of two unknowns that tests of `least_squares` share, and its Jacobian in every form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from support.nist import jacobian

Array = np.ndarray
FORMS = ["matrix", "operator", "pair", "2-point", "3-point"]
T = np.linspace(0, 2, 9)


def decay(b: Array) -> Array:
    return b[0] * np.exp(-b[1] * T) - 3 * np.exp(-T / 2) + 0.01 * np.sin(9 * T)


class Operator:
    """J without a matrix's look."""

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix

    def matvec(self, v: Array) -> Array:
        return self.matrix @ v

    def rmatvec(self, u: Array) -> Array:
        return self.matrix.T @ u


def given(form: str, residuals: Callable[[Array], Array] = decay) -> Any:
    """`jac`, in one of its forms."""
    @np.errstate(all="ignore")                   # of unknowns that are far off
    def matrix(x: Array) -> Array:
        return jacobian(residuals, np.asarray(x, np.float64))

    return {"matrix": matrix, "operator": lambda x: Operator(matrix(x)),
            "pair": (lambda x, v: matrix(x) @ v, lambda x, u: matrix(x).T @ u)}.get(form, form)
