"""Parameters of 16 bits with every kind of master, in any layout, and the float32 that each stands for."""

from __future__ import annotations

from typing import Any

import numpy as np

import optimlite as ol
from optimlite.engine import halves
from optimlite.engine.formats import BFLOAT16, widened
from optimlite.engine.shadows import rounded

MASTERS = ["float32", "kahan", "none"]
KINDS = [(half, master) for half in ("bfloat16", "float16") for master in MASTERS]
LAYOUTS: dict[str, Any] = {"C": np.array, "F": np.asfortranarray,
                           "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2]}


def made(start: np.ndarray, half: str, name: str = "W") -> ol.Parameter:
    stored = rounded(start, np.empty(0, BFLOAT16 if half == "bfloat16" else np.float16))
    return ol.Parameter(stored, name, dtype="bfloat16" if half == "bfloat16" else None)


def groups_of(start: np.ndarray, layout: Any = np.array, kinds: Any = KINDS) -> list[dict[str, Any]]:
    """A parameter of each kind, and one of float32, in groups of their own."""
    groups: list[dict[str, Any]] = [{"params": [made(layout(start), half, f"{half} {master}")], "master": master}
                                    for half, master in kinds]
    return [*groups, {"params": [ol.Parameter(layout(start.astype(np.float32)), "float32")]}]


def give(optimizer: Any, step: int) -> Any:
    rng = np.random.default_rng(step)
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = np.asarray(rng.standard_normal(p.shape) * 10.0 ** rng.uniform(-6, 3, p.shape), np.float32)
    return optimizer


def exact(optimizer: Any) -> list[np.ndarray]:
    """The float32 that each parameter stands for."""
    return [halves.exact(p, optimizer.state[p]).copy() for group in optimizer.param_groups for p in group["params"]]


def seen(parameter: ol.Parameter) -> np.ndarray:
    """What the model sees."""
    return np.array(widened(parameter.data), np.float32)
