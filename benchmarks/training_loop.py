"""Steps as a training loop takes them: with computing between them, and beside processes that keep CPUs busy.

All threads against one, in bursts of steps that take turns in one process.  Each step is timed by itself: where a
thread loses its CPU, a few steps take many times as long as the others, which the mean shows and the median doesn't.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Any

import numpy as np

from .cases import CASES, WORKS
from .contenders import Optimlite
from .measure import Contender
from .problem import ALL, Problem
from .rows import Result, Row

STEPS = {"MLP": 40, "1 M": 20, "ResNet-50": 4}   # of a burst
ROUNDS = {"MLP": 40, "1 M": 30, "ResNet-50": 15}
NAMES = {f"loop {name}": name for name in STEPS}
PAUSES = (0.0, 2e-3)                     # seconds of computing between two steps
BUSY = (0, 1, 2, 4)                      # processes beside
SETTLE = 0.3                             # seconds until they have all started
MEDIAN, MEAN, PAYS = 1.1, 1.2, 0.7       # times of one thread, at most; the last for 1 M elements, quiet, with a pause

BUSY_PROCESS = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(100_000): pass"


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """They end with this process, however it ends."""
    children = [subprocess.Popen([sys.executable, "-c", BUSY_PROCESS]) for _ in range(count)]
    try:
        time.sleep(SETTLE if count else 0.0)
        yield
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


class Model:
    """What computes between two steps, on the caller's CPU: passes over 6 MB, which take their place in the caches."""

    def __init__(self, pause: float) -> None:
        self.a, self.b = np.ones((2, 750_000), np.float32)
        self.passes = 0
        if pause:                        # a number of passes, not a time: who loses the CPU has not computed
            durations = [self.timed() for _ in range(50)]
            self.passes = max(1, round(pause / median(durations)))

    def timed(self) -> float:
        start = time.perf_counter()
        np.add(self.a, self.b, out=self.a)
        return time.perf_counter() - start

    def __call__(self) -> None:
        for _ in range(self.passes):
            np.add(self.a, self.b, out=self.a)


def burst(step: Contender, model: Model, count: int) -> Iterator[float]:
    """Seconds of each of `count` steps."""
    for _ in range(count):
        model()
        start = time.perf_counter()
        step()
        yield time.perf_counter() - start


@dataclass(frozen=True)
class Loop(Row):
    """Every step's time on one thread and on all; their medians and means."""

    def run(self) -> Result:
        [optimizer] = self.build().values()
        threads = {"1 thread": 1, f"{ALL} threads": ALL}
        samples: dict[str, list[float]] = {name: [] for name in threads}
        model = Model(self.about["pause"])
        with busy_processes(self.about["busy"]):
            for turn in range(self.rounds + 1):
                for name in list(threads)[::1 if turn % 2 else -1]:
                    optimizer.enter(threads[name])                                   # type: ignore[attr-defined]
                    times = list(burst(optimizer, model, STEPS[NAMES[self.case]]))
                    samples[name] += times if turn else []
        seconds = {f"{name}, {what.__name__.removeprefix('f')}": what(times)
                   for what in (median, fmean) for name, times in samples.items()}
        one_median, all_median, one_mean, all_mean = seconds.values()
        return {"kind": self.kind, "case": self.case, **self.about, "rounds": self.rounds, "seconds": seconds,
                "samples": samples, "ratio": {"median": all_median / one_median, "mean": all_mean / one_mean}}


def contenders(name: str) -> Mapping[str, Contender]:
    [case] = (case for case in CASES if case.name == name)
    [adam] = (work for work in WORKS if work.name == "Adam")
    return {"optimlite": Optimlite(Problem(case, adam, "persistent"))}


def rows() -> Iterator[Row]:
    for (case, name), pause, busy in itertools.product(NAMES.items(), PAUSES, BUSY):
        about = {"optimizer": "Adam", "pause": pause, "busy": busy}
        yield Loop("training loop", case, about, ROUNDS[name], partial(contenders, name))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """All threads are never notably slower than one, and pay where CPUs are free, in the form of report.targets."""
    for result in results:
        if result["kind"] != "training loop":
            continue
        what = f"{result['case']}, {1e3 * result['pause']:g} ms between, {result['busy']} busy"
        for figure, most in (("median", MEDIAN), ("mean", MEAN)):
            if (result["case"], result["pause"], result["busy"], figure) == ("loop 1 M", PAUSES[1], 0, "median"):
                most = PAYS
            ratio = 1 / result["ratio"][figure]
            yield {"what": f"{what}: {figure} on 1 thread / on all", "target": f">= {1 / most:.2f}",
                   "measured": ratio, "met": ratio >= 1 / most}
