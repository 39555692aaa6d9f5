"""Runs that are the same on every machine: their gradients, and each rule, need + - * / and square roots alone.

Left out are methods of whole matrices, whose products the BLAS computes in an order of its own, and many schedules,
whose powers, cosines and exponentials are the C library's.  The powers that optimizers need are in: `power` and
`real_power` multiply, add and divide.
"""

from __future__ import annotations

import hashlib
from functools import cache
from math import prod
from typing import Any

import numpy as np

import optimlite as ol
from optimlite import reference
from support.cases import CASES, DENSIFIED, ROWS, Case

Array = np.ndarray
Shapes = tuple[tuple[int, ...], ...]
SMALL: Shapes = ((33, 17), (5,), (), (1000,), (16_385,))
CYCLE = 7                                                # gradients come again after so many steps
HANDLINGS: list[dict[str, Any]] = [{}, {"max_grad_norm": 0.5}, {}, {"grad_scale": 0.75, "max_grad_value": 0.1},
                                   {"max_grad_norm": 40.0, "skip_nonfinite": True}]


def integers(seed: int, count: int) -> Array:
    """Random 64-bit integers by splitmix64 (Steele, Lea & Flood 2014): no generator of NumPy's is involved."""
    z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@cache
def numbers(seed: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """Multiples of 2^-23 in [-1, 1): exact in both types."""
    result = ((integers(seed, prod(shape)) >> np.uint64(40)) / 2.0**23 - 1).astype(dtype).reshape(shape)
    result.flags.writeable = False
    return result


class Run:
    """An optimizer that takes one fixed step after the other."""

    costs = 1                                            # a step, in those of elementwise optimizers
    large: Shapes = ((80_001,), (150, 151), (17,), ())   # 7 parts of 16,384 elements: threads pay from 6 on

    def __init__(self, case: Case, dtype: Any, shapes: Shapes) -> None:
        self.dtype, self.shapes, self.count = dtype, shapes, 0
        self.seen = hashlib.sha256()                     # what the final values might not show
        self.optimizer = case.optimizer({f"p{k}": numbers(k, shape, dtype).copy() for k, shape in enumerate(shapes)},
                                        **case.options)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self.step(self.count)
            self.count += 1

    def step(self, t: int) -> None:
        """Each parameter sits out every fifth step; every other step scales or clips."""
        grads = [None if (t + k) % 5 == 4 else self.gradient(100 * (t % CYCLE + 1) + k, shape)
                 for k, shape in enumerate(self.shapes)]
        self.optimizer.step(grads=grads, **HANDLINGS[t % len(HANDLINGS)])

    def gradient(self, seed: int, shape: tuple[int, ...]) -> Any:
        return numbers(seed, shape, self.dtype)

    def digest(self) -> str:
        """The hash of all parameters and their state, and of what was seen on the way."""
        found = self.seen.copy()
        for p in self.optimizer._parameters():
            for key, array in {"": p.data, **self.optimizer.state[p]}.items():
                assert np.isfinite(array).all()              # the bits of a NaN would be free
                found.update(f"{key} {array.dtype.name} {array.shape}".encode())
                found.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return found.hexdigest()[:16]


class SparseRun(Run):
    """Tables of which some rows have a gradient, in any order, some twice."""

    def __init__(self, case: Case, dtype: Any, shapes: Shapes) -> None:
        super().__init__(case, dtype, tuple(shape for shape in shapes if shape))

    def gradient(self, seed: int, shape: tuple[int, ...]) -> Any:
        indices = (integers(seed, shape[0] // 2) % np.uint64(shape[0])).astype(np.int64)
        return ol.SparseGrad(indices, numbers(seed + 50, (len(indices), *shape[1:]), self.dtype))


class ClosureRun(Run):
    """Ten iterations a step on sum(w/2 r^2 + r^4/4), r = x - goal, with w from 1 to 10^4, summed in a fixed order.

    They end at the goal, so the losses on the way count too.
    """

    costs = 10

    def __init__(self, case: Case, dtype: Any, shapes: Shapes) -> None:
        limits = {"max_iter": 10, "tolerance_grad": 0, "tolerance_change": 0}
        super().__init__(Case(case.optimizer, case.options | limits), dtype, shapes)
        self.goals = [numbers(900 + k, shape, np.float64) for k, shape in enumerate(shapes)]
        self.weights = [(1.0 + np.arange(prod(shape)) % 100).reshape(shape)**2 for shape in shapes]

    def loss(self) -> tuple[float, list[Array]]:
        total, grads = 0.0, []
        for p, goal, w in zip(self.optimizer._parameters(), self.goals, self.weights, strict=True):
            r = p.data - goal
            terms = np.ravel(0.5 * w * r * r + 0.25 * (r * r) * (r * r))
            total += sum(float(reference.sum_in_lanes(terms[i:i + 16_384])) for i in range(0, terms.size, 16_384))
            grads.append(np.asarray(w * r + r * r * r, self.dtype))
        self.seen.update(total.hex().encode())
        return total, grads

    def step(self, t: int) -> None:
        self.optimizer.step(self.loss)


class AverageRun(Run):
    """Averages of every kind beside SGD."""

    def __init__(self, case: Case, dtype: Any, shapes: Shapes) -> None:
        super().__init__(case, dtype, shapes)
        self.averages = [ol.Average(self.optimizer._parameters(), decay, bias_correction=decay == 0.9)
                         for decay in (None, 0.99, 0.9)]

    def step(self, t: int) -> None:
        super().step(t)
        for average in self.averages:
            average.update()

    def digest(self) -> str:
        for average in self.averages:
            for array in average.averages:
                self.seen.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return super().digest()


# A first trial of 2.5 is too long, so that the searches have to search.
CLOSURES = [*(Case(ol.LBFGS, {"lr": 2.5, "history_size": 5, "line_search_fn": search})
              for search in ("strong_wolfe", "nocedal_wright", "hager_zhang", "backtracking")),
            Case(ol.LBFGS, {"lr": 0.5, "history_size": 3}),
            Case(ol.LBFGS, {"line_search_fn": "hager_zhang", "bounds": (-0.5, 0.5)}),
            *(Case(ol.ConjugateGradient, {"beta": beta})
              for beta in ("polak-ribiere+", "hestenes-stiefel", "hager-zhang"))]

RUNS: dict[str, tuple[type[Run], Case]] = {}
for run, prefix, cases in ((Run, "", [case for case in CASES if not case.whole]),
                           (SparseRun, "sparse ", [*ROWS, *DENSIFIED]), (ClosureRun, "", CLOSURES),
                           (AverageRun, "averages of ", CASES[2:3])):
    RUNS |= {prefix + case.id: (run, case) for case in cases}

STEPS = 60


def golden(name: str, dtype: Any) -> str:
    """The hash of a run over small arrays."""
    kind, case = RUNS[name]
    run = kind(case, dtype, SMALL)
    run.advance(STEPS // run.costs)
    return run.digest()
