"""Measuring: every contender of a row in every round, in turning order, in one process; medians over the rounds."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median

Contender = Callable[[], object]         # does its work once; `enter`, if it has one, is called before each measurement

AT_LEAST = 4e-3                          # seconds that one measurement should take
SETTLE = 10e-3                           # threads of the contender before may still spin this long, looking for work
WARM = 20e-3                             # seconds of work before the clock starts: a cache that others filled meanwhile
                                         # makes the first steps up to three times as long as the tenth


def timed(contender: Contender, repeats: int) -> float:
    """Seconds per call."""
    start = time.perf_counter()
    for _ in range(repeats):
        contender()
    return (time.perf_counter() - start) / repeats


def repeats_for(contender: Contender, at_least: float) -> int:
    """How many calls make a measurement of `at_least` seconds."""
    repeats = 1
    while (seconds := timed(contender, repeats)) * repeats < at_least / 2:
        repeats *= 4
    return max(1, round(at_least / seconds))


def enter(contender: Contender) -> None:
    time.sleep(SETTLE)
    getattr(contender, "enter", lambda: None)()


def warm_up(contender: Contender) -> None:
    until = time.perf_counter() + WARM
    contender()
    while time.perf_counter() < until:
        contender()


def measure(contenders: Mapping[str, Contender], rounds: int, at_least: float = AT_LEAST) -> dict[str, list[float]]:
    """Seconds per call of every contender, one figure for each round.

    All run in each round, so that a change of the machine's speed meets all alike.  The order turns by one with each
    round, and is reversed in every other: nobody always follows the same neighbour.  Before the clock starts, a
    contender warms up: the arrays that fit into the cache are there.
    """
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    repeats = {}
    for name, contender in contenders.items():
        enter(contender)
        contender()
        repeats[name] = repeats_for(contender, at_least)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            order = names[turn % len(names):] + names[:turn % len(names)]
            for name in order if turn % 2 else reversed(order):
                enter(contenders[name])
                if (samples[name] or [0.0])[-1] < WARM:      # what takes longer doesn't fit into a cache
                    warm_up(contenders[name])
                samples[name].append(timed(contenders[name], repeats[name]))
    finally:
        if collecting:
            gc.enable()
    return samples


def medians(samples: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: median(values) for name, values in samples.items()}
