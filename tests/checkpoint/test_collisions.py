"""Files whose numbers are keys made to collide: in one place, or along one way of probes; loading takes no longer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint.tree import LONGEST, collide

FULL = 2**61 - 1                                 # hash(k * FULL) is 0


def circle(bits: int) -> Iterator[int]:
    """The places of a dict of 2**bits in the order in which every way of probes ends: place -> 5 * place + 1."""
    place = 0
    while True:
        yield place
        place = (5 * place + 1) & ((1 << bits) - 1)


def chained(bits: int, count: int) -> list[int]:
    """Numbers of different hashes: the first fill a run of the circle, and the ways of all others lead into it."""
    size = 1 << bits
    places = circle(bits)
    run = [next(places) for _ in range(size // 3)]
    filled = np.zeros(size, bool)
    filled[run] = True
    candidates = np.arange(size, 64 * size)
    place, perturb = candidates & (size - 1), candidates.copy()
    inside = filled[place]
    for _ in range(8):                           # then there is nothing left of the number
        perturb >>= 5
        place = (5 * place + perturb + 1) & (size - 1)
        inside &= filled[place]
    return [*run, *candidates[inside][:count].tolist()]


@pytest.mark.parametrize("keys", [
    lambda: [k * FULL for k in range(3000)],
    lambda: [float(k << 900) for k in range(1, 100)] + [k * FULL for k in range(2000)],
    lambda: chained(13, 1500),
    lambda: chained(13, 0),                      # quick to make, and every other number is slow to find in it
], ids=["one hash", "with floats", "one way", "one run"])
def test_keys_made_to_collide_are_refused(keys: Any, tmp_path: Any) -> None:
    ol.save(tmp_path / "file", part=dict.fromkeys(keys(), 0))
    with pytest.raises(ol.CheckpointError, match="a dict whose keys were made to collide"):
        ol.load(tmp_path / "file")


@pytest.mark.parametrize("keys", [
    lambda n: range(n), lambda n: range(n, 0, -1), lambda n: range(0, 10 * n, 10), lambda n: range(-n, n),
    lambda n: [1 << 10 << k % 40 for k in range(n)], lambda n: [k << 20 for k in range(n)],
    lambda n: [k << 32 for k in range(n)], lambda n: [k / 8 for k in range(n)], lambda n: [k / 10 for k in range(n)],
    lambda n: [float(k) for k in range(n)], lambda n: [k**2 for k in range(n)], lambda n: range(7, n * 4096, 4096),
    lambda n: np.random.default_rng(0).integers(0, 1 << 60, n).tolist(), lambda n: [f"${k}" for k in range(n)],
], ids=range(14))
@pytest.mark.parametrize("count", [1, 6, 11, 1000, 50_000])
def test_keys_of_every_day_are_not(keys: Any, count: int) -> None:
    assert not collide([hash(key) for key in dict.fromkeys(keys(count))])


def test_the_way_is_that_of_pythons_dicts() -> None:
    """Were CPython to probe otherwise, keys that take long here would not take long there."""
    made, easy = dict.fromkeys(chained(15, 0)), dict.fromkeys(range(1 << 15, (1 << 15) + (1 << 15) // 3))
    last = next(iter(chained(15, 1)[-1:]))       # leads into the run, and isn't there
    assert last not in made

    def seconds(found: dict[int, None]) -> float:
        begin = time.perf_counter()
        for _ in range(2000):
            last in found                        # noqa: B015
        return time.perf_counter() - begin

    assert min(seconds(made) for _ in range(5)) > 5 * min(seconds(easy) for _ in range(5))
    assert len(made) > LONGEST

