"""Every other elementwise optimizer: beside the bytes that it must move, and beside torch's default if torch has it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

import optimlite as ol
from optimlite.engine.rule_optimizer import RuleOptimizer
from optimlite.engine.whole_matrix import MatrixOptimizer
from optimlite.native import dispatch

from . import cases
from .cases import CASES, Case, Work
from .contenders import Limit, Optimlite, check
from .measure import Contender
from .peers import Torch
from .problem import Problem
from .rows import Result, Row


def with_defaults() -> Iterator[Work]:
    """Those whose rule is swept at once, and that have no row in cases.py."""
    for name in ol.__all__:
        kind = getattr(ol, name)
        if (isinstance(kind, type) and issubclass(kind, RuleOptimizer) and not issubclass(kind, MatrixOptimizer)
                and kind.accepts_dense
                and kind.rule is not RuleOptimizer.rule and kind.coefficients is not RuleOptimizer.coefficients
                and name not in [work.optimizer for work in cases.WORKS]):
            made = kind([np.zeros(1, np.float32)])
            rule, states = made.rule(made.param_groups[0])
            if not dispatch.kernel(rule, np.dtype(np.float32)).measures:
                yield Work(name, name, len(states))


WORKS = (*with_defaults(), Work("RMSprop momentum", "RMSprop", 3, {"centered": True, "momentum": 0.9}))
LARGE, SMALL = "ResNet-50", "200 x 1,000"
OF_LIMIT, OVER_TORCH = 0.9, 15.0


class TorchDefault(Torch):
    flags = {}


def contenders(case: Case, work: Work) -> Mapping[str, Contender]:
    problem = Problem(case, work, "persistent")
    present: dict[str, Any] = {"optimlite": Optimlite(problem)}
    if importlib.util.find_spec("torch") and hasattr(importlib.import_module("torch.optim"), work.optimizer):
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
