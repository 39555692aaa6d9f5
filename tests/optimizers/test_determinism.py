"""No bit depends on the number of threads, on the CPU level, or on the machine: all runs end alike."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

import optimlite as ol
from optimlite.native import dispatch, runtime
from support import paths
from support.cases import CASES
from support.fixed_runs import RUNS, Run, golden, integers

THREADS = [1, 2, 3, 4, 8]
GOLDEN = json.loads((paths.GOLDEN / "bits.json").read_text())


class MatrixRun(Run):
    """Its products come from NumPy, in an order that may be another one elsewhere; here it is always the same."""

    costs = 10
    large = ((500, 220), (3, 2, 5))


MATRICES = {case.id: (MatrixRun, case) for case in CASES if case.whole}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RUNS)
def test_the_bits_are_those_of_every_other_machine_and_version(name: str, dtype: str, level: str) -> None:
    """If a change of bits is meant: `python tests/support/golden/make_bits.py`, and a line in the changelog."""
    assert golden(name, dtype) == GOLDEN[name][dtype]


def test_every_hash_has_its_run_and_its_own_bits() -> None:
    assert list(GOLDEN) == list(RUNS)
    hashes = [each[dtype] for each in GOLDEN.values() for dtype in ("float32", "float64")]
    assert len(set(hashes)) == len(hashes)


def test_the_stream_of_numbers_is_splitmix64s() -> None:
    """The first outputs for the seed 0, as the algorithm's authors publish them."""
    assert [hex(i) for i in integers(0, 3)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


@pytest.mark.parametrize(("steps", "dtype"), [(10, "float32"), *(pytest.param(1000, dtype, marks=pytest.mark.long)
                                                                   for dtype in ("float32", "float64"))])
@pytest.mark.parametrize("name", [*RUNS, *MATRICES])
def test_threads_and_levels_change_no_bit(name: str, dtype: str, steps: int, threads: None,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays large enough for several threads; compared on the way too, since runs may come together again."""
    kind, case = {**RUNS, **MATRICES}[name]
    found: dict[int, dict[str, str]] = {}
    for level, count in product(dispatch.available(), THREADS):
        monkeypatch.setattr(dispatch, "level", level)
        ol.set_num_threads(count)
        run = kind(case, np.dtype(dtype), kind.large)
        for stop in (10, 100, 1000):
            if stop <= steps:
                run.advance(stop // run.costs - run.count)
                found.setdefault(stop, {})[f"{level}, {count} threads"] = run.digest()
        assert runtime.pool_size() >= min(count, 6) - 1        # there are six parts or seven
    for stop, digests in found.items():
        assert len(set(digests.values())) == 1, f"after {stop} steps: {digests}"
