"""What passes measure, over a tensor, a group or everything; and what that makes of a step."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from optimlite.engine.method import Group, Recipe
from optimlite.engine.rule_optimizer import RuleOptimizer
from support.bits import THREADS, assert_same, same_bits
from support.helpers import snapshot, values
from support.probes import PROBES, OfGroup, Probe

SCOPES = ["tensor", "group", "everything"]
TYPES = [np.float32, np.float64]
SIZES = [0, 1, 31, 1023, 1025, 16_385, 40_000]
# Two groups of both types, tensors of no element and of no axis among them; None where there is no gradient.
GROUPS: list[list[tuple[Any, Any, bool]]] = [
    [(1025, np.float32, True), (0, np.float32, True), ((), np.float64, True), (16_385, np.float32, True),
     ((3, 4), np.float64, True), (31, np.float32, False)],
    [((), np.float32, True), (40_000, np.float64, True), (0, np.float64, True), (1023, np.float64, True)]]


def made(cls: Callable[..., ol.Optimizer], groups: Any = GROUPS, seed: int = 0, **options: Any) -> ol.Optimizer:
    """The same parameters at every call."""
    rng = np.random.default_rng(seed)
    return cls([{"params": [rng.standard_normal(shape).astype(dtype).reshape(shape) for shape, dtype, _ in group]}
                for group in groups], **options)


def grads(groups: Any = GROUPS, seed: int = 1) -> list[np.ndarray | None]:
    rng = np.random.default_rng(seed)
    drawn = [(np.asarray(rng.standard_normal(shape), dtype), given)
             for group in groups for shape, dtype, given in group]
    return [g if given else None for g, given in drawn]


def give(optimizer: ol.Optimizer, gradients: list[Any]) -> ol.Optimizer:
    for p, g in zip(optimizer._parameters(), gradients, strict=True):
        p.grad = g
    return optimizer


def both(one: ol.Optimizer, other: ol.Optimizer, gradients: list[Any]) -> None:
    """A step of the kernels, and one of the twin."""
    give(one, gradients).step()
    reference.step(give(other, gradients))
    assert_same(one, other)
    for group, same in zip(one.param_groups, other.param_groups, strict=True):
        assert all(same_bits(group[key], same[key]) for key in one.totals(group))


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


# Totals of a group ---------------------------------------------------------------------------------------------------

def totals(optimizer: ol.Optimizer) -> list[float]:
    found = [group["total"] for group in optimizer.param_groups]
    assert all(type(total) is np.ndarray and total.shape == () and total.dtype == np.float64 for total in found)
    return [float(total) for total in found]


def test_totals_begin_with_their_group() -> None:
    optimizer = made(OfGroup)
    assert totals(optimizer) == [0.0, 0.0]
    optimizer.add_param_group({"params": [np.ones(3)], "total": 2})
    shared = {"params": [np.ones(3)], "total": optimizer.param_groups[2]["total"]}
    optimizer.add_param_group(shared)            # not the array that belongs to another group
    give(optimizer, [*grads(), np.ones(3), None]).step()
    assert totals(optimizer)[2:] == [5.0, 2.0]
    assert "total: 5.0" in repr(optimizer)


COPIES: dict[str, Callable[[ol.Optimizer, Path], ol.Optimizer]] = {
    "deepcopy": lambda optimizer, folder: copy.deepcopy(optimizer),
    "pickle": lambda optimizer, folder: pickle.loads(pickle.dumps(optimizer)),
    "state dict": lambda optimizer, folder: loaded(optimizer, optimizer.state_dict()),
    "without a copy": lambda optimizer, folder: loaded(optimizer, optimizer.state_dict(copy=False)),
    "numbers": lambda optimizer, folder: loaded(optimizer, with_numbers(optimizer.state_dict())),
    "file": lambda optimizer, folder: saved(optimizer, folder / "run.safetensors"),
}


def loaded(optimizer: ol.Optimizer, state_dict: dict[str, Any]) -> ol.Optimizer:
    fresh = made(type(optimizer))
    for p, q in zip(fresh._parameters(), optimizer._parameters(), strict=True):
        p.data[...] = q.data
    live = [group["total"] for group in fresh.param_groups]
    fresh.load_state_dict(state_dict)
    assert all(group["total"] is total for group, total in zip(fresh.param_groups, live, strict=True))
    return fresh


def with_numbers(state_dict: dict[str, Any]) -> dict[str, Any]:
    for group in state_dict["param_groups"]:
        group["total"] = float(group["total"])
    return state_dict


def saved(optimizer: ol.Optimizer, path: Path) -> ol.Optimizer:
    ol.save(path, optimizer=optimizer)
    return loaded(optimizer, ol.load(path)["optimizer"])


@pytest.mark.parametrize("row", COPIES)
def test_totals_are_in_every_copy(row: str, tmp_path: Path) -> None:
    optimizer = give(made(OfGroup), grads())
    optimizer.step()
    other = give(COPIES[row](optimizer, tmp_path), grads())
    assert totals(other) == totals(optimizer) != [0.0, 0.0]
    before = totals(optimizer)
    other.step()
    assert totals(optimizer) == before           # each has its own
    give(optimizer, grads()).step()
    assert totals(other) == totals(optimizer)
    assert values(other) == values(optimizer)
    optimizer.load_state_dict(made(OfGroup).state_dict())        # back to the start, in the live arrays
    assert totals(optimizer) == [0.0, 0.0]


def test_totals_can_be_set() -> None:
    optimizer = give(made(OfGroup), grads())
    optimizer.step()
    first = totals(optimizer)[0]
    for value in (1.0, np.float32(1.0), np.array([1]), np.array(1.0)):
        optimizer.param_groups[0]["total"] = value
        optimizer.step()
        assert math.isclose(totals(optimizer)[0], 1.0 + first, rel_tol=1e-12)
    optimizer.param_groups[0]["total"][...] = math.nan           # as after gradients that were
    optimizer.param_groups[0]["lr"] = None
    optimizer.step()
    assert math.isnan(totals(optimizer)[0])


@pytest.mark.parametrize(("value", "error"), [("many", TypeError), ([1.0], TypeError), (np.ones(2), TypeError),
                                              (math.inf, ValueError), (None, TypeError)])
def test_what_is_no_total_is_refused(value: Any, error: type[Exception]) -> None:
    optimizer = give(made(OfGroup), grads())
    optimizer.step()
    optimizer.param_groups[1]["total"] = value
    before = snapshot(optimizer)
    with pytest.raises(error, match="`total` must be"):
        optimizer.step()
    assert snapshot(optimizer) == before
    with pytest.raises(error, match="`total` must be"):
        optimizer.add_param_group({"params": [np.ones(3)], "total": value})


def test_a_state_dict_without_totals_is_refused() -> None:
    optimizer = give(made(OfGroup), grads())
    optimizer.step()
    state_dict = made(OfGroup).state_dict()
    del state_dict["param_groups"][1]["total"]
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="missing: `total` of group 1"):
        optimizer.load_state_dict(state_dict)
    assert snapshot(optimizer) == before
    optimizer.load_state_dict(state_dict, strict=False)
    assert totals(optimizer)[0] == 0.0 != totals(optimizer)[1]


def test_more_totals_than_there_is_room_for_are_refused() -> None:
    class Many(OfGroup):
        def totals(self, group: Group) -> dict[str, float]:
            return {f"total {k}": 0.0 for k in range(9)}

    optimizer = give(made(Many), grads())
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="a group has at most 8 totals, got 9"):
        optimizer.step()
    assert snapshot(optimizer) == before


def test_a_total_may_be_called_nearly_as_a_hyper_parameter_is() -> None:
    class Near(OfGroup):
        def totals(self, group: Group) -> dict[str, float]:
            return {"leastt": 0.0}

    optimizer = give(made(Near), grads())
    optimizer.step()
    optimizer.add_param_group({"params": [np.ones(3)], "leastt": 1.0})
    optimizer.step()


# Scalars of a tensor -------------------------------------------------------------------------------------------------

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


# First steps by another rule -----------------------------------------------------------------------------------------

class Opens(RuleOptimizer):
    """Nesterov's momentum, whose first step is plain momentum."""

    state_names = ("momentum_buffer",)
    opening: ClassVar[str] = "momentum"

    def __init__(self, params: Any, cautious: bool = False) -> None:
        super().__init__(params, {"lr": 0.1, "cautious": cautious})

    def rule(self, group: Group) -> Recipe:
        return "nesterov", {"momentum_buffer": 0.0}

    def first_rule(self, group: Group) -> str | None:
        return self.opening

    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]:
        return {"lr": group["lr"], "momentum": 0.9, "fresh": 1.0}


