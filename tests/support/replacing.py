"""Optimizers over two small arrays, whose parameters tests remove, replace, prune and grow."""

from __future__ import annotations

import numpy as np

import optimlite as ol
from support.cases import Case


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model() -> dict[str, np.ndarray]:
    return {"x": array(0, 6, 3), "o": array(1, 6, 2)}


def step(opt: ol.Optimizer, seed: int) -> None:
    for index, p in enumerate(opt._parameters()):
        p.grad = array(100 * seed + index, *p.shape)
    opt.step()


def built(case: Case, steps: int = 3) -> ol.Optimizer:
    opt = case.optimizer(model(), **case.options)
    for seed in range(steps):
        step(opt, seed)
    return opt
