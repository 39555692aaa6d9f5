"""Beyond 2**31 elements; run by `make large-test`, because it takes 17.2 GB."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol

SIZE = 2**31 + 17
PERIOD = 1_000_003       # of the gradients, prime: elements 2**31 apart, or any power of two, differ
NEEDED = 2 * SIZE * 4 + 100_000_000


def available() -> int:
    """The bytes that processes may still take; a large number where there is no telling."""
    if not Path("/proc/meminfo").exists():
        return 1 << 60
    found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) << 10 if found else 1 << 60


@pytest.mark.large
def test_more_than_2_31_elements_are_updated_each() -> None:
    """DeepSpeed#7640: 32-bit indices overflowed, and nothing was updated."""
    if available() < NEEDED:
        pytest.skip(f"needs {NEEDED / 1e9:.1f} GB of free memory, and {available() / 1e9:.1f} GB are there")
    period = np.random.default_rng(0).standard_normal(PERIOD, np.float32)
    p, grad = np.zeros(SIZE, np.float32), np.empty(SIZE, np.float32)
    for begin in range(0, SIZE, PERIOD):
        grad[begin:begin + PERIOD] = period[:SIZE - begin]
    ol.SGD([p], lr=0.5).step(grads=[grad])
    period *= np.float32(-0.5)
    for begin in range(0, SIZE, PERIOD):
        assert np.array_equal(p[begin:begin + PERIOD], period[:SIZE - begin]), f"the {PERIOD} elements from {begin} on"
