"""What `least_squares` returns: scipy's fields, the state, and the covariance of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..optimize_result import OptimizeResult


class LeastSquaresResult(OptimizeResult):
    """A dict whose items are attributes too: x, cost, fun, jac, grad, optimality, active_mask, nfev, njev, status,
    message and success, as in scipy; nit; `products`, of J with vectors; and `state`, with which `least_squares` goes
    on."""

    def __reduce__(self) -> tuple[Any, ...]:
        return LeastSquaresResult, (dict(self),)

    def covariance(self) -> np.ndarray:
        """s² (J^T J)^-1, s² = 2 cost / (m - n), where m residuals have errors of one unknown variance.

        The unknowns are one after another, as in the columns of `jac`; one at a bound counts as known.  The square
        roots of the diagonal are the standard errors.  Where J hasn't full rank, all is infinite.
        """
        J = self["jac"]
        if not isinstance(J, np.ndarray):
            raise TypeError("the covariance needs the Jacobian as a matrix, and `jac` is an operator")
        free = leaves(self["active_mask"]) == 0
        m, n = len(J), int(free.sum())
        if m <= n:
            raise ValueError(f"the covariance needs more residuals than unknowns, got {m} for {n}")
        norms = np.sqrt(np.sum(J[:, free]**2, axis=0))
        _, s, Vt = np.linalg.svd(J[:, free] / np.where(norms > 0, norms, 1.0), full_matrices=False)
        found = np.zeros((free.size, free.size))
        if s.size and s[-1] <= np.finfo(float).eps * m * s[0]:
            return np.full_like(found, np.inf)
        half = Vt.T / s / norms[:, None]
        found[np.ix_(free, free)] = 2.0 * self["cost"] / (m - n) * (half @ half.T)
        return found


def leaves(node: Any) -> np.ndarray:
    """All elements of a nesting, one after another."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        return np.concatenate([leaves(child) for child in node])
    return np.ravel(node)
