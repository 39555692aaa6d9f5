"""SOAP."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..checks import count, flag, fraction, nonnegative, optional, pair
from ..engine.method import Group
from ..engine.parameter import Parameter
from ..engine.whole_matrix import MatrixOptimizer, Update, apply_now, finished, like, moved, put
from ..native.arrays import sum_squares
from ..native.runtime import power
from .kronecker import Matrices, eigen, merged, multiplied, square_views, transposed, write_products


class SOAP(MatrixOptimizer):
    """SOAP (Vyas et al. 2024): Adam in the eigenbases of Shampoo's preconditioners, as the authors' code has it.

        h = Q_L^T grad Q_R                              (for an n x m matrix; likewise along each axis of a tensor)
        m = beta1 * m + (1 - beta1) * h
        v = beta2 * v + (1 - beta2) * h^2
        p = p - lr * sqrt(1 - beta2^t) / (1 - beta1^t) * Q_L (m / (sqrt(v) + eps)) Q_R^T
        p = (1 - lr * weight_decay) * p
        L = L + (1 - shampoo_beta) * (grad grad^T - L);  R = R + (1 - shampoo_beta) * (grad^T grad - R)

    A parameter's first step only begins L and R and takes their eigenvectors as Q_L and Q_R; t counts the steps after
    it.  Where t is a multiple of `precondition_frequency`, Q = qr(L Q) then follows: one power iteration, the columns
    sorted by their eigenvalues.  v keeps its values then, in the new order, and m is turned into the new basis.

    A parameter without axes, and one with a single one unless `precondition_1d`, is Adam's, after the same first step.
    An axis of more than `max_precond_dim` elements has no matrix.  A step of an n x m matrix is about 3 n m (n + m)
    multiplications and additions, and its state 2 (n^2 + m^2) elements beside Adam's.

    Eigenvectors and products come from NumPy's LAPACK and BLAS, in the parameter's dtype, where the authors' code takes
    the former in float32: the bits are the same on one machine with the same number of BLAS threads.  pytorch-optimizer
    counts steps by group, not by parameter.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr, betas, eps: as in Adam, but that eps stays out of the bias correction.    maximize: ascends.
    shampoo_beta: how much of L and R is kept in a step; None: beta2.    weight_decay: see above.
    precondition_frequency: steps from one basis to the next.    max_precond_dim, precondition_1d: see above.
    merge_dims: neighbouring axes count as one while that has at most max_precond_dim elements.
    normalize_grads: scales a parameter's update, before lr, to a root mean square of 1.
    correct_bias: False leaves out the two corrections by 1 - beta^t.

    State: `step`, `exp_avg` (m) and `exp_avg_sq` (v), both in the rotated basis, `GG` (L, R, ... one behind the other)
    and `Q` (their bases).  What chooses their shapes can't change afterwards; `del opt.state[p]` begins anew.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, betas outside [0, 1), and
    precondition_frequency or max_precond_dim below 1.

        >>> W = np.eye(2)
        >>> opt = ol.SOAP([W], lr=0.1, weight_decay=0)
        >>> for _ in range(2):
        ...     opt.step(grads=[np.array([[1.0, 0.0], [0.0, 5.0]])])
        >>> W.round(2)
        array([[0.9, 0. ],
               [0. , 0.9]])
    """

    checks = {"lr": nonnegative, "betas": pair(fraction), "shampoo_beta": optional(fraction), "eps": nonnegative,
              "weight_decay": nonnegative, "precondition_frequency": count, "max_precond_dim": count,
              "merge_dims": flag, "precondition_1d": flag, "normalize_grads": flag, "correct_bias": flag,
              "maximize": flag}
    twin = "soap"
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq", "GG", "Q")
    line_states = ("GG", "Q")
    mixes_rows = True

    def __init__(self, params: Any, lr: float = 3e-3, betas: tuple[float, float] = (0.95, 0.95),
                 shampoo_beta: float | None = None, eps: float = 1e-8, weight_decay: float = 0.01,
                 precondition_frequency: int = 10, max_precond_dim: int = 10000, merge_dims: bool = False,
                 precondition_1d: bool = False, normalize_grads: bool = False, correct_bias: bool = True, *,
                 maximize: bool = False) -> None:
        super().__init__(params, dict(
            lr=lr, betas=betas, shampoo_beta=shampoo_beta, eps=eps, weight_decay=weight_decay,
            precondition_frequency=precondition_frequency, max_precond_dim=max_precond_dim, merge_dims=merge_dims,
            precondition_1d=precondition_1d, normalize_grads=normalize_grads, correct_bias=correct_bias,
            maximize=maximize))

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        _, sizes = axes(group, parameter.shape)
        squares = (sum(n * n for n in sizes if n is not None),)
        return {"exp_avg": parameter.shape, "exp_avg_sq": parameter.shape, "GG": squares, "Q": squares}

    def update(self, group: Group, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray],
               scalars: dict[str, Any], finish: dict[str, float]) -> list[Update]:
        t = scalars["step"]                      # the first step isn't Adam's
        scalars["step"] = t + 1
        if not p.size:
            return [Update("descend", p, g, {"step_size": 0.0})]
        shape, sizes = axes(group, p.shape)
        bases = square_views(state["Q"], sizes)
        x = finished(g, finish).reshape(shape)
        products = np.empty_like(state["GG"])
        write_products(x, square_views(products, sizes))
        beta = group["betas"][1] if group["shampoo_beta"] is None else group["shampoo_beta"]
        changed = [Update("mean", state["GG"], products, {"weight": 1.0 - beta})]
        if t % group["precondition_frequency"] == 0:             # else L and R are only needed in place
            factors, q = square_views(moved(state["GG"], products, 1.0 - beta), sizes), np.empty_like(products)
            following = square_views(q, sizes)
            changed.append(put(state["Q"], q))
        if not t:
            write_eigenvectors(factors, following)
            return changed
        m, v = (np.array(state[key], order="C").reshape(shape) for key in ("exp_avg", "exp_avg_sq"))
        descent = self.descent(group, p, x, m, v, bases, t)
        if t % group["precondition_frequency"] == 0:
            v = follow(factors, bases, following, v)
            m = multiplied(multiplied(m, transposed(bases)), following)
        return [descent, *changed, put(state["exp_avg"], m), put(state["exp_avg_sq"], v)]

    def descent(self, group: Group, p: np.ndarray, x: np.ndarray, m: np.ndarray, v: np.ndarray, bases: Matrices,
                t: int) -> Update:
        """What the parameter does; moves m and v."""
        (beta1, beta2), step_size = group["betas"], group["lr"]
        h = multiplied(x, bases)
        quotient = np.full_like(h, -0.0)         # to which any number adds up as it is
        apply_now(Update("adam", quotient, h, {
            "beta1": beta1, "fresh1": 1.0 - beta1, "beta2": beta2, "fresh2": 1.0 - beta2, "step_size": -1.0,
            "inv_root_bias2": 1.0, "eps": group["eps"], "eps_root": 0.0}, (m, v)))
        u = multiplied(quotient, transposed(bases))
        if group["correct_bias"]:
            step_size *= sqrt(1.0 - power(beta2, t)) / (1.0 - power(beta1, t))
        if group["normalize_grads"]:
            step_size /= 1e-30 + sqrt(sum_squares(u) / u.size)
        keep = 1.0 - group["lr"] * group["weight_decay"]         # of the parameter that has stepped
        return Update("descend", p, like(p, u), {"keep": keep, "step_size": keep * step_size})


def axes(group: Group, shape: tuple[int, ...]) -> tuple[tuple[int, ...], list[int | None]]:
    """The shape in which a parameter steps, and for each axis the size of its matrix, or None."""
    most = group["max_precond_dim"]
    if len(shape) < 2:
        return shape, [n if group["precondition_1d"] and n <= most else None for n in shape]
    if group["merge_dims"]:
        shape = merged(shape, most)
    return shape, [n if n <= most else None for n in shape]


def write_eigenvectors(factors: Matrices, bases: Matrices) -> None:
    """By descending eigenvalue."""
    for factor, basis in zip(factors, bases, strict=True):
        if factor is not None and basis is not None:
            basis[...] = eigen(factor)[1][:, ::-1]


def follow(factors: Matrices, bases: Matrices, following: Matrices, v: np.ndarray) -> np.ndarray:
    """Writes the bases that follow, by one power iteration; returns v in the order of their columns."""
    for axis, (factor, basis, new) in enumerate(zip(factors, bases, following, strict=True)):
        if factor is not None and basis is not None and new is not None:
            product = factor @ basis
            order = np.argsort(-(basis * product).sum(0), kind="stable")         # by estimated eigenvalue
            v = v.take(order, axis)
            new[...] = np.linalg.qr(product[:, order])[0]
    return v
