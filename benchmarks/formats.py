"""Adam with its state in fewer bytes: beside float32 state, and beside the bytes that each must move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

import optimlite as ol
from optimlite.native.arrays import over_arrays

from .cases import CASES, Case, Work
from .contenders import Limit, Optimlite
from .measure import Contender
from .problem import ALL, Problem
from .rows import Result, Row

FORMATS = {"bfloat16": 2, "int8": 1}             # bytes of an element in a state array
ADAM, NO_STATE = Work("Adam", "Adam", 2, {"lr": 1e-3}), Work("none", "none", 0)
LARGE, IN_CACHE = ("GPT-2", "50 M"), Case("50,000", ((50_000,),))
OF_LIMIT, AT_MOST = 0.75, {"bfloat16": 1.6, "int8": 2.2}


class Stored(Optimlite):
    def __init__(self, problem: Problem, state_dtype: str | None, threads: int) -> None:
        self.state_dtype, self.threads = state_dtype, threads
        super().__init__(problem)

    def make(self) -> ol.Optimizer:
        return ol.Adam(self.params, lr=1e-3, state_dtype=self.state_dtype)

    def enter(self, threads: int = ALL) -> None:
        super().enter(min(threads, self.threads))


class LimitOf:
    """Adds the gradient to the parameter, then reads and writes as many bytes as both state arrays have."""

    def __init__(self, problem: Problem, bytes_of_element: int) -> None:
        self.limit = Limit(problem)
        self.state = np.zeros(problem.case.elements * bytes_of_element // 2, np.float32)

    def enter(self) -> None:
        self.limit.enter()

    def __call__(self) -> None:
        self.limit()
        over_arrays("scale", [self.state], c=1.0)


def contenders(case: Case, threads: int) -> Mapping[str, Contender]:
    problem = Problem(case, ADAM, "persistent")
    present: dict[str, Contender] = {"optimlite": Stored(problem, None, threads)}
    present |= {name: Stored(problem, name, threads) for name in FORMATS}
    if case is not IN_CACHE:
        bare = Problem(case, NO_STATE, "persistent")
        present |= {f"limit of {name}": LimitOf(bare, size) for name, size in FORMATS.items()}
    return present


def rows() -> Iterator[Row]:
    for case in (*CASES, IN_CACHE):
        if case.name in LARGE or case is IN_CACHE:
            threads = 1 if case is IN_CACHE else ALL
            about = {"optimizer": "Adam", "tensors": len(case.shapes), "elements": case.elements}
            yield Row("formats", case.name, about, case.rounds, partial(contenders, case, threads))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What state in a format should cost, in the form of report.targets."""
    for result in results:
        if result["kind"] != "formats":
            continue
        for name in FORMATS:
            limit = result["seconds"].get(f"limit of {name}")
            if limit is not None:
                ratio = limit / result["seconds"][name]
                yield {"what": f"Adam, state in {name}, {result['case']}: its limit / optimlite",
                       "target": f">= {OF_LIMIT:g}", "measured": ratio, "met": ratio >= OF_LIMIT}
            else:
                ratio = result["seconds"][name] / result["seconds"]["optimlite"]
                yield {"what": f"Adam, {name} / float32 state, in cache, one thread", "target": f"<= {AT_MOST[name]:g}",
                       "measured": ratio, "met": ratio <= AT_MOST[name]}
