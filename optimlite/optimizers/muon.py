"""Muon."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..checks import exactly, flag, nonnegative, number, shown
from ..engine.method import Group
from ..engine.parameter import Parameter, laid_out
from ..engine.whole_matrix import MatrixOptimizer, Update, apply_now
from ..native.arrays import over_arrays, sum_squares

ADJUSTMENTS = (None, "original", "match_rms_adamw")


def coefficients_of_quintic(name: str, value: Any) -> tuple[float, ...]:
    items = exactly(3, "three numbers", name, value)
    return tuple(number(f"{name}[{index}]", item) for index, item in enumerate(items))


def iterations(name: str, value: Any) -> int:
    result = number(name, value)
    if not isinstance(result, int):
        raise TypeError(f"`{name}` must be an integer, got {shown(value)}")
    if not 0 <= result < 100:
        raise ValueError(f"`{name}` must be >= 0 and < 100, got {result}")
    return result


def adjustment(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value in ADJUSTMENTS):
        return value
    raise ValueError(f"`{name}` must be None, 'original' or 'match_rms_adamw', got {shown(value)}")


class Muon(MatrixOptimizer):
    """Muon (Jordan et al. 2024): momentum whose singular values are all brought near 1.

        b = b + (1 - momentum) * (grad - b)
        u = grad + momentum * (b - grad)                (nesterov; else u = b)
        X = u / max(|u|_F, eps), then `ns_steps` times  A = X X^T;  X = a X + (b A + c A^2) X
        p = (1 - lr * weight_decay) * p - lr * adjustment * X

    `adjust_lr_fn`: "original" (also None) multiplies lr by
    sqrt(max(1, rows / columns)), "match_rms_adamw" by 0.2 * sqrt(max(rows, columns)).  Weight decay uses lr as it is.

    For hidden layers' matrices; give biases, norms, embeddings and the last layer to AdamW.  Parameters with more axes,
    such as convolutions, count as matrices of shape (shape[0], all others), which torch doesn't offer.

    The iteration runs in the parameter's dtype, where torch's runs in bfloat16, which keeps two to three digits.  Its
    products come from NumPy's BLAS: the bits are the same on one machine with the same number of BLAS threads.

    params: the matrices to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    weight_decay: a step multiplies p by 1 - lr * weight_decay.    eps, ns_steps: see above.
    momentum: the share of the last mean that is kept.    nesterov: looks ahead along it.
    ns_coefficients: (a, b, c).    adjust_lr_fn: see above.

    State: `momentum_buffer` (b).
    Raises ValueError for parameters with fewer than two axes, for `lr`, `weight_decay`, `momentum` or `eps` that is
    negative, NaN or infinite, `ns_steps` outside [0, 100), and an unknown `adjust_lr_fn`.

        >>> W = np.eye(2)
        >>> opt = ol.Muon([W], lr=0.1, weight_decay=0)
        >>> opt.step(grads=[np.array([[1.0, 0.0], [0.0, 5.0]])])
        >>> W.round(2)
        array([[0.92, 0.  ],
               [0.  , 0.93]])
    """

    checks = {"lr": nonnegative, "weight_decay": nonnegative, "momentum": nonnegative, "nesterov": flag,
              "ns_coefficients": coefficients_of_quintic, "eps": nonnegative, "ns_steps": iterations,
              "adjust_lr_fn": adjustment}
    twin = "muon"
    state_names = ("momentum_buffer",)

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
                 nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
                 eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None) -> None:
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
                                      ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps,
                                      adjust_lr_fn=adjust_lr_fn))

    def check_parameter(self, parameter: Parameter, name: str) -> None:
        if parameter.ndim < 2:
            raise ValueError(f"parameter '{name}' must have at least two axes for Muon, got shape {parameter.shape}; "
                             f"give it to AdamW")

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        return {"momentum_buffer": parameter.shape}

    def update(self, group: Group, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray],
               scalars: dict[str, Any], finish: dict[str, float]) -> list[Update]:
        lr, momentum, buffer = group["lr"], group["momentum"], state["momentum_buffer"]
        h = {"keep": 1.0 - lr * group["weight_decay"]}
        if not p.size:
            return [Update("descend", p, g, {**h, "step_size": 0.0})]
        u = laid_out(p)
        apply_now(Update("muon_nesterov" if group["nesterov"] else "muon", u, g,
                    {**finish, "momentum": momentum, "fresh": 1.0 - momentum}, (buffer,)))
        matrix = u.reshape(len(p), -1)
        rows, columns = matrix.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            lr *= 0.2 * sqrt(max(rows, columns))
        else:
            lr *= sqrt(max(1.0, rows / columns))
        x = orthogonal(matrix, group["ns_coefficients"], group["ns_steps"], group["eps"])
        x = np.asarray(x.reshape(p.shape), order="F" if p.flags.fnc else "C")
        return [Update("descend", p, x, {**h, "step_size": lr}),
                Update("mean", buffer, g, {**finish, "weight": 1.0 - momentum})]


def orthogonal(u: np.ndarray, coefficients: tuple[float, float, float], steps: int, eps: float) -> np.ndarray:
    """Newton-Schulz: a matrix with the singular vectors of `u`, whose singular values are near 1; changes `u`."""
    if not u.flags.c_contiguous:
        return orthogonal(u.T, coefficients, steps, eps).T
    a, b, c = coefficients
    tall = u.shape[0] > u.shape[1]               # X^T X is the smaller product then, and comes from the right
    x, product = u, np.empty_like(u)
    over_arrays("scale", [x], c=1.0 / max(sqrt(sum_squares(x)), eps))
    for _ in range(steps):
        gram = x.T @ x if tall else x @ x.T
        polynomial = gram @ gram
        apply_now(Update("descend", polynomial, gram, {"keep": c, "step_size": -b}))
        np.matmul(x if tall else polynomial, polynomial if tall else x, out=product)
        apply_now(Update("descend", product, x, {"keep": 1.0, "step_size": -a}))
        x, product = product, x
    return x
