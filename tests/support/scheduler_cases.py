"""The table of schedules: a row is how to build one, in optimlite or in torch, and how closely the two must agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RATES = (0.1, 0.03)
CLOSED, RECURSIVE = 1e-12, 1e-9  # relative tolerance where torch has a closed form, and where it recurses
BY_HAND = {4: lambda lr: 0.7 * lr + 0.002, 9: lambda lr: 0.05}  # before these steps the rates are changed by hand


class Decay:
    """A callable object, whose attributes a scheduler saves."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, t: float) -> float:
        try:
            return self.rate**t
        except OverflowError:            # where fuzzing has changed the rate
            return math.inf


def each_step(schedulers: list[Any], k: int) -> None:
    for scheduler in schedulers:
        scheduler.step()


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[Any, Any], Any]  # (module of schedulers, optimizer) -> one scheduler or a list of them
    steps: int  # two cycles of the longest period, where there is one
    tolerance: float = RECURSIVE
    optimizer: str = "SGD"
    step: Callable[[list[Any], int], None] = each_step
    in_torch: bool = True

    @property
    def listed(self) -> bool:
        """Whether arguments are given as a list with an entry per group."""
        return "listed" in self.build.__code__.co_names

    def schedulers(self, module: Any, optimizer: Any) -> list[Any]:
        built = self.build(module, optimizer)
        return built if isinstance(built, list) else [built]


def listed(optimizer: Any, *values: Any) -> list[Any]:
    return list(values[: len(optimizer.param_groups)])


METRICS = [5, 4, 3, 3, 3, 3, 2.9999, 3, 3, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5]


def with_metric(sign: float) -> Callable[[list[Any], int], None]:
    def step(schedulers: list[Any], k: int) -> None:
        *others, plateau = schedulers
        each_step(others, k)
        plateau.step(sign * METRICS[k % len(METRICS)])

    return step


def from_step(switch: int) -> Callable[[list[Any], int], None]:
    """The first scheduler until count `switch`, the second one from then on."""
    return lambda schedulers, k: schedulers[k >= switch].step()


