"""A row is a named benchmark: who takes part, and what the result is called. Every kind of row is built here.

A new kind (a checkpoint, an iteration of L-BFGS, a clipped step) is one more function that yields Rows: `build` makes
the contenders, any callables, just before they are measured, and their memory is freed right after.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from .cases import CASES, WORKS, Case, Work
from .contenders import Optimlite, contenders
from .measure import AT_LEAST, Contender, measure, medians
from .problem import Problem

Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    kind: str                            # "step", or "overhead": what the result's other keys are
    case: str
    about: Mapping[str, Any]             # goes into the result as it is
    rounds: int
    build: Callable[[], Mapping[str, Contender]]
    at_least: float = AT_LEAST

    def run(self) -> Result:
        samples = measure(self.build(), self.rounds, self.at_least)
        seconds = medians(samples)
        result = {"kind": self.kind, "case": self.case, **self.about, "rounds": self.rounds, "seconds": seconds,
                  "samples": samples}
        if "optimlite" in seconds:
            result["ratio"] = {name: value / seconds["optimlite"] for name, value in seconds.items()}
        if "bytes" in self.about:
            result["gb_per_s"] = {name: self.about["bytes"] / value / 1e9 for name, value in seconds.items()}
        return result


def steps() -> Iterator[Row]:
    """One step of an optimizer, for every case and kind of gradients."""
    for work in WORKS:
        for gradients in ("persistent", "fresh"):
            for case in CASES:
                if gradients in case.gradients:
                    about = {"optimizer": work.name, "gradients": gradients, "tensors": len(case.shapes),
                             "elements": case.elements, "bytes": case.elements * work.bytes_per_element}
                    yield Row("step", case.name, about, case.rounds, partial(step_contenders, case, work, gradients))


def step_contenders(case: Case, work: Work, gradients: str) -> Mapping[str, Contender]:
    return contenders(Problem(case, work, gradients))


def overheads() -> Iterator[Row]:
    """What optimlite costs beside the arithmetic."""
    yield Row("overhead", "overhead", {"optimizer": "Adam"}, 31, tensors)
    yield Imports("overhead", "import", {}, 15, dict)


def tensors() -> Mapping[str, Contender]:
    """As many elements in 500 tensors and in one: the difference is 499 tensors' cost."""
    adam = next(work for work in WORKS if work.name == "Adam")
    many, one, tiny = Case("", ((32,),) * 500), Case("", ((16_000,),)), Case("", ((1,),))
    return {f"{name}, {gradients} gradients": Optimlite(Problem(case, adam, gradients))
            for name, case in (("500 tensors of 32", many), ("1 tensor of 16,000", one), ("1 tensor of 1", tiny))
            for gradients in ("persistent", "fresh")}


class Imports(Row):
    """Both imports in one new process and by its clock: the time to start one is more than what is measured."""

    def run(self) -> Result:
        code = ("from time import perf_counter as now; a = now(); import numpy; b = now(); import optimlite; "
                "print(b - a, now() - b)")
        names = ("import numpy", "import optimlite after numpy")
        samples: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(self.rounds + 1):
            done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
            for name, seconds in zip(names, done.stdout.split(), strict=True):
                samples[name].append(float(seconds))
        samples = {name: values[1:] for name, values in samples.items()}         # the first reads files from a disk
        return {"kind": self.kind, "case": self.case, "rounds": self.rounds, "seconds": medians(samples),
                "samples": samples}


def figures(results: list[Result]) -> dict[str, float]:
    """The costs in seconds that follow from the rows of overhead: medians of the differences within a round."""
    found = {}
    for samples in (result["samples"] for result in results if result["kind"] == "overhead"):
        def beyond(more: str, less: str, samples: dict[str, list[float]] = samples) -> float:
            return median(a - b for a, b in zip(samples[more], samples[less], strict=True))

        for gradients in ("persistent gradients", "fresh gradients"):
            if f"500 tensors of 32, {gradients}" in samples:
                cost = beyond(f"500 tensors of 32, {gradients}", f"1 tensor of 16,000, {gradients}") / 499
                found[f"one more tensor, {gradients}"] = cost
        if "1 tensor of 1, persistent gradients" in samples:
            found["a step on one tiny tensor"] = median(samples["1 tensor of 1, persistent gradients"])
        if "import numpy" in samples:
            found["import beyond numpy"] = median(samples["import optimlite after numpy"])
    return found
