"""Who takes part in a step: optimlite, its peers, and the limit of bandwidth; all are checked to do the same work."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import optimlite as ol
from optimlite.engine.rule_optimizer import RuleOptimizer

from .measure import Contender
from .peers import InPlace, Naive, Numba, Torch, TorchForeach, TorchFused
from .problem import ALL, Array, Problem, Stepper

SAMPLE = 65536                           # elements at either end of a tensor that the check of agreement looks at


class Optimlite(Stepper):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.params = [ol.Parameter(array) for array in self.arrays]
        self.optimizer = self.make()
        for p, g in zip(self.params, self.sets[0], strict=True):
            p.grad = g

    def make(self) -> ol.Optimizer:
        optimizer: ol.Optimizer = getattr(ol, self.work.optimizer)(self.params, **self.work.arguments)
        return optimizer

    def enter(self, threads: int = ALL) -> None:
        ol.set_num_threads(threads)

    def step(self, gradients: list[Array]) -> None:
        if self.problem.fresh:
            for p, g in zip(self.params, gradients, strict=True):
                p.grad = g
        self.optimizer.step()


class Passed(Optimlite):
    """Fresh gradients as the quickstart gives them: as an argument of the step."""

    def step(self, gradients: list[Array]) -> None:
        self.optimizer.step(grads=gradients)


class Traffic(RuleOptimizer):
    """Not an optimizer: moves the bytes of one with `states` state arrays, on the same plan and threads."""

    def __init__(self, params: Any, states: int) -> None:
        super().__init__(params, {"states": states})

    def rule(self, group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        return f"traffic{group['states']}", {f"state{k}": 0.0 for k in range(group["states"])}

    def coefficients(self, group: dict[str, Any], state: dict[str, Any], first: bool) -> dict[str, float]:
        return {"weight": 0.0}


class Limit(Optimlite):
    """Adds the gradient to the parameter and to each state: the limit of bandwidth, where arrays exceed the cache."""

    def make(self) -> ol.Optimizer:
        return Traffic(self.params, self.work.states)


class Serial:
    """A contender once more, on one thread."""

    def __init__(self, stepper: Any) -> None:
        self.stepper = stepper

    def enter(self) -> None:
        self.stepper.enter(threads=1)

    def __call__(self) -> None:
        self.stepper()


CONTENDERS: dict[str, type[Stepper]] = {
    "NumPy naive": Naive, "NumPy in-place": InPlace, "Numba": Numba,
    "torch loop": Torch, "torch foreach": TorchForeach, "torch fused": TorchFused,
    "optimlite": Optimlite, "limit": Limit,
}
SERIAL = ("torch fused", "optimlite")    # shown on one thread too


def contenders(problem: Problem) -> dict[str, Contender]:
    """Everyone whose package is installed, after a check that all do the same work."""
    present: dict[str, Any] = {}
    for name, cls in CONTENDERS.items():
        if all(importlib.util.find_spec(package) for package in ("numba", "torch") if package in name.lower()):
            present[name] = cls(problem)
    if problem.fresh:
        present["optimlite grads="] = Passed(problem)
    check(present)
    names = [one for name in present for one in ((f"{name} 1 thread", name) if name in SERIAL else (name,))]
    return {name: present.get(name) or Serial(present[name.removesuffix(" 1 thread")]) for name in names}


def check(present: Mapping[str, Any], steps: int = 3, tolerance: float = 1e-3,
          size: Callable[[Array], Any] = np.max) -> None:
    """Raises unless everyone's first steps move parameters as optimlite's do, to `tolerance` of the largest move.

    size: of the moves of a tensor's end: the largest one, or `np.mean`.
    """
    ends = {name: [end for a in stepper.arrays for end in (a.reshape(-1)[:SAMPLE], a.reshape(-1)[-SAMPLE:])]
            for name, stepper in present.items()}
    start = [end.copy() for end in ends["optimlite"]]
    moves: dict[str, list[Array]] = {}
    for name in ("optimlite", *present):         # optimlite first: the others are compared with its moves
        if name == "limit" or name in moves:
            continue
        stepper = present[name]
        for end, values in zip(ends[name], start, strict=True):
            np.copyto(end, values)
        getattr(stepper, "enter", lambda: None)()
        for _ in range(steps):
            stepper()
        moves[name] = [end - values for end, values in zip(ends[name], start, strict=True)]
        largest = max(size(np.abs(move)) for move in moves["optimlite"])
        error = max(size(np.abs(a - b)) for a, b in zip(moves[name], moves["optimlite"], strict=True))
        if not error <= tolerance * largest:
            raise RuntimeError(f"'{name}' doesn't do the work of 'optimlite': after {steps} steps of "
                               f"{stepper.work.name} the parameters differ by {error:.3g}, "
                               f"and the largest move is {largest:.3g}")
        if name != "optimlite":
            del moves[name]
