"""A script: optimizers that have stepped here go on in child processes; `python -m support.children spawn` in tests/.

Functions for children must be importable there, which those of a test module are not.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

import numpy as np

import optimlite as ol
from optimlite.native import runtime
from support.cases import CASES
from support.helpers import parameters, train, values

SIZE = 120_000       # elements: from about 100,000 on, a step uses threads


def optimizers() -> list[ol.Optimizer]:
    rng = np.random.default_rng(5)
    return [case.optimizer([rng.standard_normal(case.fit(n)).astype(np.float32) for n in (SIZE, 7)], **case.options)
            for case in CASES]


def go_on(optimizer: ol.Optimizer, parameter: ol.Parameter) -> tuple[ol.Optimizer, list[Any], bool, int, int]:
    """What a child does: two steps. It tells of the bits, of the identity of what it got, and of its threads."""
    before = runtime.pool_size()
    train(optimizer, (2, 3))
    return optimizer, values(optimizer), parameters(optimizer)[0] is parameter, before, runtime.pool_size()


def main(method: str) -> None:
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["optimlite"])
    mine, twins = optimizers(), optimizers()
    for optimizer in (*mine, *twins):
        train(optimizer, (0, 1))
    assert runtime.pool_size() == 2                            # the steps so far were threaded
    before = [values(optimizer) for optimizer in mine]
    with context.Pool(1) as pool:
        work = [(optimizer, parameters(optimizer)[0]) for optimizer in mine]
        results = pool.starmap_async(go_on, work, chunksize=1).get(timeout=300)
    assert [values(optimizer) for optimizer in mine] == before       # a child's steps are its own
    for twin, (optimizer, bits, same, _, threads) in zip(twins, results, strict=True):
        assert bits == values(train(twin, (2, 3)))
        assert same                                          # what travels together arrives as one
        assert threads == 2
        assert values(train(optimizer, (4,))) == values(train(twin, (4,)))       # and what comes back goes on
    assert results[0][3] == 0                                # threads of its own: none came along
    print(len(results), "optimizers")


if __name__ == "__main__":
    main(sys.argv[1])
