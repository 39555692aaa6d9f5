"""optimlite.torch beside torch's fused step, on the same tensors: what comparing them before each step leaves."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from .cases import CASES, Case, Work
from .contenders import check
from .measure import Contender
from .peers import Torch, TorchFused
from .problem import ALL, Problem
from .rows import Result, Row

WORK = Work("Adam", "Adam", 2, {"lr": 1e-3})
RATIOS = {("500 x 32", "persistent"): 20.0, ("500 x 32", "fresh"): 8.0, ("MLP", "persistent"): 2.0}


class Bridge(Torch):
    """optimlite's step of torch's tensors."""

    def make(self) -> Any:
        import optimlite.torch

        return getattr(optimlite.torch, self.work.optimizer)(self.params, **self.work.arguments)

    def enter(self, threads: int = ALL) -> None:
        import optimlite

        optimlite.set_num_threads(threads)
        super().enter(threads)


def contenders(case: Case, gradients: str) -> Mapping[str, Contender]:
    problem = Problem(case, WORK, gradients)
    present: dict[str, Any] = {"optimlite": Bridge(problem), "torch fused": TorchFused(problem)}
    check(present)
    return present


def rows() -> Iterator[Row]:
    for gradients in ("persistent", "fresh"):
        for case in CASES:
            if (case.name, gradients) in RATIOS and importlib.util.find_spec("torch"):
                about = {"optimizer": "Adam", "gradients": gradients, "tensors": len(case.shapes),
                         "elements": case.elements}
                yield Row("bridges", case.name, about, case.rounds, partial(contenders, case, gradients))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What the bridge should reach, in the form of report.targets."""
    for result in results:
        if result["kind"] == "bridges":
            ratio, wanted = result["ratio"]["torch fused"], RATIOS[result["case"], result["gradients"]]
            yield {"what": f"Adam, {result['case']}, {result['gradients']} gradients: torch fused / optimlite.torch",
                   "target": f">= {wanted:g}", "measured": ratio, "met": ratio >= wanted}
