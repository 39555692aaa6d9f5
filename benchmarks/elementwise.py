"""The other elementwise optimizers: beside the bytes that they must move, and beside torch's default."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from .cases import CASES, Case, Work
from .contenders import Limit, Optimlite, check
from .measure import Contender
from .peers import Torch
from .problem import Problem
from .rows import Result, Row

WORKS = (
    Work("Adagrad", "Adagrad", 1),
    Work("Adadelta", "Adadelta", 2),
    Work("Adamax", "Adamax", 2),
    Work("NAdam", "NAdam", 2),
    Work("RAdam", "RAdam", 2),
    Work("RMSprop", "RMSprop", 1),
    Work("RMSprop momentum", "RMSprop", 3, {"centered": True, "momentum": 0.9}),
    Work("Rprop", "Rprop", 2),
    Work("ASGD", "ASGD", 1),
)
LARGE, SMALL = "ResNet-50", "200 x 1,000"
OF_LIMIT, OVER_TORCH = 0.9, 15.0


class TorchDefault(Torch):
    flags = {}


def contenders(case: Case, work: Work) -> Mapping[str, Contender]:
    problem = Problem(case, work, "persistent")
    present: dict[str, Any] = {"optimlite": Optimlite(problem)}
    if importlib.util.find_spec("torch"):
        present["torch"] = TorchDefault(problem)
    check(present)
    return present | {"limit": Limit(problem)}


def rows() -> Iterator[Row]:
    for case in CASES:
        if case.name in (LARGE, SMALL):
            for work in WORKS:
                about = {"optimizer": work.name, "tensors": len(case.shapes), "elements": case.elements,
                         "bytes": case.elements * work.bytes_per_element}
                yield Row("elementwise", case.name, about, case.rounds, partial(contenders, case, work))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What an elementwise optimizer should reach, in the form of report.targets."""
    for result in results:
        if result["kind"] != "elementwise":
            continue
        over, wanted = ("limit", OF_LIMIT) if result["case"] == LARGE else ("torch", OVER_TORCH)
        if over in result["ratio"]:
            yield {"what": f"{result['optimizer']}, {result['case']}: {over} / optimlite", "target": f">= {wanted:g}",
                   "measured": result["ratio"][over], "met": result["ratio"][over] >= wanted}