SINGLE = [
    Case("lambda", lambda s, o: s.LambdaLR(o, lambda t: 1 / (1 + t)), 20, CLOSED),
    Case("lambda_from_zero", lambda s, o: s.LambdaLR(o, lambda t: min(1.0, t / 5)), 20, CLOSED),
    Case("lambda_per_group", lambda s, o: s.LambdaLR(o, listed(o, Decay(0.9), lambda t: 2.0 - t / 20)), 20, CLOSED),
    Case("multiplicative", lambda s, o: s.MultiplicativeLR(o, lambda t: 0.95 if t % 3 else 1.1), 30),
    Case("multiplicative_per_group", lambda s, o: s.MultiplicativeLR(o, listed(o, lambda t: 0.9, Decay(0.99))), 20),
    Case("step", lambda s, o: s.StepLR(o, 6, 0.3), 24, CLOSED),
    Case("multistep", lambda s, o: s.MultiStepLR(o, [12, 3, 7, 7], 0.5), 24, CLOSED),
    Case("multistep_at_zero", lambda s, o: s.MultiStepLR(o, [0, 5], 0.5), 10, CLOSED),
    Case("constant", lambda s, o: s.ConstantLR(o, 0.3, 6), 12, CLOSED),
    Case("linear", lambda s, o: s.LinearLR(o), 12, CLOSED),
    Case("linear_down", lambda s, o: s.LinearLR(o, 0.9, 0.2, 8), 16, CLOSED),
    Case("linear_to_zero", lambda s, o: s.LinearLR(o, 1.0, 0.0, 8), 16, CLOSED),
    Case("exponential", lambda s, o: s.ExponentialLR(o, 0.93), 40, CLOSED),
    Case("polynomial", lambda s, o: s.PolynomialLR(o, 9, 2.0), 18, CLOSED),
    Case("polynomial_root", lambda s, o: s.PolynomialLR(o, 9, 0.5), 18, CLOSED),
    Case("cosine", lambda s, o: s.CosineAnnealingLR(o, 10), 40, CLOSED),
    Case("cosine_floor", lambda s, o: s.CosineAnnealingLR(o, 7, 0.004), 28, CLOSED),
    Case("restarts", lambda s, o: s.CosineAnnealingWarmRestarts(o, 6, eta_min=0.001), 24, CLOSED),
    Case("restarts_longer", lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2), 42, CLOSED),
    Case("restarts_fractions", lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, 0.002), 60, CLOSED,
         step=lambda schedulers, k: schedulers[0].step((k + 1) * 0.3)),
    Case("restarts_fraction_then_whole", lambda s, o: s.CosineAnnealingWarmRestarts(o, 5), 24, CLOSED,
         step=lambda schedulers, k: schedulers[0].step(*([2.5] if k == 3 else []))),
    Case("cyclic", lambda s, o: s.CyclicLR(o, 0.01, 0.1, 5), 20, CLOSED),
    Case("cyclic_defaults", lambda s, o: s.CyclicLR(o, 0.01, 0.1), 12, CLOSED),
    Case("cyclic_from_zero",
         lambda s, o: s.CyclicLR(o, 0.0, listed(o, 0.1, 0.2), 4, 6, cycle_momentum=False), 20, CLOSED),
    Case("cyclic_halving", lambda s, o: s.CyclicLR(o, 0.01, 0.1, 4, 6, mode="triangular2"), 40, CLOSED, "Adam"),
    Case("cyclic_exp",
         lambda s, o: s.CyclicLR(o, listed(o, 0.01, 0.02), 0.1, 5, mode="exp_range", gamma=0.98), 40, CLOSED),
    Case("cyclic_own", lambda s, o: s.CyclicLR(o, 0.01, 0.1, 5, scale_fn=Decay(0.8)), 40, CLOSED),
    Case("cyclic_own_iterations",
         lambda s, o: s.CyclicLR(o, 0.01, 0.1, 5, scale_fn=lambda t: 1 / (1 + t), scale_mode="iterations"), 40, CLOSED),
    Case("onecycle", lambda s, o: s.OneCycleLR(o, 0.5, 40), 39, CLOSED),
    Case("onecycle_linear", lambda s, o: s.OneCycleLR(
        o, listed(o, 0.5, 0.2), epochs=5, steps_per_epoch=8, pct_start=0.25, anneal_strategy="linear", div_factor=10),
         39, CLOSED, "Adam"),
    Case("onecycle_three", lambda s, o: s.OneCycleLR(o, 0.5, 41, pct_start=0.4, three_phase=True), 40, CLOSED),
    Case("onecycle_only_lr", lambda s, o: s.OneCycleLR(o, 0.5, 20, pct_start=0.0, cycle_momentum=False), 19, CLOSED),
    Case("swa", lambda s, o: s.SWALR(o, 0.02, 8), 16),
    Case("swa_linear", lambda s, o: s.SWALR(o, listed(o, 0.02, 0.05), 8, "linear"), 16),
    Case("swa_at_once", lambda s, o: s.SWALR(o, 0.02, 0), 4),
    Case("warmup_cosine", lambda s, o: s.WarmupCosineLR(o, 5, 20, 0.1), 40, in_torch=False),
    Case("warmup_stable_decay", lambda s, o: s.WarmupStableDecayLR(o, 4, 10, 6), 40, in_torch=False),
    Case("warmup_stable_sqrt", lambda s, o: s.WarmupStableDecayLR(o, 4, 10, 6, "sqrt", 0.1, 0.2), 40, in_torch=False),
]

