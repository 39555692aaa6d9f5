"""Own scalars: what a pass keeps of each tensor, in every copy of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.method import Group, Recipe
from support.bits import THREADS
from support.helpers import snapshot
from support.passes import COPIES, TYPES, both, give, grads, made
from support.probes import Probe


class OfTensor(Probe):
    """Adds up the sums of each tensor."""

    scalars = {"step": 0, "seen": 0.0}
    state_names = (*Probe.state_names, "seen")
    computed = 0

    def rule(self, group: Group) -> Recipe:
        return "probe_own", dict.fromkeys(Probe.state_names[1:], 0.0)

    def totals(self, group: Group) -> dict[str, float]:
        return {}

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        assert list(state) == ["step"]           # the other one is the rule's
        self.computed += 1
        return super().coefficients(group, state, first)


def seen(optimizer: ol.Optimizer) -> list[float]:
    return [float(optimizer.state[p].get("seen", 0.0)) for p in optimizer._parameters()]


@pytest.mark.parametrize("cautious", [False, True])
def test_scalars_of_a_tensor_have_the_bits_of_the_twin(cautious: bool, level: str, threads: None) -> None:
    for count in THREADS:
        ol.set_num_threads(count)
        one, other = (made(OfTensor, cautious=cautious) for _ in range(2))
        wanted = [0.0] * len(one._parameters())
        for step in range(3):
            gradients = [None if (step + k) % 3 == 0 else g for k, g in enumerate(grads(seed=step))]
            both(one, other, gradients)
            wanted = [was if g is None else was + math.fsum(g.ravel().astype(np.float64))
                      for was, g in zip(wanted, gradients, strict=True)]
        assert np.allclose(seen(one), wanted, 1e-12)


def test_tensors_that_differ_in_their_own_scalars_alone_step_together() -> None:
    groups = [[(k, np.float32, True) for k in range(20)]]
    one, other = (made(OfTensor, groups) for _ in range(2))
    for step in range(3):
        both(one, other, grads(groups, step))
    assert len(set(seen(one))) == 20             # an empty tensor has 0
    assert one.computed == 3                     # type: ignore[attr-defined]


def test_own_scalars_of_a_cancelled_tensor_stand_still(level: str) -> None:
    groups = [[(40, dtype, True), (2000, np.float32, True)] for dtype in TYPES]
    one, other = (made(OfTensor, groups, least=0.0) for _ in range(2))
    gradients = [abs(g) for g in grads(groups)]  # type: ignore[arg-type]
    both(one, other, gradients)
    before = seen(one)
    both(one, other, [-g if k % 2 else g for k, g in enumerate(gradients)])
    assert [now == was for now, was in zip(seen(one), before, strict=True)] == [False, True, False, True]


@pytest.mark.parametrize("dtype", TYPES)
def test_own_scalars_of_a_table_are_those_of_its_touched_rows(dtype: Any, level: str) -> None:
    groups = [[((10, 3), dtype, True), ((3000, 33), dtype, True)]]
    one, other = (made(OfTensor, groups) for _ in range(2))
    rng = np.random.default_rng(3)
    for count in (7, 0, 5):
        both(one, other, [ol.SparseGrad(rng.integers(0, 10, count), rng.standard_normal((count, width)).astype(dtype))
                          for width in (3, 33)])
    assert all(seen(one))


@pytest.mark.parametrize("row", ["deepcopy", "pickle", "file"])
def test_own_scalars_are_in_every_copy(row: str, tmp_path: Path) -> None:
    one = give(made(OfTensor), grads())
    one.step()
    before = seen(one)
    if row == "file":
        ol.save(tmp_path / "run.safetensors", optimizer=one)
        other = made(OfTensor)
        ol.restore(tmp_path / "run.safetensors", optimizer=other)
    else:
        other = COPIES[row](one, tmp_path)
    assert seen(other) == before
    for optimizer in (one, other):
        give(optimizer, grads(seed=2)).step()
    assert seen(other) == seen(one) != before


class OpensWithout(OfTensor):
    def first_rule(self, group: Group) -> str | None:
        return "probe_tensor"


@pytest.mark.parametrize(("scalars", "base", "message"), [
    ({}, OfTensor, r"^the rule 'probe_own' moves the last 1 of `scalars`, which must be floats, but Own has \{\}$"),
    ({"step": 0}, OfTensor, r"^the rule 'probe_own' moves .* but Own has \{'step': 0\}$"),
    ({"seen": 0.0, "step": 0}, OfTensor, "^the rule 'probe_own' moves the last 1 of `scalars`"),
    ({"step": 0, "seen": 0.0}, OpensWithout, "^the rules 'probe_tensor' and 'probe_own' of Own must move the same")])
def test_own_scalars_that_do_not_fit_are_refused(scalars: dict[str, Any], base: Any, message: str) -> None:
    optimizer = give(made(type("Own", (base,), {"scalars": scalars, "__module__": __name__})), grads())
    before = snapshot(optimizer)
    with pytest.raises(TypeError, match=message):
        optimizer.step()
    assert snapshot(optimizer) == before
