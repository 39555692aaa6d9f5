"""What tests of checkpoints share: arrays in every layout, a small training, and equality of what came back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import optimlite as ol

LAYOUTS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "transposed": lambda a: a.T,
    "strided": lambda a: a[1:, ::2],
    "backwards": lambda a: a[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], (3, a.shape[1])),
    "0-d": lambda a: a[2, 3],
    "empty": lambda a: a[:0],
    "1-d": lambda a: a[1],
    "misaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, a.size, 1).reshape(a.shape),
}


def same(a: Any, b: Any) -> bool:
    """Equality of nestings: types, and of arrays shape, dtype (in native order) and bits."""
    if isinstance(a, np.ndarray):
        return (isinstance(b, np.ndarray) and a.shape == b.shape
                and a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=")
                and a.astype(a.dtype.newbyteorder("=")).tobytes() == b.astype(b.dtype.newbyteorder("=")).tobytes())
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def until(holds: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether it holds before long: a thread is counted for a moment after its work is done."""
    end = time.perf_counter() + seconds
    while not holds() and time.perf_counter() < end:
        time.sleep(0.001)
    return holds()


def training(seed: int = 0, steps: int = 3) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    W = ol.Parameter(random.random((6, 5), np.float32), "W")
    b = ol.Parameter(np.asfortranarray(random.random((3, 4))), "b")
    optimizer = ol.AdamW([W, b], lr=0.1)
    scheduler = ol.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for _ in range(steps):
        optimizer.step(grads=[random.random(p.shape).astype(p.dtype) for p in (W, b)])
        scheduler.step()
    return {"model": {"W": W, "b": b}, "optimizer": optimizer, "scheduler": scheduler}


def bits(parts: dict[str, Any]) -> list[bytes | str]:
    arrays = [array.tobytes() for array in parts["optimizer"].state.arrays()]
    groups = [{key: value for key, value in g.items() if key != "params"} for g in parts["optimizer"].param_groups]
    return [*arrays, repr(parts["scheduler"].state_dict()), repr(groups)]
