"""SparseAdam: a step on 4,096 random rows of a large table and of a small one, which should cost the same."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

import optimlite as ol

from .measure import Contender
from .rows import Result, Row

WIDTH, TOUCHED, SETS = 64, 4096, 8
TABLES = {"sparse 1 M": 1_000_000, "sparse 50 k": 50_000}
ROUNDS = 15
RATIO = 5.0

Gradient = tuple[np.ndarray, np.ndarray]


def gradients(rows: int) -> list[Gradient]:
    """Indices and values: other rows in every step, so that none waits in the cache."""
    rng = np.random.default_rng(0)
    return [(rng.integers(0, rows, TOUCHED), rng.standard_normal((TOUCHED, WIDTH), np.float32)) for _ in range(SETS)]


class Optimlite:
    """The gradient made, assigned and applied."""

    def __init__(self, rows: int, sets: list[Gradient]) -> None:
        self.table = np.ones((rows, WIDTH), np.float32)
        self.optimizer = ol.SparseAdam([self.table])
        self.sets = itertools.cycle(sets)

    def __call__(self) -> None:
        self.optimizer.step(grads=[ol.SparseGrad(*next(self.sets))])


class Torch:
    """torch.optim.SparseAdam, given its tensors ready made."""

    def __init__(self, rows: int, sets: list[Gradient]) -> None:
        import torch

        self.param = torch.nn.Parameter(torch.ones(rows, WIDTH))
        self.table = self.param.detach().numpy()
        self.optimizer = torch.optim.SparseAdam([self.param])
        with torch.sparse.check_sparse_tensor_invariants(enable=False):
            self.sets = itertools.cycle([
                torch.sparse_coo_tensor(torch.from_numpy(indices)[None], torch.from_numpy(values), self.param.shape)
                for indices, values in sets])

    def __call__(self) -> None:
        self.param.grad = next(self.sets)
        self.optimizer.step()


def contenders(rows: int) -> Mapping[str, Contender]:
    sets = gradients(rows)
    present: dict[str, Any] = {"optimlite": Optimlite(rows, sets)}
    if importlib.util.find_spec("torch"):
        present["torch"] = Torch(rows, sets)
    for contender in present.values():
        contender()
        difference = abs(contender.table - present["optimlite"].table).max()
        assert difference < 1e-6, f"the contenders disagree by {difference}"
    return present


def rows() -> Iterator[Row]:
    for case, count in TABLES.items():
        about = {"optimizer": "SparseAdam", "tensors": 1, "elements": count * WIDTH,
                 "bytes": 4 * 7 * TOUCHED * WIDTH}
        yield Row("sparse", case, about, ROUNDS, partial(contenders, count))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What a sparse step should reach, in the form of report.targets."""
    seconds = {result["case"]: result["seconds"] for result in results if result["kind"] == "sparse"}
    for case, measured in seconds.items():
        if "torch" in measured:
            ratio = measured["torch"] / measured["optimlite"]
            yield {"what": f"SparseAdam, {case}: torch / optimlite", "target": f">= {RATIO:g}", "measured": ratio,
                   "met": ratio >= RATIO}
    if seconds.keys() == TABLES.keys():          # a pass over a table of 256 MB would make it hundreds of times as long
        ratio = seconds["sparse 50 k"]["optimlite"] / seconds["sparse 1 M"]["optimlite"]
        yield {"what": "SparseAdam, 4,096 rows of 50 k / of 1 M", "target": ">= 0.2", "measured": ratio,
               "met": ratio >= 0.2}
