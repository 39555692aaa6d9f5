"""Cautious updates of rows, and of rules that can't be cautious."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import THREADS
from support.helpers import snapshot
from support.passes import GROUPS, TYPES, both, give, grads, made


class CautiousRows(ol.SparseAdam):
    def __init__(self, params: Any, cautious: bool = True) -> None:
        super().__init__(params, lr=0.1)
        for group in self.param_groups:
            group["cautious"] = cautious


@pytest.mark.parametrize("dtype", TYPES)
def test_of_sparse_gradients_the_touched_rows_count(dtype: Any, level: str, threads: None) -> None:
    tables = [(10, 3), (8,), (6, 2, 2), (3000, 33), (4, 20_000), (5, 0), (0, 4)]
    groups = [[(shape, dtype, True) for shape in tables]]
    for count in THREADS:
        ol.set_num_threads(count)
        one, other = (made(CautiousRows, groups) for _ in range(2))
        rng = np.random.default_rng(3)
        for step in range(5):
            given = []
            for shape in tables:
                rows = rng.integers(0, shape[0] or 1, 0 if step == 2 or not shape[0] else 7)
                given.append(ol.SparseGrad(rows, rng.standard_normal((len(rows), *shape[1:])).astype(dtype)))
            both(one, other, given)


def test_the_share_is_that_of_the_touched_rows() -> None:
    """One row of two elements, one of them against its momentum: twice the update for the other."""
    optimizer, plain = (CautiousRows({"W": np.zeros((100, 2))}, cautious) for cautious in (True, False))
    for signs in ([1.0, 1.0], [1.0, -0.01]):
        start = plain.param_groups[0]["params"][0].data.copy()
        before = optimizer.param_groups[0]["params"][0].data.copy()
        for each in (optimizer, plain):
            each.step(grads={"W": ol.SparseGrad([7], np.array([signs]))})
    moved = optimizer.param_groups[0]["params"][0].data - before
    assert np.allclose(moved[7], 2 * (plain.param_groups[0]["params"][0].data - start)[7] * [1, 0])
    assert not np.delete(moved, 7, 0).any()


def test_a_rule_that_writes_the_parameter_itself_refuses_to_be_cautious() -> None:
    class Cautious(ol.ASGD):
        def __init__(self, params: Any) -> None:
            super().__init__(params)
            self.defaults["cautious"] = True
            self.param_groups[0]["cautious"] = True

    optimizer = give(made(Cautious, GROUPS[:1]), grads(GROUPS[:1]))
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="`cautious` can't be applied to Cautious, whose rule 'asgd' writes"):
        optimizer.step()
    assert snapshot(optimizer) == before
