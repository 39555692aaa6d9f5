"""A step that `watch` measures, beside one that nobody watches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import optimlite as ol

from .cases import CASES, Case, Work
from .contenders import Optimlite, check
from .measure import Contender
from .problem import Problem
from .rows import Result, Row

WORK = Work("Adam", "Adam", 2, {"lr": 1e-3})
TOTALS, EACH = "watched", "watched by parameter"
# How many times as long as a step a measured one may take.
CEILINGS = {"ResNet-50": {TOTALS: 1.1, EACH: 1.1}, "200 x 1,000": {TOTALS: 1.25, EACH: 2.0}}


class Watched(Optimlite):
    """Every step is measured."""

    def __init__(self, problem: Problem, parameters: bool) -> None:
        self.by_name = parameters
        super().__init__(problem)

    def make(self) -> ol.Optimizer:
        optimizer: Any = super().make()
        optimizer.watch(1, parameters=self.by_name)
        made: ol.Optimizer = optimizer
        return made


def contenders(case: Case) -> Mapping[str, Contender]:
    problem = Problem(case, WORK, "persistent")
    present = {"optimlite": Optimlite(problem), TOTALS: Watched(problem, False), EACH: Watched(problem, True)}
    check(present)
    return present


def rows() -> Iterator[Row]:
    for case in CASES:
        if case.name in CEILINGS:
            about = {"optimizer": "Adam", "tensors": len(case.shapes), "elements": case.elements}
            yield Row("watched", case.name, about, case.rounds, partial(contenders, case))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What measuring may cost, in the form of report.targets."""
    for result in results:
        if result["kind"] == "watched":
            for name, most in CEILINGS[result["case"]].items():
                ratio = result["ratio"][name]
                yield {"what": f"Adam, {result['case']}: a step {name} / one that isn't", "target": f"<= {most:g}",
                       "measured": ratio, "met": ratio <= most}
