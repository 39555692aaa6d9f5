"""Interrupted steps of strided parameters are whole, or haven't happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bowl import Bowl
from support.helpers import content
from support.interrupts import everywhere

STEPS: dict[str, tuple[Callable[[Any], ol.Optimizer], int]] = {
    "Adam": (ol.Adam, 3), "LAMB": (ol.LAMB, 7), "Adafactor": (ol.Adafactor, 7), "Muon": (ol.Muon, 13)}


@pytest.mark.parametrize("row", STEPS)
def test_an_interrupted_step_is_whole_or_none(row: str) -> None:
    build, every = STEPS[row]

    def begun(steps: int = 1) -> tuple[np.ndarray, ol.Optimizer]:
        table = np.arange(30.0).reshape(5, 6)
        opt = build([table[:, :2], table[:, :1:-1]])
        for _ in range(steps):
            act((table, opt))
        return table, opt

    def act(subject: tuple[np.ndarray, ol.Optimizer]) -> None:
        subject[1].step(grads=[np.ones((5, 2)), np.full((5, 4), 0.5)], max_grad_norm=1.0)

    def all_of(subject: tuple[np.ndarray, ol.Optimizer]) -> Any:
        return content(subject[0]), [{key: content(array) for key, array in state.items()}
                                     for state in subject[1].state.values()]

    states = [all_of(begun(steps)) for steps in (1, 2, 3)]

    def check(subject: tuple[np.ndarray, ol.Optimizer]) -> None:
        left = all_of(subject)
        assert left in states[:2]
        for _ in range(2 - states.index(left)):
            act(subject)
        assert all_of(subject) == states[2]

    assert everywhere(begun, act, check, every) > 10


class StridedBowl(Bowl):
    """The same problem in two views of one array."""

    def __init__(self, cls: Any, options: dict[str, Any]) -> None:
        super().__init__(cls, options)
        table = np.zeros(9)
        self.arrays = {"a": table[1:8:4], "b": table[::2][:4][::-1]}
        self.arrays["a"][...], self.arrays["b"][...] = 2.0, -1.5
        self.optimizer = cls(self.arrays, callback=lambda result: self.accept(), **options)
        self.accepted = []
        self.accept()


@pytest.mark.parametrize(("cls", "options", "every"), [
    (ol.LBFGS, {"line_search_fn": "strong_wolfe", "history_size": 2}, 41), (ol.ConjugateGradient, {}, 89),
    (ol.LBFGS, {"line_search_fn": "hager_zhang", "bounds": (-1.4, 1.7)}, 61)], ids=["L-BFGS", "CG", "bounds"])
def test_an_interrupted_minimizer_is_at_the_last_accepted_point(cls: Any, options: dict[str, Any], every: int) -> None:
    options = {**options, "max_iter": 3}
    plain, whole = Bowl(cls, options), StridedBowl(cls, options)
    plain.step()
    whole.step()
    assert whole.accepted == plain.accepted
    accepted = [*whole.accepted, whole.point()]
    if "bounds" in options:                      # parameters are moved into them first, all at once
        start = StridedBowl(cls, options).arrays.values()
        accepted.append([content(array.clip(*options["bounds"])) for array in start])

    def check(bowl: StridedBowl) -> None:
        assert bowl.point() in accepted
        for _ in range(20):
            bowl.step()

    assert everywhere(lambda: StridedBowl(cls, options), StridedBowl.step, check, every) > 20


def test_an_interrupted_swap_loses_no_value() -> None:
    def build() -> tuple[np.ndarray, ol.Average]:
        table = np.arange(12.0).reshape(3, 4)
        average = ol.Average([table[:, :2], table[:, 3]])
        average.update()
        table *= 2
        average.update()
        return table, average

    def act(subject: tuple[np.ndarray, ol.Average]) -> None:
        with subject[1].swapped():
            assert subject[0][2, 1] == 13.5

    def check(subject: tuple[np.ndarray, ol.Average]) -> None:
        assert content(subject[0]) == content(build()[0])
        act(subject)

    assert everywhere(build, act, check) > 20
