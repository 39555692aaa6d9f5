"""The update rules as a Numba user would write them: one loop, compiled for one thread and for all."""

from __future__ import annotations

import math
from typing import Any

import numba
from numba import prange

PARALLEL = 100_000                       # elements; below, starting the threads costs more than they bring


def sgd(g: Any, p: Any, lr: Any) -> None:
    for i in prange(p.size):
        p[i] -= lr * g[i]


def momentum(g: Any, p: Any, b: Any, lr: Any, mu: Any) -> None:
    for i in prange(p.size):
        b[i] = mu * b[i] + g[i]
        p[i] -= lr * b[i]


def adam(g: Any, p: Any, m: Any, v: Any, beta1: Any, fresh1: Any, beta2: Any, fresh2: Any, eps: Any, step_size: Any,
         inv_root_bias2: Any, keep: Any) -> None:
    for i in prange(p.size):
        m[i] = beta1 * m[i] + fresh1 * g[i]
        v[i] = beta2 * v[i] + fresh2 * g[i] * g[i]
        p[i] = keep * p[i] - step_size * m[i] / (math.sqrt(v[i]) * inv_root_bias2 + eps)


# error_model: Python's check of each division would keep the loop from being vectorised.  No fastmath: it takes for
# granted that there is no NaN, which an optimizer can't.
KERNELS = {states: tuple(numba.njit(function, error_model="numpy", cache=True, parallel=parallel)
                         for parallel in (False, True))
           for states, function in enumerate((sgd, momentum, adam))}