@pytest.mark.parametrize("cautious", [False, True])
def test_a_first_step_by_another_rule(cautious: bool, level: str, threads: None) -> None:
    for count in THREADS:
        ol.set_num_threads(count)
        one, other = (made(Opens, cautious=cautious) for _ in range(2))
        plain = made(lambda params: ol.SGD(params, lr=0.1, momentum=0.9))
        for step in range(4):                    # some begin later
            gradients = [g if step >= k % 3 else None for k, g in enumerate(grads(seed=step))]
            both(one, other, gradients)
            if step == 0 and not cautious:
                give(plain, gradients).step()
                assert_same(one, plain)


class OpensAlone(OfGroup):
    """A group's numbers, but in a parameter's first step its own."""

    def first_rule(self, group: Group) -> str | None:
        return "probe_tensor"


def test_a_group_is_measured_once_whatever_first_steps_stand_between() -> None:
    groups = [[(5, np.float32, True), (6, np.float32, True), (7, np.float64, True)]]
    one, other = (made(OpensAlone, groups) for _ in range(2))
    first, later = grads(groups), grads(groups, 2)
    both(one, other, [first[0], None, first[2]])
    assert totals(one) == [0.0]
    both(one, other, later)
    assert math.isclose(totals(one)[0], sum(float(later[k].astype(np.float64).sum()) for k in (0, 2)),  # type: ignore
                        rel_tol=1e-12)


def test_first_rules_that_do_not_fit_are_refused() -> None:
    class Writes(Opens):
        opening = "asgd"

    class Factors(Opens):
        opening = "probe_tensor"

    refused: list[Any] = [(Writes, {"cautious": True}, ValueError, "`cautious` can't be applied to Writes"),
                          (Factors, {}, TypeError, "the rule 'probe_tensor' has 4 state arrays")]
    for cls, options, error, message in refused:
        optimizer = give(made(cls, **options), grads())
        before = snapshot(optimizer)
        with pytest.raises(error, match=message):
            optimizer.step()
        assert snapshot(optimizer) == before


# Cautious ------------------------------------------------------------------------------------------------------------

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
