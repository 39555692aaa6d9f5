"""What tests of messages, checks and details call again and again."""

from __future__ import annotations

from typing import Any

import numpy as np

import optimlite as ol
from optimlite import checks
from optimlite.closures.bounds import Bounds
from optimlite.engine import nesting


def pair_of(value: Any) -> Any:
    return checks.pair(checks.fraction)("betas", value)


def adam(**options: Any) -> ol.Adam:
    return ol.Adam({"W": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}, **options)


def stepped(optimizer: ol.Optimizer, steps: int = 1) -> ol.Optimizer:
    for k in range(steps):
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            p.grad = np.full(p.shape, k + 1.0, p.dtype)
        optimizer.step()
    return optimizer


def bounds(value: Any) -> Bounds:
    optimizer = ol.SGD({"W": np.ones((2, 3)), "b": np.ones(3)})
    return Bounds(value, optimizer._parameters(), optimizer._names())


def gradients(grads: Any, params: Any) -> list[Any]:
    return list(nesting.gradients(grads, nesting.read(params)))


a, b, c = np.zeros(1), np.zeros(2), np.zeros(3)
NEST = {"x": [a, b], "y": c}
