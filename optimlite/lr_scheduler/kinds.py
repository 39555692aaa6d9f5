"""Schedules that don't scale what they find: they write over it, or make everything from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..engine.optimizer import Optimizer
from .base import LRScheduler


class Overwriting(LRScheduler):
    """A schedule that writes over what it finds, in torch too."""

    def recurrence(self, value: float, base: float, t: int, i: int) -> float:
        return self.closed_form(base, t, i)

    def _first_value(self, found: float, i: int, resumed: bool) -> float:
        return self._path[i]


class Walked(LRScheduler):
    """A schedule that a recurrence defines: its closed form walks there from count 0.

    The last place reached is kept for each group, so that asking for 0, 1, 2, … costs one recurrence each.
    """

    def _attach(self, optimizer: Optimizer, key: str) -> None:
        super()._attach(optimizer, key)
        self._reached: dict[int, tuple[float, int, float]] = {}

    def closed_form(self, base: float, t: int, i: int) -> float:
        return self._walk(self.recurrence, base, t, i)

    def _expected(self, base: float, t: int, i: int) -> float:
        return self.recurrence(self._path[i], base, t, i)

    def _load_extra(self, state: Mapping[str, Any]) -> None:
        super()._load_extra(state)
        self._reached.clear()  # the functions may be other ones now

    def _walk(self, recurrence: Callable[[float, float, int, int], float], base: float, t: int, i: int) -> float:
        start, reached, value = self._reached.get(i, (base, -1, base))
        if start != base or reached > t:
            reached, value = -1, base
        for k in range(reached + 1, t + 1):
            value = recurrence(value, base, k, i)
        self._reached[i] = (base, t, value)
        return value
