"""Shampoo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import sqrt
from typing import Any

import numpy as np

from ..checks import count, exactly, flag, fraction, interval, nonnegative, one_of, optional_count, positive
from ..engine.method import Group
from ..engine.parameter import Parameter
from ..engine.whole_matrix import MatrixOptimizer, Update, finished, like, moved, put
from ..native.arrays import sum_squares
from ..native.runtime import power
from .kronecker import Matrices, eigen, merged, multiplied, square_views, write_products

Block = tuple[slice, ...]


def decays(name: str, value: Any) -> tuple[float, float]:
    first, second = exactly(2, "a pair of numbers", name, value)
    return fraction(f"{name}[0]", first), interval(0, 1)(f"{name}[1]", second)


class Shampoo(MatrixOptimizer):
    """Shampoo (Gupta et al. 2018; Anil et al. 2020), as Meta's distributed code has it (Shi et al. 2023).

        L = beta2 * L + (1 - beta2) * grad grad^T;  R = beta2 * R + (1 - beta2) * grad^T grad       (beta2 = 1: sums)
        m = beta1 * m + (1 - beta1) * grad
        u = (L / (1 - beta2^t) + eps I)^(-1/4) * m / (1 - beta1^t) * (R / (1 - beta2^t) + eps I)^(-1/4)
        u = u * |m / (1 - beta1^t) / (sqrt(w) + grafting_eps)| / |u|            (with grafting)
        p = p - lr * (u + weight_decay * p)

    A tensor of k axes has a matrix for each, with the power -1 / (2k).  Axes of one element don't count, and
    neighbouring axes, from the last on, are one while that has at most `max_preconditioner_dim` elements: a small
    matrix becomes a vector, with full-matrix Adagrad's power -1/2, unless `merge_dims=False`.  Longer axes are cut into
    blocks of so many elements, each with matrices, and grafting, of its own.

    The roots are taken in step `start_preconditioning_step` and where t is a multiple of `precondition_frequency`
    later.  Before, u is what grafting grafts, or m.  Negative eigenvalues, which come of rounding, are lifted to eps.

    `grafting` gives u the norm of another method's step: "sgd": of m; "adagrad", "rmsprop", "adam": of the quotient
    above, where w is the sum of grad^2, its mean by grafting_beta2, or that mean corrected for its bias.

    `momentum` is SGD's, of u + weight_decay * p:  b = momentum * b + u;  p = p - lr * b, or with `nesterov`
    p - lr * (u + momentum * b).

    Eigenvectors and products come from NumPy's LAPACK and BLAS, in the parameter's dtype: the bits are the same on one
    machine with the same number of BLAS threads.  Nearly all of a step's time goes into the roots, which take of the
    order of n^3 operations for an axis of n elements: raise `precondition_frequency` where that is too long.  The paper
    of 2018 has neither m, blocks nor grafting: betas=(0, 1), and max_preconditioner_dim above every axis.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr, weight_decay, momentum, nesterov: see above.    betas: (beta1, beta2).    eps: added to the eigenvalues.
    max_preconditioner_dim, merge_dims, precondition_frequency, grafting, grafting_beta2, grafting_eps: see above.
    start_preconditioning_step: None: as precondition_frequency.    maximize: ascends.
    use_bias_correction: False leaves out the divisions by 1 - beta^t; those of "adam" stay.

    State: `step`, `factors` (L, R, ... of each block, one behind the other) and `roots` (their inverse roots), with
    beta1 `exp_avg` (m), with grafting but "sgd" `exp_avg_sq` (w), with momentum `momentum_buffer` (b).  What chooses
    their shapes can't change afterwards; `del opt.state[p]` begins anew.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, beta1 or grafting_beta2 outside [0, 1),
    beta2 outside [0, 1], eps = 0, counts below 1, an unknown grafting, and nesterov without momentum.

        >>> W = np.eye(2)
        >>> opt = ol.Shampoo([W], lr=0.1, betas=(0, 1), merge_dims=False)
        >>> opt.step(grads=[np.array([[1.0, 0.0], [0.0, 5.0]])])
        >>> W.round(2)
        array([[0.9, 0. ],
               [0. , 0.9]])
    """

    checks = {"lr": nonnegative, "betas": decays, "eps": positive, "weight_decay": nonnegative,
              "max_preconditioner_dim": count, "merge_dims": flag, "precondition_frequency": count,
              "start_preconditioning_step": optional_count, "use_bias_correction": flag,
              "grafting": one_of(None, "sgd", "adagrad", "rmsprop", "adam"), "grafting_beta2": fraction,
              "grafting_eps": nonnegative, "momentum": nonnegative, "nesterov": flag, "maximize": flag}
    twin = "shampoo"
    scalars = {"step": 0}
    state_names = ("step", "exp_avg", "exp_avg_sq", "factors", "roots", "momentum_buffer")
    line_states = ("factors", "roots")
    mixes_rows = True

    def __init__(self, params: Any, lr: float = 1e-2, betas: tuple[float, float] = (0.9, 1.0), eps: float = 1e-12,
                 weight_decay: float = 0, max_preconditioner_dim: int = 1024, merge_dims: bool = True,
                 precondition_frequency: int = 1, start_preconditioning_step: int | None = None,
                 use_bias_correction: bool = True, grafting: str | None = None, grafting_beta2: float = 0.999,
                 grafting_eps: float = 1e-8, momentum: float = 0, nesterov: bool = False, *,
                 maximize: bool = False) -> None:
        super().__init__(params, dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, max_preconditioner_dim=max_preconditioner_dim,
            merge_dims=merge_dims, precondition_frequency=precondition_frequency,
            start_preconditioning_step=start_preconditioning_step, use_bias_correction=use_bias_correction,
            grafting=grafting, grafting_beta2=grafting_beta2, grafting_eps=grafting_eps, momentum=momentum,
            nesterov=nesterov, maximize=maximize))

    def check_together(self, group: Mapping[str, Any]) -> None:
        if group["nesterov"] and group["momentum"] <= 0:
            raise ValueError(f"`nesterov` needs `momentum` > 0, got momentum={group['momentum']}")

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        _, blocks = cut(group, parameter.shape)
        squares = (sum(n * n for block in blocks for n in sizes(block)),)
        wanted = {"exp_avg": group["betas"][0], "exp_avg_sq": group["grafting"] not in (None, "sgd"),
                  "momentum_buffer": group["momentum"]}
        return {"factors": squares, "roots": squares, **{key: parameter.shape for key in wanted if wanted[key]}}

    def update(self, group: Group, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray],
               scalars: dict[str, Any], finish: dict[str, float]) -> list[Update]:
        t = scalars["step"] = scalars["step"] + 1
        if not p.size:
            return [Update("descend", p, g, {"step_size": 0.0})]
        shape, blocks = cut(group, p.shape)
        beta1, beta2 = group["betas"]
        m = x = finished(g, finish)
        new: dict[str, np.ndarray] = {}
        if beta1:
            m = new["exp_avg"] = moved(np.asarray(state["exp_avg"], order="C"), x, 1.0 - beta1)
        grafted = None
        if group["grafting"] == "sgd":
            grafted = m
        elif group["grafting"]:
            new["exp_avg_sq"], grafted = self.graft(group, x, m, np.asarray(state["exp_avg_sq"], order="C"), t)
        factors = new["factors"] = accumulated(beta2, x.reshape(shape), state["factors"], blocks)
        start = group["start_preconditioning_step"] or group["precondition_frequency"]
        roots = state["roots"] if t >= start else None
        if roots is not None and (t == start or t % group["precondition_frequency"] == 0 or not roots.any()):
            roots = new["roots"] = inverse_roots(factors, blocks, bias(group, beta2, t), group["eps"])
        u = direction(m.reshape(shape), None if grafted is None else grafted.reshape(shape), roots, blocks)
        u = u * u.dtype.type(1.0 / bias(group, beta1, t))
        return [self.descent(group, p, like(p, u), state), *(put(state[key], values) for key, values in new.items())]

    def graft(self, group: Group, x: np.ndarray, m: np.ndarray, w: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """w after this gradient, and the step whose norm is grafted."""
        beta2 = 1.0 if group["grafting"] == "adagrad" else group["grafting_beta2"]
        correction = sqrt(1.0 - power(beta2, t)) if group["grafting"] == "adam" else 1.0
        real = x.dtype.type
        w = real(beta2) * w + real(fresh(beta2)) * (x * x)
        return w, m / (np.sqrt(w) * real(1.0 / correction) + real(group["grafting_eps"]))

    def descent(self, group: Group, p: np.ndarray, u: np.ndarray, state: dict[str, np.ndarray]) -> Update:
        lr, decay, momentum = group["lr"], group["weight_decay"], group["momentum"]
        if not momentum:
            return Update("descend", p, u, {"keep": 1.0 - lr * decay, "step_size": lr})
        return Update("nesterov" if group["nesterov"] else "momentum", p, u,
                      {"l2": decay, "lr": lr, "momentum": momentum, "fresh": 1.0}, (state["momentum_buffer"],))


def cut(group: Group, shape: tuple[int, ...]) -> tuple[tuple[int, ...], list[Block]]:
    """The shape in which a parameter steps, and the blocks that have matrices of their own."""
    most = group["max_preconditioner_dim"]
    if group["merge_dims"]:
        shape = merged([n for n in shape[::-1] if n != 1], most)[::-1]
    return shape, [*product(*([slice(i, min(i + most, n)) for i in range(0, n, most)] for n in shape))]


def sizes(block: Block) -> list[int]:
    return [part.stop - part.start for part in block]


def with_matrices(flat: np.ndarray, blocks: list[Block]) -> Iterator[tuple[Block, Matrices]]:
    begin = 0
    for block in blocks:
        yield block, square_views(flat[begin:], sizes(block))
        begin += sum(n * n for n in sizes(block))


def bias(group: Group, beta: float, t: int) -> float:
    return 1.0 - power(beta, t) if group["use_bias_correction"] and beta < 1 else 1.0


def fresh(beta: float) -> float:
    """The weight of what joins a mean, or a sum."""
    return 1.0 - beta if beta < 1 else 1.0


def accumulated(beta2: float, x: np.ndarray, factors: np.ndarray, blocks: list[Block]) -> np.ndarray:
    products = np.empty_like(factors)
    for block, matrices in with_matrices(products, blocks):
        write_products(x[block], matrices)
    real = factors.dtype.type
    result: np.ndarray = real(beta2) * factors + real(fresh(beta2)) * products
    return result


def inverse_roots(factors: np.ndarray, blocks: list[Block], divisor: float, eps: float) -> np.ndarray:
    roots = np.empty_like(factors)
    corrected = factors / factors.dtype.type(divisor)
    for (block, ours), (_, theirs) in zip(with_matrices(roots, blocks), with_matrices(corrected, blocks), strict=True):
        for root, factor in zip(ours, theirs, strict=True):
            assert root is not None
            assert factor is not None
            root[...] = inverse_root(factor, -1.0 / (2 * len(block)), eps)
    return roots


def inverse_root(factor: np.ndarray, exponent: float, eps: float) -> np.ndarray:
    """A negative power of a symmetric matrix, whose eigenvalues become at least eps."""
    real = factor.dtype.type
    factor.flat[::len(factor) + 1] += real(eps)
    values, vectors = eigen(factor)
    if values[0] < real(eps):                    # the least
        values = values - values[0] + real(eps)
    root: np.ndarray = (vectors * values**real(exponent)) @ vectors.T
    return root


def direction(m: np.ndarray, grafted: np.ndarray | None, roots: np.ndarray | None, blocks: list[Block]) -> np.ndarray:
    """m times the roots, and as long as what is grafted."""
    if roots is None:
        return m if grafted is None else grafted
    u = np.empty_like(m)
    for block, matrices in with_matrices(roots, blocks):
        y = multiplied(m[block], matrices)
        if grafted is not None:
            y *= y.dtype.type(norm(grafted[block]) / (norm(y) + 1e-16))
        u[block] = y
    return u


def norm(x: np.ndarray) -> float:
    return sqrt(sum_squares(np.asarray(x, order="C")))
