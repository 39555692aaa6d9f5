"""`bench`: steps of Adam on this machine, beside NumPy in place and beside what the memory can move."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from ..checks import positive
from ..native import dispatch
from ..native.threads import get_num_threads
from ..optimizers.adam import Adam
from .output import say, say_json, say_table

CASES: dict[str, list[tuple[int, ...]]] = {
    "500 tensors of 32": [(32,)] * 500, "200 tensors of 1,000": [(1000,)] * 200,
    "an MLP of 109 k": [(784, 128), (128,), (128, 64), (64,), (64, 10), (10,)],
    "one tensor of 1 M": [(1_000_000,)], "one tensor of 25 M": [(25_000_000,)]}
BYTES = 28                       # that a float32 step moves for each element: p, g, m and v are read, all but g written
FEWEST = 3                       # rounds of a case, however little time there is


def bench(options: argparse.Namespace) -> int:
    seconds = positive("--seconds", options.seconds)
    found = [measured(name, shapes, seconds / len(CASES)) for name, shapes in CASES.items()]
    if options.json:
        say_json({"level": dispatch.level, "threads": get_num_threads(), "cases": found})
        return 0
    say(f"A float32 step of Adam: kernels of level {dispatch.level}, {get_num_threads()} threads.  NumPy is the same "
        f"step with out= and no\ntemporaries; a copy moves as many bytes as the step.  Medians of steps in turn.\n")
    rows = [("parameters", "optimlite", "NumPy in place", "a copy", "GB/s")]
    rows += [(row["case"], duration(row["seconds"]), f"{row['numpy'] / row['seconds']:.1f}x",
              f"{row['copy'] / row['seconds']:.2f}x", f"{row['GB/s']:.0f}") for row in found]
    say_table(rows, right=(1, 2, 3, 4))
    return 0


def measured(name: str, shapes: list[tuple[int, ...]], seconds: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(shape, np.float32) for shape in shapes]
    optimizer, by_hand = Adam([np.zeros(shape, np.float32) for shape in shapes]), InPlace(gradients)
    optimizer.step(grads=gradients)
    elements = sum(gradient.size for gradient in gradients)
    source = np.zeros(max(1, elements * BYTES // 8), np.float32)
    target = np.empty_like(source)
    contenders: list[Callable[[], Any]] = [optimizer.step, by_hand.step, lambda: np.copyto(target, source)]
    times: list[list[float]] = [[] for _ in contenders]
    end = time.perf_counter() + seconds
    while len(times[0]) < FEWEST or time.perf_counter() < end:
        for contender, kept in zip(contenders, times, strict=True):      # in turn: whatever else runs hits all alike
            start = time.perf_counter()
            contender()
            kept.append(time.perf_counter() - start)
    ours, numpy, copy = map(median, times)
    return {"case": name, "elements": elements, "seconds": ours, "numpy": numpy, "copy": copy, "rounds": len(times[0]),
            "GB/s": elements * BYTES / ours / 1e9}


class InPlace:
    """Adam as one writes it in NumPy without temporaries."""

    def __init__(self, gradients: list[np.ndarray]) -> None:
        self.gradients, self.t = gradients, 0
        self.p, self.m, self.v, self.work = ([np.zeros_like(g) for g in gradients] for _ in range(4))

    def step(self) -> None:
        self.t += 1
        step_size, root = 1e-3 / (1 - 0.9 ** self.t), (1 - 0.999 ** self.t) ** 0.5
        for p, g, m, v, work in zip(self.p, self.gradients, self.m, self.v, self.work, strict=True):
            m *= 0.9
            np.multiply(g, 0.1, out=work)
            m += work
            v *= 0.999
            np.multiply(g, g, out=work)
            work *= 0.001
            v += work
            np.sqrt(v, out=work)
            work *= 1 / root
            work += 1e-8
            np.divide(m, work, out=work)
            work *= step_size
            p -= work


def duration(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