COMPOSED = [
    Case("sequential", lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 12)], [5]), 53),
    Case("sequential_three", lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.2, 9), s.ExponentialLR(o, 0.9), s.StepLR(o, 3, 0.5)], [4, 11]), 24),
    Case("sequential_restarts_first", lambda s, o: s.SequentialLR(
        o, [s.CosineAnnealingWarmRestarts(o, 3, 2), s.PolynomialLR(o, 8)], [14]), 28),
    Case("sequential_restarts_later", lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, total_iters=4), s.CosineAnnealingWarmRestarts(o, 5)], [4]), 24),
    Case("sequential_lambda", lambda s, o: s.SequentialLR(
        o, [s.LambdaLR(o, lambda t: (t + 1) / 5), s.MultiStepLR(o, [3, 6], 0.5)], [5]), 20),
    # In torch a cycle's start replaces the initial rate, for all schedules beside it; so here it starts at that rate.
    Case("sequential_onecycle", lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 1.0, 3), s.OneCycleLR(o, listed(o, *(3 * lr for lr in RATES)), 20, div_factor=3.0,
                                                  max_momentum=0.9)], [3]), 22),
    Case("sequential_one", lambda s, o: s.SequentialLR(o, [s.ExponentialLR(o, 0.9)], []), 12),
    Case("chained", lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.3, 6), s.ExponentialLR(o, 0.9)]), 24),
    Case("chained_three", lambda s, o: s.ChainedScheduler(
        [s.LinearLR(o, 0.2, 1.0, 6), s.StepLR(o, 5, 0.5), s.MultiStepLR(o, [4, 9], 0.7)], o), 24),
    Case("chained_cosine", lambda s, o: s.ChainedScheduler(
        [s.CosineAnnealingLR(o, 8, 0.002), s.ExponentialLR(o, 0.95)]), 32),
    Case("chained_multiplicative", lambda s, o: s.ChainedScheduler(
        [s.MultiplicativeLR(o, lambda t: 0.97), s.PolynomialLR(o, 15, 1.5)]), 30),
    Case("chained_in_chained", lambda s, o: s.ChainedScheduler(
        [s.ChainedScheduler([s.ConstantLR(o, 0.3, 6), s.ExponentialLR(o, 0.9)]), s.StepLR(o, 4, 0.5)]), 24),
    Case("chained_swa", lambda s, o: s.ChainedScheduler([s.ExponentialLR(o, 0.95), s.SWALR(o, 0.02, 9)]), 20),
]

# What torch gets wrong in these nestings has its own tests; here they are saved, restored and compared with `at`.
NESTED = [
    Case("restarts_in_chained", lambda s, o: s.ChainedScheduler(
        [s.CosineAnnealingWarmRestarts(o, 5), s.MultiStepLR(o, [4, 9], 0.5)]), 20, in_torch=False),
    Case("warmup_in_chained", lambda s, o: s.ChainedScheduler(
        [s.LambdaLR(o, lambda t: min(1.0, t / 6)), s.CosineAnnealingLR(o, 10), s.ExponentialLR(o, 0.99)]), 40,
         in_torch=False),
    Case("cyclic_in_chained", lambda s, o: s.ChainedScheduler(
        [s.ExponentialLR(o, 0.9), s.CyclicLR(o, 0.0, 0.1, 4), s.LambdaLR(o, Decay(0.99))]), 16, in_torch=False),
    Case("sequential_in_chained", lambda s, o: s.ChainedScheduler(
        [s.SequentialLR(o, [s.LinearLR(o), s.CosineAnnealingLR(o, 8)], [5]), s.ConstantLR(o, 0.5, 9)]), 20,
         in_torch=False),
    Case("chained_in_sequential", lambda s, o: s.SequentialLR(o, [
        s.ChainedScheduler([s.ConstantLR(o, 0.3, 4), s.ExponentialLR(o, 0.9)]),
        s.ChainedScheduler([s.CosineAnnealingWarmRestarts(o, 4), s.MultiplicativeLR(o, Decay(0.99))])], [6]), 22,
         in_torch=False),
    Case("sequential_in_sequential", lambda s, o: s.SequentialLR(o, [
        s.SequentialLR(o, [s.LinearLR(o), s.MultiplicativeLR(o, lambda t: 0.9)], [4]),
        s.SequentialLR(o, [s.WarmupCosineLR(o, 2, 8), s.OneCycleLR(o, 0.2, 9)], [8])], [8]), 24, in_torch=False),
]

