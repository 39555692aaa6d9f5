"""Optimizers that measure whole tensors first: beside Adam's step, NumPy by hand, and the bytes of each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import optimlite as ol
from optimlite.native import dispatch
from optimlite.native.vectors import Blocks, Vector

from .cases import CASES, Case, Work
from .contenders import Optimlite, Traffic, check
from .measure import Contender
from .measured_numpy import InPlace
from .problem import Problem
from .rows import Result, Row

# What a pass moves: a rule that writes, or arrays that are only read; and how many arrays go by.
PASSES: dict[str, int] = {"traffic0": 3, "traffic1": 5, "traffic2": 7, "traffic3": 9, "traffic_moments": 5,
                          "traffic_moments_of": 6, "traffic_last": 4, "g": 1, "state0": 1, "state1": 1, "p g": 2,
                          "g state0": 2, "g state2": 2}


@dataclass(frozen=True)
class Measured(Work):
    passes: tuple[str, ...] = ()

    @property
    def bytes_per_element(self) -> int:
        return 4 * sum(PASSES[name] for name in self.passes)


WORKS = (
    Measured("LAMB", "LAMB", 2, {"lr": 1e-3}, ("traffic_moments_of", "traffic_last")),
    Measured("LARS", "LARS", 1, {"lr": 1e-1, "momentum": 0.9, "weight_decay": 1e-4}, ("p g", "traffic1")),
    Measured("NovoGrad", "NovoGrad", 1, {"lr": 1e-3, "weight_decay": 1e-3}, ("g", "traffic1")),
    Measured("StableAdamW", "StableAdamW", 2, {"lr": 1e-3}, ("traffic_moments", "traffic_last")),
    Measured("AdamP", "AdamP", 2, {"lr": 1e-3, "weight_decay": 1e-2}, ("traffic_moments_of", "traffic_last")),
    Measured("AdamMini", "AdamMini", 1, {"lr": 1e-3, "weight_decay": 1e-2}, ("g", "traffic1")),
    Measured("MARS", "MARS", 3, {"lr": 3e-3, "optimize_1d": True}, ("g state2", "traffic3")),
    Measured("Prodigy", "Prodigy", 4, {"lr": 1.0, "d0": 1e-2}, ("traffic3", "traffic_last")),
    Measured("DAdaptAdam", "DAdaptAdam", 3, {"lr": 1.0, "d0": 1e-2}, ("traffic2", "traffic_last")),
    Measured("DoG", "DoG", 1, {"lr": 1.0, "reps_rel": 1e-2}, ("p g", "state0", "traffic0")),
    Measured("LDoG", "LDoG", 1, {"lr": 1.0, "reps_rel": 1e-2}, ("p g", "state0", "traffic0")),
    Measured("Adafactor", "Adafactor", 0, {"lr": 1e-2}, ("g", "p g", "traffic0")),
    Measured("Adam cautious", "Adam", 2, {"lr": 1e-3, "cautious": True}, ("g state0", "state1", "traffic2")),
)
MATRIX = Case("1,024 x 4,096", ((1024, 4096),))
SMALL, LARGE = "500 x 32", "ResNet-50"
OVER_ADAM, OVER_NUMPY, OF_LIMIT = 1 / 6, 50.0, 0.85


class Adam(Optimlite):
    def make(self) -> ol.Optimizer:
        return ol.Adam(self.params, lr=1e-3)


class Pass(Traffic):
    """A rule by its name, over state that passes share."""

    def __init__(self, params: Any, name: str, states: int) -> None:
        self.name = name
        super().__init__(params, states)

    def rule(self, group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        return self.name, super().rule(group)[1]


class Limit(Optimlite):
    """Moves the bytes of each pass, one pass after the other: the limit of bandwidth where arrays exceed the cache."""

    def make(self) -> ol.Optimizer:
        assert isinstance(self.work, Measured)
        self.passes = [self.writing(name) if name.startswith("traffic") else self.reading(name.split())
                       for name in self.work.passes]
        return ol.SGD(self.params)               # takes the gradients; never stepped

    def arrays_of(self, name: str) -> list[np.ndarray]:
        found = {"p": self.arrays, "g": self.sets[0]}
        if name not in found:
            count = max(self.work.states, 3)
            self.states = getattr(self, "states", None) or [self.problem.zeros() for _ in range(count)]
            found[name] = self.states[int(name[-1])]
        return [a.reshape(-1) for a in found[name]]

    def writing(self, name: str) -> Callable[[], object]:
        states = int(name[-1]) if name[-1].isdigit() else 2
        optimizer = Pass(self.params, name, states)
        for k in range(states):
            for p, array in zip(self.params, self.arrays_of(f"state{k}"), strict=True):
                optimizer.state[p][f"state{k}"] = array.reshape(p.shape)
        return optimizer.step

    def reading(self, names: list[str]) -> Callable[[], object]:
        vectors = [Vector(self.arrays_of(name)) for name in names]
        blocks = Blocks([p.size for p in self.params], [p.dtype.itemsize for p in self.params])
        kernels = dispatch.vector_kernels("dot" if len(names) == 2 else "sum_squares", dispatch.level)
        return partial(blocks.run, kernels, vectors, np.zeros((1, 1)))

    def step(self, gradients: list[np.ndarray]) -> None:
        for one in self.passes:
            one()


def contenders(case: Case, work: Measured) -> Mapping[str, Contender]:
    problem = Problem(case, work, "persistent")
    present: dict[str, Any] = {"optimlite": Optimlite(problem), "NumPy in-place": InPlace(problem)}
    check(present)
    return present | {"Adam": Adam(problem), "limit": Limit(problem)}


def rows() -> Iterator[Row]:
    for case in (*CASES, MATRIX):
        if case.name in (SMALL, "200 x 1,000", "1 M", LARGE, MATRIX.name):
            for work in WORKS:
                if case is not MATRIX or work.name == "Adafactor":
                    about = {"optimizer": work.name, "tensors": len(case.shapes), "elements": case.elements,
                             "bytes": case.elements * work.bytes_per_element}
                    yield Row("measured", case.name, about, case.rounds, partial(contenders, case, work))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What they should reach, in the form of report.targets."""
    wanted = {SMALL: {"Adam": OVER_ADAM, "NumPy in-place": OVER_NUMPY}, LARGE: {"limit": OF_LIMIT}}
    for result in results:
        if result["kind"] == "measured":
            for over, least in wanted.get(result["case"], {}).items():
                ratio = result["ratio"][over]
                yield {"what": f"{result['optimizer']}, {result['case']}: {over} / optimlite",
                       "target": f">= {least:.3g}", "measured": ratio, "met": ratio >= least}
