"""Adam in fewer bytes: beside float32 state, beside the bytes that each must move, and beside others' formats."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np

import optimlite as ol
from optimlite.native import dispatch
from optimlite.native.arrays import over_arrays

from .cases import CASES, Case, Work
from .contenders import SERIAL, Limit, Optimlite, Serial, check
from .measure import Contender
from .peers import Torch, TorchFused
from .problem import ALL, Array, Problem, Stepper
from .rows import Result, Row

FORMATS = {"bfloat16": 2, "int8": 1}             # bytes of an element in a state array
ADAM, NO_STATE = Work("Adam", "Adam", 2, {"lr": 1e-3}), Work("none", "none", 0)
LARGE, IN_CACHE = ("GPT-2", "50 M"), Case("50,000", ((50_000,),))
OF_LIMIT = 0.75
AT_MOST = {"bfloat16": 1.3, "int8": 1.7} if dispatch.level == "v4" else {"bfloat16": 1.6, "int8": 2.2}
ADAMW, OF_OTHERS = Work("AdamW", "AdamW", 2, {"lr": 1e-3, "weight_decay": 1e-2}), "ResNet-50"
RATIOS = {"bitsandbytes": 10.0, "torchao": 3.0, "torch fused": 1.0}      # theirs / ours
COARSE = Work("AdamW", "AdamW", 2, {"lr": 0.1, "weight_decay": 1e-2})    # steps that bfloat16 resolves
LOOSELY = 0.1                                    # of a mean move: the error of three steps in few bits


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


# Others' formats ------------------------------------------------------------------------------------------------------

class Bitsandbytes(Torch):
    def make(self) -> Any:
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(self.params, **self.work.arguments)


class TorchAO(Torch):
    def make(self) -> Any:
        import torchao.optim

        return torchao.optim.AdamW8bit(self.params, **self.work.arguments)


class Stored8(Optimlite):
    def make(self) -> ol.Optimizer:
        return ol.AdamW(self.params, **self.work.arguments, state_dtype="int8")


class HalfProblem(Problem):
    """Parameters and gradients in bfloat16, which torch's tensors share with everybody's arrays."""

    def __init__(self, case: Case, work: Work) -> None:
        super().__init__(case, work, "persistent")
        params, sets = self.torch
        self.params = [shared(p) for p in params]
        self.sets = [[shared(g) for g in gradients] for gradients in sets]

    @cached_property
    def torch(self) -> tuple[list[Any], list[list[Any]]]:
        import torch

        params = [torch.nn.Parameter(torch.from_numpy(p).bfloat16()) for p in self.params]
        gradients = [torch.from_numpy(g).bfloat16() for g in self.sets[0]]
        return params, [gradients, gradients]


def shared(tensor: Any) -> Array:
    import ml_dtypes
    import torch

    bits: Array = tensor.detach().view(torch.uint16).numpy()
    return bits.view(ml_dtypes.bfloat16)


class TorchFusedHalf(TorchFused):
    """Its arrays are those of the problem, since NumPy sees no tensor in bfloat16."""

    def __init__(self, problem: HalfProblem) -> None:
        Stepper.__init__(self, problem)
        self.params, self.sets = problem.torch
        self.optimizer = self.make()


class Halves(Optimlite):
    """Parameters, gradients and state in bfloat16."""

    def __init__(self, problem: HalfProblem, **options: Any) -> None:
        self.options = {"master": "none", **options}
        super().__init__(problem)

    def make(self) -> ol.Optimizer:
        return ol.AdamW(self.params, **self.work.arguments, state_dtype="bfloat16", **self.options)


def in_eight_bits(case: Case) -> Mapping[str, Contender]:
    problem = Problem(case, ADAMW, "persistent")
    present: dict[str, Any] = {"optimlite": Stored8(problem)}
    present |= {name: cls(problem) for name, cls in EIGHT_BITS.items() if importlib.util.find_spec(name)}
    check(present, tolerance=LOOSELY, size=np.mean)
    return present


def in_bfloat16(case: Case) -> Mapping[str, Contender]:
    problem = HalfProblem(case, COARSE)
    present: dict[str, Any] = {
        "optimlite": Halves(problem), "optimlite to nearest": Halves(problem, rounding="nearest"),
        "optimlite float32 master": Halves(problem, master="float32"), "torch fused": TorchFusedHalf(problem)}
    check(present, tolerance=LOOSELY, size=np.mean)
    return present | {f"{name} 1 thread": Serial(present[name]) for name in SERIAL}


EIGHT_BITS: dict[str, type[Torch]] = {"bitsandbytes": Bitsandbytes, "torchao": TorchAO}
# Who builds a row, of which packages one must be there, and which must be there all.
BESIDE: dict[str, tuple[Callable[[Case], Mapping[str, Contender]], tuple[str, ...], tuple[str, ...]]] = {
    "eight bits": (in_eight_bits, tuple(EIGHT_BITS), ("torch",)),
    "all bfloat16": (in_bfloat16, ("torch",), ("torch", "ml_dtypes")),
}


def beside_others() -> Iterator[Row]:
    """Rows for those of the packages that are installed."""
    case = next(case for case in CASES if case.name == OF_OTHERS)
    for kind, (build, some, needed) in BESIDE.items():
        missing = [name for name in dict.fromkeys((*some, *needed)) if not importlib.util.find_spec(name)]
        for name in missing:
            print(f"{kind}: without {name}, which isn't installed", file=sys.stderr)
        if not set(needed) & set(missing) and not set(some) <= set(missing):
            about = {"optimizer": "AdamW", "tensors": len(case.shapes), "elements": case.elements}
            yield Row(kind, case.name, about, case.rounds, partial(build, case))


def rows() -> Iterator[Row]:
    yield from beside_others()
    for case in (*CASES, IN_CACHE):
        if case.name in LARGE or case is IN_CACHE:
            threads = 1 if case is IN_CACHE else ALL
            about = {"optimizer": "Adam", "tensors": len(case.shapes), "elements": case.elements}
            yield Row("formats", case.name, about, case.rounds, partial(contenders, case, threads))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What state in a format should cost, in the form of report.targets."""
    for result in results:
        seconds = result["seconds"] if result["kind"] in BESIDE else {}
        for name, wanted in RATIOS.items():
            for threads in ("", " 1 thread"):
                if name + threads in seconds:
                    ratio = seconds[name + threads] / seconds["optimlite" + threads]
                    yield {"what": f"AdamW, {result['kind']}, {result['case']}: {name + threads} / optimlite",
                           "target": f">= {wanted:g}", "measured": ratio, "met": ratio >= wanted}
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
