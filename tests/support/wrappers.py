"""Lookahead and SAM around another optimizer, and a bowl in which they walk."""

from __future__ import annotations

from typing import Any

import numpy as np

import optimlite as ol

Arrays = dict[str, np.ndarray]
SHAPES = {"a": (7, 30), "b": (20_000,), "c": ()}


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


def values(seed: int, dtype: Any = np.float64) -> Arrays:
    rng = np.random.default_rng(seed)
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in SHAPES.items()}


def lookahead(params: Any, k: int = 3, alpha: float = 0.5, kind: Any = ol.AdamW, **options: Any) -> Any:
    return ol.Lookahead(kind(params, **{"lr": 0.05, **options}), k, alpha)


def sam(params: Any, rho: float = 0.5, adaptive: bool = False, kind: Any = ol.AdamW, **options: Any) -> Any:
    return ol.SAM(kind(params, **{"lr": 0.05, **options}), rho, adaptive)


def bowl(params: Arrays, t: int = 0) -> Any:
    """A closure: the gradient depends on where the parameters are."""
    target = values(1000 + t)
    return lambda: (1.0, {key: (p - target[key]).astype(p.dtype) for key, p in params.items()})


def walk(opt: Any, params: Arrays, begin: int, end: int) -> None:
    for t in range(begin, end):
        opt.step(bowl(params, t))


def assert_same(one: Arrays, other: Arrays) -> None:
    for key, array in one.items():
        assert same_bits(array, other[key]), key
