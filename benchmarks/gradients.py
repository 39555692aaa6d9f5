"""Clip, step and zero: what a training loop does around a step, in one pass here and in three passes in torch.

Zeroed gradients decay the moments, so every contender gets the same gradients back before each measurement.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

import optimlite as ol

from .cases import CASES, Case, Work
from .contenders import Limit, Optimlite, check
from .measure import Contender
from .peers import TorchFused
from .problem import ALL, Array, Problem, Stepper
from .rows import Result, Row

MAX_NORM = 1.0
WORK = Work("AdamW", "AdamW", 2, {"lr": 1e-3, "weight_decay": 1e-2})
MINIMUM = WORK.bytes_per_element + 4 + 4         # the step, the norm reads the gradient once more, zeroing writes it
RATIOS = {"ResNet-50": 1.5, "GPT-2": 1.3, "200 x 1,000": 25.0, "500 x 32": 150.0}
SUBNORMAL = 1e-41


class Refilled(Stepper):
    """Gradients of its own, given back before each measurement."""

    def own_gradients(self) -> None:
        self.own = [np.array(g) for g in self.problem.sets[0]]

    def refill(self) -> None:
        for own, g in zip(self.own, self.problem.sets[0], strict=True):
            np.copyto(own, g)


class TorchPasses(TorchFused, Refilled):
    """torch.nn.utils.clip_grad_norm_, fused AdamW, zero_grad(set_to_none=False)."""

    def __init__(self, problem: Problem) -> None:
        import torch

        super().__init__(problem)
        self.clip = torch.nn.utils.clip_grad_norm_
        self.own = [g.numpy() for g in self.sets[0]]

    def enter(self, threads: int = ALL) -> None:
        super().enter(threads)
        self.refill()

    def step(self, gradients: list[Any]) -> None:
        self.clip(self.params, MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)


class Fused(Optimlite, Refilled):
    """One call."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.own_gradients()
        self.optimizer.step(grads=self.own)

    def enter(self, threads: int = ALL) -> None:
        super().enter(threads)
        self.refill()

    def step(self, gradients: list[Array]) -> None:
        self.optimizer.step(max_grad_norm=MAX_NORM, zero_grad=True)


class Passes(Fused):
    """Three calls, as one would translate them from torch."""

    def step(self, gradients: list[Array]) -> None:
        ol.clip_grad_norm_(self.params, MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)


def contenders(case: Case) -> Mapping[str, Contender]:
    problem = Problem(case, WORK, "persistent")
    present: dict[str, Any] = {"optimlite": Fused(problem), "optimlite passes": Passes(problem)}
    if importlib.util.find_spec("torch"):
        present["torch passes"] = TorchPasses(problem)
    for stepper in present.values():
        restart(stepper)
    check(present)
    return present | {"limit": Limit(problem)}


def restart(stepper: Any) -> None:
    """Forgets the step that allocated the state."""
    if isinstance(stepper, Fused):
        stepper.optimizer = stepper.make()
        for p, own in zip(stepper.params, stepper.own, strict=True):
            p.grad = own


class Moments(Optimlite):
    """Adam with zero gradients, whose moments are set to one value before each measurement."""

    def __init__(self, problem: Problem, value: float, flush: bool) -> None:
        super().__init__(problem)
        self.value, self.flush = value, flush
        for p in self.params:
            p.grad = np.full_like(p.data, 0)

    def enter(self, threads: int = ALL) -> None:
        super().enter(threads)
        self.optimizer.step()
        for p in self.params:
            for key in ("exp_avg", "exp_avg_sq"):
                self.optimizer.state[p][key][...] = self.value

    def step(self, gradients: list[Array]) -> None:
        ol.set_flush_denormal(self.flush)
        self.optimizer.step()
        ol.set_flush_denormal(False)


def moments() -> Mapping[str, Contender]:
    problem = Problem(Case("", ((250_000,),)), WORK, "persistent")
    return {"normal moments": Moments(problem, 1e-3, False), "subnormal moments": Moments(problem, SUBNORMAL, False),
            "subnormal moments, flushed": Moments(problem, SUBNORMAL, True)}


def rows() -> Iterator[Row]:
    for case in CASES:
        if case.name in RATIOS:
            about = {"optimizer": "AdamW", "tensors": len(case.shapes), "elements": case.elements,
                     "bytes": case.elements * MINIMUM}
            yield Row("gradients", case.name, about, case.rounds, partial(contenders, case))
    # A measurement is short: in a long one the moments would decay to zero on the way.
    yield Row("subnormal", "subnormal", {"optimizer": "AdamW"}, 31, moments, at_least=2e-4)


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What clip + step + zero should reach, in the form of report.targets."""
    for result in results:
        if result["kind"] == "gradients":
            seconds = result["seconds"]
            wanted = RATIOS[result["case"]]
            if "torch passes" in seconds:
                ratio = seconds["torch passes"] / seconds["optimlite"]
                yield {"what": f"AdamW, {result['case']}, clip + step + zero: torch / optimlite",
                       "target": f">= {wanted:g}", "measured": ratio, "met": ratio >= wanted}
            if result["case"] in ("ResNet-50", "GPT-2"):         # the others stay in the cache
                minimum = seconds["limit"] * MINIMUM / WORK.bytes_per_element
                ratio = minimum / seconds["optimlite"]
                yield {"what": f"AdamW, {result['case']}, clip + step + zero: {MINIMUM} bytes at the limit / optimlite",
                       "target": f">= {1 / 1.1:.2f}", "measured": ratio, "met": ratio >= 1 / 1.1}
        if result["kind"] == "subnormal":
            seconds = result["seconds"]
            ratio = seconds["normal moments"] / seconds["subnormal moments, flushed"]
            yield {"what": "AdamW, normal moments / subnormal ones, flushed", "target": f">= {1 / 1.3:.2f}",
                   "measured": ratio, "met": ratio >= 1 / 1.3}
