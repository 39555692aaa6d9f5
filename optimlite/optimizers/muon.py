"""Muon and NorMuon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from ..checks import exactly, flag, fraction, nonnegative, number, one_of, pair, shown
from ..engine.method import Group, Recipe
from ..engine.modifiers import OF_DECAY, decay_of
from ..engine.parameter import Parameter, laid_out
from ..engine.whole_matrix import MatrixOptimizer, Update, apply_now, like, moved, put
from ..native.arrays import over_arrays, sum_squares
from ..native.runtime import moments

Quintic = tuple[float, float, float]

# Polar Express (Amsel et al. 2025), for five iterations of matrices that were divided by 1.02 |u|_F.
POLAR_EXPRESS: tuple[Quintic, ...] = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def quintics(name: str, value: Any) -> Any:
    """One (a, b, c) for all iterations, one for each, or the name of such."""
    if isinstance(value, str):
        if value != "polar_express":
            raise ValueError(f"`{name}` must be three numbers, a list of such, or 'polar_express', got {shown(value)}")
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, (list, tuple)) for item in value):
        return tuple(quintic(f"{name}[{index}]", item) for index, item in enumerate(value))
    return quintic(name, value)


def quintic(name: str, value: Any) -> Quintic:
    a, b, c = (number(f"{name}[{index}]", item)
               for index, item in enumerate(exactly(3, "three numbers", name, value)))
    return a, b, c


def iterations(name: str, value: Any) -> int:
    result = number(name, value)
    if not isinstance(result, int):
        raise TypeError(f"`{name}` must be an integer, got {shown(value)}")
    if not 0 <= result < 100:
        raise ValueError(f"`{name}` must be >= 0 and < 100, got {result}")
    return result


class Muon(MatrixOptimizer):
    """Muon (Jordan et al. 2024): momentum whose singular values are all brought near 1.

        b = b + (1 - momentum) * (grad - b)
        u = grad + momentum * (b - grad)                (nesterov; else u = b)
        X = u / max(|u|_F, eps), then `ns_steps` times  A = X X^T;  X = a X + (b A + c A^2) X
        p = (1 - lr * weight_decay) * p - lr * adjustment * X

    `adjust_lr_fn` multiplies lr, but not the weight decay's: "original" (also None) by sqrt(max(1, rows / columns)),
    "match_rms_adamw" by 0.2 * sqrt(max(rows, columns)), so that rates are AdamW's (Liu et al. 2025), "spectral_norm"
    by sqrt(rows / columns), so that they transfer between widths (Bernstein 2025); rows are a layer's outputs.

    `ns_coefficients` may be a list, an (a, b, c) for each iteration.  "polar_express" (Amsel et al. 2025) is a list of
    five that bring singular values closer to 1, of X = u / (1.02 |u|_F + eps), as in the speed-runs.

    For hidden layers' matrices.  Biases, norms, embeddings and the last layer go to AdamW, in groups of the same
    optimizer with `use_muon=False`; their `lr`, `weight_decay` and `eps` are AdamW's then:

        ol.Muon([{"params": hidden, "lr": 0.02}, {"params": rest, "use_muon": False, "lr": 3e-4}])

    Parameters with more axes, such as convolutions, count as matrices of shape (shape[0], all others).  torch offers
    neither them nor AdamW's groups.

    The iteration runs in the parameter's dtype, where torch's runs in bfloat16, which keeps two to three digits.  Its
    products come from NumPy's BLAS: the bits are the same on one machine with the same number of BLAS threads.

    params: the matrices to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    weight_decay: a step multiplies p by 1 - lr * weight_decay.    eps, ns_steps: see above.
    momentum: the share of the last mean that is kept.    nesterov: looks ahead along it.
    ns_coefficients, adjust_lr_fn, use_muon: see above.    betas: AdamW's, in its groups.    maximize: ascends.
    cautious_weight_decay, corrected_weight_decay: modifiers of the decay, as in Adam.

    State: `momentum_buffer` (b); in AdamW's groups `step`, `exp_avg` and `exp_avg_sq`.
    Raises ValueError for parameters with fewer than two axes, unless in an AdamW group, for `lr`, `weight_decay`,
    `momentum` or `eps` that is negative, NaN or infinite, betas outside [0, 1), `ns_steps` outside [0, 100) or above
    the number of `ns_coefficients`, and an unknown `adjust_lr_fn`.

        >>> W = np.eye(2)
        >>> opt = ol.Muon([W], lr=0.1, weight_decay=0)
        >>> opt.step(grads=[np.array([[1.0, 0.0], [0.0, 5.0]])])
        >>> W.round(2)
        array([[0.92, 0.  ],
               [0.  , 0.93]])
    """

    checks = {"lr": nonnegative, "weight_decay": nonnegative, "momentum": nonnegative, "nesterov": flag,
              "ns_coefficients": quintics, "eps": nonnegative, "ns_steps": iterations,
              "adjust_lr_fn": one_of(None, "original", "match_rms_adamw", "spectral_norm"),
              "use_muon": flag, "betas": pair(fraction), "maximize": flag, **OF_DECAY}
    twin = "muon"
    scalars = {"step": 0}
    state_names: ClassVar[tuple[str, ...]] = ("step", "momentum_buffer", "exp_avg", "exp_avg_sq")
    later_options: ClassVar[tuple[str, ...]] = ("use_muon", "betas", *OF_DECAY)

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
                 nesterov: bool = True,
                 ns_coefficients: str | Quintic | Sequence[Quintic] = (3.4445, -4.775, 2.0315),
                 eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None, *, use_muon: bool = True,
                 betas: tuple[float, float] = (0.9, 0.95), maximize: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False) -> None:
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
                                      ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps,
                                      adjust_lr_fn=adjust_lr_fn, use_muon=use_muon, betas=betas, maximize=maximize,
                                      cautious_weight_decay=cautious_weight_decay,
                                      corrected_weight_decay=corrected_weight_decay))

    def check_together(self, group: Mapping[str, Any]) -> None:
        quintic_of_each(group)

    def check_parameter(self, parameter: Parameter, name: str, group: Group) -> None:
        if group["use_muon"] and parameter.ndim < 2:
            raise ValueError(f"parameter '{name}' must have at least two axes for {type(self).__name__}, got shape "
                             f"{parameter.shape}; give it to AdamW, in a group with use_muon=False")

    def whole(self, group: Group) -> bool:
        return bool(group["use_muon"])

    def scalars_of(self, group: Group) -> Mapping[str, float | int]:
        return {} if group["use_muon"] else self.scalars

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        if not group["use_muon"]:
            return super(MatrixOptimizer, self).state_shapes(group, parameter)
        return {"momentum_buffer": parameter.shape}

    def update(self, group: Group, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray],
               scalars: dict[str, Any], finish: dict[str, float]) -> list[Update]:
        lr, momentum, buffer = group["lr"], group["momentum"], state["momentum_buffer"]
        keep = {"keep": 1.0 - lr * decay_of(group)}
        if not p.size:
            return [Update("descend", p, g, {**keep, "step_size": 0.0})]
        u = laid_out(p)
        apply_now(Update("muon_nesterov" if group["nesterov"] else "muon", u, g,
                         {**finish, "momentum": momentum, "fresh": 1.0 - momentum}, (buffer,)))
        matrix = u.reshape(len(p), -1)
        rows, columns = matrix.shape
        x, others = self.direction(group, orthogonal(matrix, quintic_of_each(group), divisor(group, matrix)), state)
        return [Update("descend", p, like(p, x), {**keep, "step_size": lr * adjustment_of(group, rows, columns)},
                       cautious_decay=group["cautious_weight_decay"]),
                Update("mean", buffer, g, {**finish, "weight": 1.0 - momentum}), *others]

    def direction(self, group: Group, x: np.ndarray, state: dict[str, np.ndarray]) -> tuple[np.ndarray, list[Update]]:
        """What becomes of the orthogonal matrix, and of state beside the momentum."""
        return x, []

    # The groups that are AdamW's -------------------------------------------------------------------------------------

    def rule(self, group: Group) -> Recipe:
        return super().rule(group) if group["use_muon"] else ("adam", {"exp_avg": 0.0, "exp_avg_sq": 0.0})

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        return {**moments(group["lr"], group["betas"], t), "keep": 1.0 - group["lr"] * decay_of(group),
                "eps": group["eps"], "eps_root": 0.0}


class NorMuon(Muon):
    """NorMuon (Li et al. 2025): Muon, whose rows are then all brought to a similar size, as Adam does with elements.

        v = beta2 * v + (1 - beta2) * (mean of each row of X^2)
        Y = X / (sqrt(v) + 1e-10)
        p = (1 - lr * weight_decay) * p - lr * adjustment * Y * |X|_F / (|Y|_F + 1e-10)

    X, the momentum before it, and AdamW's groups are Muon's; see there.  The authors' code takes the means of a
    convolution over its last axis alone, and modded-nanogpt bounds v by 1e-10; here, as in pytorch-optimizer, it is a
    matrix throughout.

    params: the matrices to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    weight_decay: a step multiplies p by 1 - lr * weight_decay.
    beta2: how much of v is kept in a step.    momentum, nesterov: of b.    adjust_lr_fn: the scale rule.
    ns_coefficients, eps, ns_steps: of the iteration.    use_muon, betas: AdamW's groups.    maximize: ascends.
    cautious_weight_decay, corrected_weight_decay: modifiers of the decay, as in Adam.

    State: `momentum_buffer`, and `second_momentum_buffer` (v) of shape (rows, 1); in AdamW's groups as in Muon.
    Raises ValueError as Muon does, and for beta2 outside [0, 1).

        >>> W = np.eye(2)
        >>> opt = ol.NorMuon([W], lr=0.1, weight_decay=0)
        >>> opt.step(grads=[np.array([[1.0, 0.0], [0.0, 5.0]])])
        >>> W.round(2)
        array([[0.92, 0.  ],
               [0.  , 0.92]])
    """

    checks = {**Muon.checks, "beta2": fraction}
    twin = "normuon"
    state_names = (*Muon.state_names, "second_momentum_buffer")
    line_states = ("second_momentum_buffer",)
    later_options = ()

    def __init__(self, params: Any, lr: float = 0.02, weight_decay: float = 0, momentum: float = 0.95,
                 beta2: float = 0.95, nesterov: bool = True,
                 ns_coefficients: str | Quintic | Sequence[Quintic] = (3.4445, -4.775, 2.0315),
                 eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None, *, use_muon: bool = True,
                 betas: tuple[float, float] = (0.9, 0.95), maximize: bool = False, cautious_weight_decay: bool = False,
                 corrected_weight_decay: bool | float = False) -> None:
        MatrixOptimizer.__init__(self, params, dict(
            lr=lr, weight_decay=weight_decay, momentum=momentum, beta2=beta2, nesterov=nesterov,
            ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps, adjust_lr_fn=adjust_lr_fn, use_muon=use_muon,
            betas=betas, maximize=maximize, cautious_weight_decay=cautious_weight_decay,
            corrected_weight_decay=corrected_weight_decay))

    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]:
        shapes = super().state_shapes(group, parameter)
        return shapes | {"second_momentum_buffer": (len(parameter.data), 1)} if group["use_muon"] else shapes

    def direction(self, group: Group, x: np.ndarray, state: dict[str, np.ndarray]) -> tuple[np.ndarray, list[Update]]:
        means = np.square(x).mean(axis=1, keepdims=True)
        v = moved(state["second_momentum_buffer"], means, 1.0 - group["beta2"])
        scale = 1 / (np.sqrt(v) + x.dtype.type(1e-10))
        # |X|^2 and |Y|^2 are sums over the rows, whose means are known
        before, after = (sqrt(x.shape[1] * float(squares.sum())) for squares in (means, scale * scale * means))
        return x * (scale * x.dtype.type(before / (after + 1e-10))), [
            put(state["second_momentum_buffer"], v)]


def quintic_of_each(group: Mapping[str, Any]) -> list[Quintic]:
    """The coefficients of each iteration.  Raises ValueError where the group has too few."""
    listed, steps = group["ns_coefficients"], group["ns_steps"]
    if listed == "polar_express":
        listed = POLAR_EXPRESS
    if not isinstance(listed[0], tuple):
        return [listed] * steps
    if steps > len(listed):
        raise ValueError(f"`ns_steps` must be <= {len(listed)}, the number of `ns_coefficients`, got {steps}")
    return [*listed[:steps]]


def divisor(group: Group, matrix: np.ndarray) -> float:
    norm, eps = sqrt(sum_squares(matrix.T if matrix.flags.fnc else matrix)), float(group["eps"])
    return 1.02 * norm + eps if group["ns_coefficients"] == "polar_express" else max(norm, eps)


def adjustment_of(group: Group, rows: int, columns: int) -> float:
    if group["adjust_lr_fn"] == "match_rms_adamw":
        return 0.2 * sqrt(max(rows, columns))
    ratio = rows / columns
    return sqrt(ratio if group["adjust_lr_fn"] == "spectral_norm" else max(1.0, ratio))


def orthogonal(u: np.ndarray, coefficients: Sequence[Quintic], norm: float) -> np.ndarray:
    """Newton-Schulz: a matrix with the singular vectors of `u`, whose singular values are near 1; changes `u`."""
    if not u.flags.c_contiguous:
        return orthogonal(u.T, coefficients, norm).T
    tall = u.shape[0] > u.shape[1]               # X^T X is the smaller product then, and comes from the right
    x, product = u, np.empty_like(u)
    over_arrays("scale", [x], c=1.0 / norm if norm else np.inf)
    for a, b, c in coefficients:
        gram = x.T @ x if tall else x @ x.T
        polynomial = gram @ gram
        apply_now(Update("descend", polynomial, gram, {"keep": c, "step_size": -b}))
        np.matmul(x if tall else polynomial, polynomial if tall else x, out=product)
        apply_now(Update("descend", product, x, {"keep": 1.0, "step_size": -a}))
        x, product = product, x
    return x