COMPOUND = [
    Case("linear+exponential", lambda s, o: [s.LinearLR(o, 0.1, total_iters=6), s.ExponentialLR(o, 0.95)], 24),
    Case("constant+constant", lambda s, o: [s.ConstantLR(o, 0.5, 4), s.ConstantLR(o, 0.5, 9)], 20),
    Case("step+cosine", lambda s, o: [s.StepLR(o, 5, 0.6), s.CosineAnnealingLR(o, 9, 0.001)], 36),
    Case("constant+multiplicative+polynomial", lambda s, o: [
        s.ConstantLR(o, 0.4, 5), s.MultiplicativeLR(o, lambda t: 0.98), s.PolynomialLR(o, 14)], 28),
    Case("exponential_then_swa", lambda s, o: [s.ExponentialLR(o, 0.9), s.SWALR(o, 0.05, 6)], 24, step=from_step(8)),
    Case("restarts+exponential", lambda s, o: [s.CosineAnnealingWarmRestarts(o, 5), s.ExponentialLR(o, 0.9)], 20),
    Case("plateau", lambda s, o: s.ReduceLROnPlateau(o, factor=0.5, patience=2), 60, CLOSED, step=with_metric(1)),
    Case("plateau_max", lambda s, o: s.ReduceLROnPlateau(
        o, "max", 0.3, 1, 0.01, "abs", 2, listed(o, 0.001, 0.002)), 60, CLOSED, step=with_metric(-1)),
    Case("linear+plateau", lambda s, o: [s.LinearLR(o, total_iters=6), s.ReduceLROnPlateau(o, patience=1)], 30,
         step=with_metric(1)),
]

CASES = SINGLE + COMPOSED + NESTED + COMPOUND
FUNCTIONS = SINGLE + COMPOSED + NESTED  # one scheduler, a function of the count
WHOLE = [case for case in FUNCTIONS if "fraction" not in case.name]      # that of whole steps
BY_NAME = {case.name: case for case in CASES}


def optimizer(case: Case, groups: int = 2) -> Any:
    """An optimizer of optimlite with one parameter per group; its gradients stay as they are."""
    import numpy as np

    import optimlite as ol

    parameters = [ol.Parameter(np.ones(3)) for _ in RATES[:groups]]
    for k, parameter in enumerate(parameters):
        parameter.grad = np.linspace(-1.0, 1.0, 3) + k
    params = [{"params": [parameter], "lr": lr} for parameter, lr in zip(parameters, RATES, strict=False)]
    return ol.Adam(params) if case.optimizer == "Adam" else ol.SGD(params, momentum=0.9)


def momentum(group: dict[str, Any]) -> float:
    return float(group["betas"][0] if "betas" in group else group["momentum"])


def values(optimizer: Any) -> list[float]:
    """The rate of every group, then the momentum of every group."""
    groups = optimizer.param_groups
    return [float(group["lr"]) for group in groups] + [momentum(group) for group in groups]


def walk(case: Case, schedulers: list[Any], optimizer: Any, counts: range, by_hand: bool = False,
         seen: Callable[[Any], Any] = values) -> list[Any]:
    """What is seen of the optimizer after each of these counts."""
    rows = []
    for k in counts:
        optimizer.step()
        if by_hand and k in BY_HAND:
            for group in optimizer.param_groups:
                group["lr"] = BY_HAND[k](group["lr"])
        case.step(schedulers, k)
        rows.append(seen(optimizer))
    return rows


def trajectory(case: Case, module: Any, optimizer: Any, by_hand: bool = False) -> list[list[float]]:
    """The values at the start and after each count."""
    schedulers = case.schedulers(module, optimizer)
    return [values(optimizer), *walk(case, schedulers, optimizer, range(case.steps), by_hand)]
