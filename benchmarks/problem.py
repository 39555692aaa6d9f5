"""The problem that all contenders of a step share, and the base of those contenders.

Sharing parameters and gradients saves gigabytes and gives nobody an advantage: each contender runs once before its
clock starts, and keeps states of its own.  torch's contenders share tensors of torch's own making, as its users have
them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

import optimlite as ol

from .cases import Case, Work

Array = np.ndarray
ALL = ol.get_num_threads()               # before anybody changes it: the CPUs that this process may use


class Problem:
    """Random float32 parameters and gradients: one set of gradients, or two that take turns as fresh ones."""

    def __init__(self, case: Case, work: Work, gradients: str) -> None:
        random = np.random.default_rng(0)
        self.case, self.work, self.fresh = case, work, gradients == "fresh"
        self.params = [random.random(shape, np.float32) - np.float32(0.5) for shape in case.shapes]
        sets = [[random.random(shape, np.float32) - np.float32(0.5) for shape in case.shapes]
                for _ in range(1 + self.fresh)]
        self.sets = [sets[0], sets[-1]]

    def zeros(self) -> list[Array]:
        return [np.full_like(p, 0) for p in self.params]         # not np.zeros, whose pages don't exist until written

    @cached_property
    def torch(self) -> tuple[list[Any], list[list[Any]]]:
        import torch

        params = [torch.nn.Parameter(torch.from_numpy(p).clone()) for p in self.params]
        sets = [[torch.from_numpy(g).clone() for g in gradients] for gradients in self.sets[:1 + self.fresh]]
        return params, [sets[0], sets[-1]]


class Stepper:
    """A contender: `step(gradients)` of a subclass; `arrays` are the parameters that it updates."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.work, self.t = problem, problem.work, 0
        self.arrays, self.sets = problem.params, problem.sets
        self.h = {"lr": 0.0, "momentum": 0.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0,
                  **problem.work.arguments}

    def __call__(self) -> None:
        self.t += 1
        self.step(self.sets[self.t % 2])

    def step(self, gradients: list[Any]) -> None:
        raise NotImplementedError
