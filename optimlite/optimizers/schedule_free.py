"""Schedule-Free SGD, AdamW and RAdam: an average of the iterates takes the place of a schedule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any, Unpack

from .. import swapping
from ..checks import flag, fraction, interval, nonnegative, pair
from ..engine.halves import exact
from ..engine.method import Group, Recipe
from ..engine.rule_optimizer import RuleOptimizer
from ..engine.storage import COPIES, Storage
from ..native.runtime import power, real_power
from .radam import rectification

TRACTABLE = 4.0                  # the authors'; torch's RAdam, and ours, has 5


def averaging_betas(name: str, value: Any) -> tuple[float, float]:
    beta1, beta2 = pair(fraction)(name, value)
    return averaging(f"{name}[0]", beta1), beta2


averaging = interval(0, 1, closed="neither")     # with 0, parameters would hold z, and x would be nowhere


class ScheduleFree(RuleOptimizer):
    """What the three have in common: the weights of the average, and the way from y to x and back."""

    scalars = {"step": 0, "weight_sum": 0.0, "lr_max": 0.0}
    exact_states = ("z",)

    def share_of_average(self, group: Group) -> float:
        raise NotImplementedError

    def weights(self, group: Group, state: dict[str, Any], lr: float, first: bool) -> dict[str, float]:
        """The coefficients that all three have; moves every scalar except `step`."""
        if swapping.swaps and swapping.meets(p.data for p in group["params"]):
            raise RuntimeError("averages are swapped in; leave `with optimizer.swapped()`, or the Average's, before "
                               "step()")
        state["lr_max"] = max(lr, state["lr_max"])
        weight = weighing_power(state["step"], group["r"]) * weighing_power(state["lr_max"], group["weight_lr_power"])
        total = state["weight_sum"] = state["weight_sum"] + weight
        newest = weight / total if total > 0.0 else 0.0
        return {"first": float(first), "newest": newest, "lr": lr,
                "pull": lr * (1.0 - self.share_of_average(group) * (1.0 - newest))}

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside `with`, the parameters hold the average x, to be evaluated; afterwards y again, bit for bit.

        Running means of a model's own (of batch normalization) belong to y: for x, compute them anew inside, by forward
        passes over some training data, and put those of y back afterwards.

        What is written to the parameters inside is lost, and `step` raises RuntimeError.  Whatever is saved, pickled or
        loaded inside means the same as outside: `ol.save(path, model=params, optimizer=opt)` saves y and z, with which
        training goes on.  For a file of x, save copies of the parameters.  Takes memory of the parameters' size.

        Raises RuntimeError where averages of these parameters are swapped in already.
        """
        parameters, averages = [], []
        for group in self.param_groups:
            away = 1.0 - 1.0 / self.share_of_average(group)
            for p in group["params"]:
                parameters.append(p)
                y = exact(p, self.state[p])
                averages.append(y.copy(order="K"))
                if "z" in self.state[p]:
                    averages[-1] += p.float_type.type(away) * (self.state[p]["z"] - y)
        yield from swapping.held(swapping.Swap(*swapping.with_shadows(parameters, averages)))

    def __getstate__(self) -> dict[str, Any]:
        arrays = [p.data for p in self._parameters()]
        return {**super().__getstate__(), "_own": list(map(swapping.outside, arrays)) if swapping.meets(arrays) else []}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        own = saved.pop("_own")                  # of parameters that were pickled while they held x
        super().__setstate__(saved)
        for parameter, values in zip(self._parameters(), own, strict=bool(own)):
            if not swapping.meets([parameter.data]):                 # as where a shallow copy shares them
                parameter.data = values


