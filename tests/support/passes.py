"""Parameters of all kinds, for rules that measure, and a step of the kernels beside one of the twin."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import optimlite as ol
from optimlite import reference
from support.bits import assert_same, same_bits

TYPES = [np.float32, np.float64]
# Two groups of both types, tensors of no element and of no axis among them; None where there is no gradient.
GROUPS: list[list[tuple[Any, Any, bool]]] = [
    [(1025, np.float32, True), (0, np.float32, True), ((), np.float64, True), (16_385, np.float32, True),
     ((3, 4), np.float64, True), (31, np.float32, False)],
    [((), np.float32, True), (40_000, np.float64, True), (0, np.float64, True), (1023, np.float64, True)]]


def made(cls: Callable[..., ol.Optimizer], groups: Any = GROUPS, seed: int = 0, **options: Any) -> ol.Optimizer:
    """The same parameters at every call."""
    rng = np.random.default_rng(seed)
    return cls([{"params": [rng.standard_normal(shape).astype(dtype).reshape(shape) for shape, dtype, _ in group]}
                for group in groups], **options)


def grads(groups: Any = GROUPS, seed: int = 1) -> list[np.ndarray | None]:
    rng = np.random.default_rng(seed)
    drawn = [(np.asarray(rng.standard_normal(shape), dtype), given)
             for group in groups for shape, dtype, given in group]
    return [g if given else None for g, given in drawn]


def give(optimizer: ol.Optimizer, gradients: list[Any]) -> ol.Optimizer:
    for p, g in zip(optimizer._parameters(), gradients, strict=True):
        p.grad = g
    return optimizer


def both(one: ol.Optimizer, other: ol.Optimizer, gradients: list[Any]) -> None:
    """A step of the kernels, and one of the twin."""
    give(one, gradients).step()
    reference.step(give(other, gradients))
    assert_same(one, other)
    for group, same in zip(one.param_groups, other.param_groups, strict=True):
        assert all(same_bits(group[key], same[key]) for key in one.totals(group))


def totals(optimizer: ol.Optimizer) -> list[float]:
    found = [group["total"] for group in optimizer.param_groups]
    assert all(type(total) is np.ndarray and total.shape == () and total.dtype == np.float64 for total in found)
    return [float(total) for total in found]


COPIES: dict[str, Callable[[ol.Optimizer, Path], ol.Optimizer]] = {
    "deepcopy": lambda optimizer, folder: copy.deepcopy(optimizer),
    "pickle": lambda optimizer, folder: pickle.loads(pickle.dumps(optimizer)),
    "state dict": lambda optimizer, folder: loaded(optimizer, optimizer.state_dict()),
    "without a copy": lambda optimizer, folder: loaded(optimizer, optimizer.state_dict(copy=False)),
    "numbers": lambda optimizer, folder: loaded(optimizer, with_numbers(optimizer.state_dict())),
    "file": lambda optimizer, folder: saved(optimizer, folder / "run.safetensors"),
}


def loaded(optimizer: ol.Optimizer, state_dict: dict[str, Any]) -> ol.Optimizer:
    fresh = made(type(optimizer))
    for p, q in zip(fresh._parameters(), optimizer._parameters(), strict=True):
        p.data[...] = q.data
    live = [group["total"] for group in fresh.param_groups]
    fresh.load_state_dict(state_dict)
    assert all(group["total"] is total for group, total in zip(fresh.param_groups, live, strict=True))
    return fresh


def with_numbers(state_dict: dict[str, Any]) -> dict[str, Any]:
    for group in state_dict["param_groups"]:
        group["total"] = float(group["total"])
    return state_dict


def saved(optimizer: ol.Optimizer, path: Path) -> ol.Optimizer:
    ol.save(path, optimizer=optimizer)
    return loaded(optimizer, ol.load(path)["optimizer"])
