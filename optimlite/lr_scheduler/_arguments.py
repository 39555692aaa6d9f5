"""What only schedules ask of their arguments: whole numbers, one value per group, a place inside a group."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from ..checks import Check, number, shown
from ..engine.optimizer import Optimizer

T = TypeVar("T")


def count(least: int) -> Check:
    """A whole number of at least `least`, as an int; 30.0 is one."""

    def check(name: str, value: Any) -> int:
        result = number(name, value)
        if result != math.floor(result) or result < least:
            raise ValueError(f"`{name}` must be a whole number >= {least}, got {result}")
        return int(result)

    return check


def power(base: float, exponent: float) -> float:
    """Infinite where Python's own raises OverflowError, as a product is: the next step refuses that rate by name."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


def choice(*allowed: str) -> Check:
    def check(name: str, value: Any) -> str:
        if not (isinstance(value, str) and value in allowed):
            raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {shown(value)}")
        return str(value)

    return check


def function(name: str, value: Any) -> Any:
    if not callable(value):
        raise TypeError(f"`{name}` must be a function, got {type(value).__name__}")
    return value


def an_optimizer(value: Any) -> Optimizer:
    if not isinstance(value, Optimizer):
        raise TypeError(f"`optimizer` must be an optimlite.Optimizer, got {type(value).__name__}")
    return value


class PerGroup(Generic[T]):
    """An argument given once, for all groups and those added later, or as a list with one entry per group."""

    def __init__(self, name: str, value: Any, optimizer: Any, check: Callable[[str, Any], T]) -> None:
        groups = len(an_optimizer(optimizer).param_groups)
        self.name = name
        self.shared = not isinstance(value, (list, tuple))
        self.values = [check(name, each) for each in ([value] if self.shared else value)]
        if not self.shared and len(self.values) != groups:
            raise ValueError(f"`{name}` must have one entry per group: {groups}, got {len(self.values)}")

    def __getitem__(self, i: int) -> T:
        if self.shared:
            i = 0
        elif i >= len(self.values):
            raise ValueError(f"`{self.name}` lists {len(self.values)} groups, but the optimizer has more by now; "
                             f"add the new group's entry with `scheduler.{self.name}.append(...)`")
        return self.values[i]

    def append(self, value: T) -> None:
        self.values.append(value)


class Hyperparameter:
    """Where a group keeps a number: under a name (`lr`), or in a tuple under a name (`betas[0]`)."""

    def __init__(self, key: str, optimizer: Optimizer) -> None:
        match = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", key) if isinstance(key, str) else None
        if match is None:
            raise ValueError(f"`key` must be a name such as 'lr' or 'betas[0]', got {key!r}")
        self.key = key
        self.name = match[1]
        self.index = None if match[2] is None else int(match[2])
        for i, group in enumerate(optimizer.param_groups):
            try:
                value = group[self.name]
                number(key, value if self.index is None else value[self.index])
            except (KeyError, IndexError, TypeError):
                known = ", ".join(sorted(optimizer.defaults))
                raise ValueError(f"`key` must name a number in every group, got {key!r}, which group {i} doesn't have; "
                                 f"its hyper-parameters are {known}") from None

    def get(self, group: Mapping[str, Any]) -> float:
        return float(group[self.name] if self.index is None else group[self.name][self.index])

    def set(self, group: dict[str, Any], value: float) -> None:
        if self.index is None:
            group[self.name] = value
        else:
            old = group[self.name]
            group[self.name] = (*old[:self.index], value, *old[self.index + 1:])