class ScheduleFreeSGD(ScheduleFree):
    """Schedule-Free SGD (Defazio et al. 2024): SGD without a schedule of the rate, by an average of its iterates.

        u = grad + weight_decay * y,  lr_t = lr * min(1, t / warmup_steps)
        c = w_t / (w_1 + ... + w_t),  w_t = t^r * max(lr_1, ..., lr_t)^weight_lr_power
        y = (1 - c) * y + c * z - lr_t * (1 - momentum * (1 - c)) * u
        z = z - lr_t * u

    The parameters hold y = (1 - momentum) * z + momentum * x, where gradients are taken, and `with opt.swapped():` the
    average x, which is to be evaluated.  A constant `lr` is meant; rates are larger than SGD's.  `maximize` ascends.

    The rule of the authors' package (schedulefree), with its defaults.  Here a parameter counts its own steps, there a
    group does, also for parameters without a gradient; and x comes and goes by `swapped`, in the place of `train()` and
    `eval()`.  optax's schedule_free computes x anew in each step, which rounds otherwise, and has no `r`.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    momentum: the share of x in y.    weight_decay: added to the gradient (L2), at y.
    warmup_steps: over so many steps lr grows in proportion to t.    r, weight_lr_power: the weights of the average.
    maximize: ascends, as if grad were negated.
    storage: `master`, `rounding`, `seed`, `cast_grads`: see docs/memory.md.  `state_dtype` is refused: z must be exact.

    State: `step`, `weight_sum` (w_1 + ... + w_t), `lr_max`, `z`.
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, and for a momentum outside (0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.ScheduleFreeSGD([w], lr=0.3)
        >>> for _ in range(50):
        ...     opt.step(grads=[2 * w])
        >>> with opt.swapped():
        ...     print(w.round(3))
        [-0.001  0.002]
    """

    checks = {"lr": nonnegative, "momentum": averaging, "weight_decay": nonnegative, "warmup_steps": nonnegative,
              "r": nonnegative, "weight_lr_power": nonnegative, "maximize": flag}
    state_names = (*ScheduleFree.scalars, "z")
    options = COPIES

    def __init__(self, params: Any, lr: float = 1.0, momentum: float = 0.9, weight_decay: float = 0,
                 warmup_steps: int = 0, r: float = 0.0, weight_lr_power: float = 2.0, *,
                 maximize: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, warmup_steps=warmup_steps,
                                      r=r, weight_lr_power=weight_lr_power, maximize=maximize), **storage)

    def share_of_average(self, group: Group) -> float:
        return float(group["momentum"])

    def rule(self, group: Group) -> Recipe:
        return "schedule_free_sgd", {"z": 0.0}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        return {**self.weights(group, state, warmed_up(group, t), first), "l2": group["weight_decay"]}


class ScheduleFreeAdam(ScheduleFree):
    """What AdamW and RAdam have in common."""

    state_names = (*ScheduleFree.scalars, "z", "exp_avg_sq")

    def share_of_average(self, group: Group) -> float:
        return float(group["betas"][0])

    def rule(self, group: Group) -> Recipe:
        return "schedule_free_adam", {"z": 0.0, "exp_avg_sq": 0.0}

    def normalization(self, group: Group, t: int) -> dict[str, float]:
        beta2 = group["betas"][1]
        return {"decay": group["weight_decay"], "beta2": beta2, "fresh2": 1.0 - beta2,
                "inv_root_bias2": 1.0 / sqrt(1.0 - power(beta2, t)), "eps": group["eps"]}


