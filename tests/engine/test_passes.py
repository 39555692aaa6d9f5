"""What passes measure, over a tensor, a group or everything; and steps that they cancel."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.bits import THREADS, assert_same, same_bits
from support.helpers import values
from support.passes import GROUPS, TYPES, both, give, grads, made
from support.probes import PROBES, Probe

SCOPES = ["tensor", "group", "everything"]


def expected(g: list[np.ndarray], p: list[np.ndarray]) -> list[tuple[float, float]]:
    """Each number in float64, and the size of what it may be wrong by."""
    x, y = (np.concatenate([np.ravel(a) for a in arrays]).astype(np.float64) for arrays in (g, p))
    with np.errstate(all="ignore"):
        sums = [(math.fsum(terms), math.fsum(abs(terms))) for terms in (x, x * x, x * y)]
    return [*sums, (float(abs(y).max(initial=0.0)),) * 2]


# What is measured ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("scope", SCOPES)
def test_numbers_are_those_of_their_scope(scope: str, level: str) -> None:
    optimizer = made(PROBES[scope])
    gradients = grads()
    start = [p.data.astype(np.float64) for p in optimizer._parameters()]
    give(optimizer, gradients).step()
    of = [index for index, group in enumerate(GROUPS) for _ in group]
    for k, (p, g) in enumerate(zip(optimizer._parameters(), gradients, strict=True)):
        members = [j for j, other in enumerate(gradients) if other is not None
                   and (scope == "everything" or (of[j] == of[k] and (scope == "group" or j == k)))]
        if g is None:
            assert not optimizer.state[p]
            assert (p.data == start[k]).all()
            continue
        wanted = expected([gradients[j] for j in members], [start[j] for j in members])     # type: ignore[misc]
        for name, (value, size) in zip(Probe.state_names[1:], wanted, strict=True):
            assert np.allclose(optimizer.state[p][name], value, 0, 4 * np.finfo(p.dtype).eps * size), name
        assert np.allclose(p.data, 0.9 * start[k] - g, 1e-6, 1e-6)
    sums = [math.fsum(x for j, g in enumerate(gradients) if g is not None and (scope == "everything" or of[j] == index)
                      for x in g.ravel().astype(np.float64)) for index in range(len(GROUPS))]
    for group, total in zip(optimizer.param_groups, sums, strict=True):
        assert math.isclose(float(group["total"]), 0.0 if scope == "tensor" else total, rel_tol=1e-9)


@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("scope", SCOPES)
def test_numbers_have_the_bits_of_the_twin(scope: str, cautious: bool, level: str, threads: None) -> None:
    for count in THREADS:
        ol.set_num_threads(count)
        one, other = (made(PROBES[scope], cautious=cautious) for _ in range(2))
        for step in range(3):
            both(one, other, [None if (step + k) % 3 == 0 else g for k, g in enumerate(grads(seed=step))])


@pytest.mark.parametrize("special", [[np.nan], [np.inf], [-np.inf, 5.0], [np.nan, -np.inf], [-0.0], [-3.0]])
@pytest.mark.parametrize("scope", SCOPES)
def test_special_values_in_what_is_measured(scope: str, special: list[float], level: str) -> None:
    groups = [[(20_000, dtype, True), ((), dtype, True)] for dtype in TYPES]
    for at in (0, 1, 1500, 19_999):
        one, other = (made(PROBES[scope], groups) for _ in range(2))
        gradients = grads(groups)
        for optimizer in (one, other):
            for p in optimizer._parameters()[::2]:
                p.data[...] = 0
                p.data[at] = special[0]
                p.data[-1 - at] = special[-1]
        both(one, other, gradients)
        largest = one.state[one._parameters()[0]]["largest"][0]
        size = np.abs(special).max()             # NaN if any is
        if scope == "tensor":
            assert same_bits(largest, np.array(size, np.float32))
        assert not largest < size
        gradients[2][at] = special[0]            # type: ignore[index]
        both(one, other, gradients)


def test_a_group_of_empty_tensors_steps() -> None:
    groups = [[(0, np.float32, True), (0, np.float64, True)], [(5, np.float32, True)]]
    for cls in PROBES.values():
        one, other = (made(cls, groups) for _ in range(2))
        for step in range(2):
            both(one, other, grads(groups, step))
        assert [one.state[p]["step"] for p in one._parameters()] == [2, 2, 2]


# Cancelled -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_cancelled_step_changes_nothing(scope: str, cautious: bool, level: str) -> None:
    groups = [[(40, dtype, True), (2000, np.float32, True), (0, np.float32, True)] for dtype in TYPES]
    one, other = (made(PROBES[scope], groups, cautious=cautious) for _ in range(2))
    gradients = [abs(g) for g in grads(groups)]  # type: ignore[arg-type]
    both(one, other, gradients)
    before, totals = values(one), [float(group["total"]) for group in one.param_groups]
    gradients[:3] = [-g for g in gradients[:3]]  # the sums of the first group fall below
    for optimizer in (one, other):
        for group in optimizer.param_groups:
            group["least"] = 0.0 if scope != "everything" else 1e9
    both(one, other, gradients)
    stand = {"tensor": [0, 1], "group": [0, 1, 2], "everything": [0, 1, 2, 3, 4, 5]}[scope]
    # of a tensor alone, the count of steps goes on, which tensors that step together share
    left, was = ([(p, {key: value for key, value in state.items() if key != "step" or scope != "tensor"})
                  for p, state in found] for found in (values(one), before))
    assert [k for k in range(6) if left[k] == was[k]] == sorted({*stand, *([2, 5] if scope == "tensor" else [])})
    moved = [float(group["total"]) != total for group, total in zip(one.param_groups, totals, strict=True)]
    assert moved == {"tensor": [False, False], "group": [False, True], "everything": [False, False]}[scope]
    for optimizer in (one, other):
        for group in optimizer.param_groups:
            group["least"] = -math.inf
    both(one, other, gradients)                  # and they go on alike


@pytest.mark.parametrize("scope", SCOPES)
def test_a_first_step_that_is_cancelled_is_still_to_come(scope: str) -> None:
    groups = [[(40, np.float32, True)], [(7, np.float64, True)]]
    one, other = (made(PROBES[scope], groups, least=1e9) for _ in range(2))
    for _ in range(2):
        both(one, other, grads(groups))
    steps = [one.state[p]["step"] for p in one._parameters()]
    assert steps == ([2, 2] if scope == "tensor" else [0, 0])


@pytest.mark.parametrize("least", [-math.inf, 1e9])
@pytest.mark.parametrize("scope", SCOPES)
def test_gradients_are_zeroed_after_the_last_pass(scope: str, least: float) -> None:
    optimizer, kept = made(PROBES[scope], least=least), made(PROBES[scope], least=least)
    gradients = grads()
    give(kept, [None if g is None else g.copy() for g in gradients]).step()
    give(optimizer, gradients).step(zero_grad=True)
    assert_same(optimizer, kept)
    assert all(g is None or not g.any() for g in gradients)


@pytest.mark.parametrize("make", [ol.LAMB, ol.LARS, ol.NovoGrad, ol.StableAdamW, ol.Adafactor,
                                  ol.Prodigy, ol.DAdaptAdam, ol.DoG, ol.LDoG,
                                  lambda params: ol.Adam(params, cautious=True)])
def test_rules_that_measure_zero_gradients(make: Callable[..., ol.Optimizer]) -> None:
    one, other = made(make), made(make)
    for step in range(3):
        gradients = grads(seed=step)
        give(other, [None if g is None else g.copy() for g in gradients])
        give(one, gradients).step(zero_grad=True, max_grad_norm=1.0)
        reference.step(other, zero_grad=True, max_grad_norm=1.0)
        assert_same(one, other)
        assert all(g is None or not g.any() for g in gradients)