class ScheduleFreeAdamW(ScheduleFreeAdam):
    """Schedule-Free AdamW (Defazio et al. 2024): AdamW without a schedule of the rate, by an average of its iterates.

        v = beta2 * v + (1 - beta2) * grad^2
        u = grad / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * y

    Everything else as in ScheduleFreeSGD, with beta1 for its momentum: the parameters hold y, where gradients are
    taken, and `with opt.swapped():` the average x, which is to be evaluated.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas: the share of x in y, and how much of v is kept in a step.
    eps: keeps the division finite.    weight_decay: see u.
    warmup_steps: over so many steps lr grows in proportion to t.    r, weight_lr_power: the weights of the average.
    maximize: ascends, as if grad were negated.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `weight_sum`, `lr_max`, `z`, `exp_avg_sq` (v).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, for a beta1 outside (0, 1) and a beta2
    outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.ScheduleFreeAdamW([w], lr=0.1)
        >>> for _ in range(50):
        ...     opt.step(grads=[2 * w])
        >>> with opt.swapped():
        ...     print(w.round(3))
        [-0.082 -0.17 ]
    """

    checks = {"lr": nonnegative, "betas": averaging_betas, "eps": nonnegative, "weight_decay": nonnegative,
              "warmup_steps": nonnegative, "r": nonnegative, "weight_lr_power": nonnegative, "maximize": flag}

    def __init__(self, params: Any, lr: float = 2.5e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, warmup_steps: int = 0, r: float = 0.0, weight_lr_power: float = 2.0, *,
                 maximize: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                                      warmup_steps=warmup_steps, r=r, weight_lr_power=weight_lr_power,
                                      maximize=maximize), **storage)

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        return {**self.weights(group, state, warmed_up(group, t), first), **self.normalization(group, t),
                "normalized": 1.0}


class ScheduleFreeRAdam(ScheduleFreeAdam):
    """Schedule-Free RAdam (Defazio et al. 2024; Liu et al. 2020): its first steps wait for second moments to settle.

        rho = r' - 2 * t * beta2^t / (1 - beta2^t),  r' = 2 / (1 - beta2) - 1
        lr_t = lr * [rho > 4: sqrt((rho - 4) * (rho - 2) * r' / ((r' - 4) * (r' - 2) * rho)), else 0]

    Everything else as in ScheduleFreeAdamW; this is instead of a warm-up.  With `silent_sgd_phase=False`, the first
    steps are SGD's, with lr_t = lr and u = grad + weight_decay * y.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: the learning rate.    betas, eps, weight_decay, r, weight_lr_power, maximize: as in ScheduleFreeAdamW.
    silent_sgd_phase: the first steps move nothing.
    storage: `state_dtype`, `master`, `rounding`, `seed`, `cast_grads`: fewer bytes of state; see docs/memory.md.

    State: `step`, `weight_sum`, `lr_max`, `z`, `exp_avg_sq` (v).
    Raises ValueError for hyper-parameters that are negative, NaN or infinite, for a beta1 outside (0, 1) and a beta2
    outside [0, 1).

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.ScheduleFreeRAdam([w], lr=0.1)
        >>> for _ in range(50):
        ...     opt.step(grads=[2 * w])
        >>> with opt.swapped():
        ...     print(w.round(3))
        [ 0.752 -1.744]
    """

    checks = {"lr": nonnegative, "betas": averaging_betas, "eps": nonnegative, "weight_decay": nonnegative,
              "r": nonnegative, "weight_lr_power": nonnegative, "silent_sgd_phase": flag, "maximize": flag}

    def __init__(self, params: Any, lr: float = 2.5e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, r: float = 0.0, weight_lr_power: float = 2.0,
                 silent_sgd_phase: bool = True, *, maximize: bool = False, **storage: Unpack[Storage]) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, r=r,
                                      weight_lr_power=weight_lr_power, silent_sgd_phase=silent_sgd_phase,
                                      maximize=maximize), **storage)

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        t = state["step"] = state["step"] + 1
        factor = sqrt(rectification(group["betas"][1], t, TRACTABLE))
        lr = group["lr"] * (factor or float(not group["silent_sgd_phase"]))
        return {**self.weights(group, state, lr, first), **self.normalization(group, t),
                "normalized": float(factor > 0.0)}


def warmed_up(group: Group, t: int) -> float:
    """The rate of step t."""
    return float(group["lr"] * (t / group["warmup_steps"]) if t <= group["warmup_steps"] else group["lr"])


def weighing_power(base: float, exponent: float) -> float:
    """base ** exponent for a base and an exponent >= 0; exact where the exponent is 0 or 1."""
    if exponent in (0.0, 1.0):
        return base if exponent else 1.0
    return real_power(base, exponent) if base else 0.0
