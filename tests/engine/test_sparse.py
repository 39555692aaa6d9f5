"""Sparse gradients: the rows they touch get the twin's bits, all others stay, and what doesn't fit is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.bits import assert_same, same_bits
from support.cases import CASES, DENSIFIED, ROWS, Case
from support.helpers import refusals, values
from support.passes import both

# Rows of one element, of none, of many; few rows and many; rows longer than what a thread takes at a time.
TABLES = [(1, 1), (10, 3), (8,), (5, 0), (0, 4), (6, 2, 2), (3000, 33), (4, 20_000), (70_000,)]
ids: Any = {"ids": lambda case: case.id}


def sparse(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, count: int | None = None) -> ol.SparseGrad:
    """Rows in any order, some of them repeated."""
    count = int(rng.integers(0, 2 * shape[0] + 1)) if count is None else count
    indices = rng.integers(0, shape[0], count if shape[0] else 0)
    return ol.SparseGrad(indices, rng.standard_normal((len(indices), *shape[1:])).astype(dtype))


def pair(case: Case, shape: tuple[int, ...] = (10, 3), dtype: Any = np.float32) -> tuple[ol.Optimizer, ol.Optimizer]:
    table = np.random.default_rng(7).standard_normal(shape).astype(dtype)
    return case.optimizer({"W": table.copy()}, **case.options), case.optimizer({"W": table.copy()}, **case.options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [*ROWS, *DENSIFIED], **ids)
def test_bits_equal_the_twin(case: Case, level: str, dtype: Any, threads: None) -> None:
    """All tables in one optimizer, repeated and unsorted rows, gradients that come and go, every number of threads."""
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal(shape).astype(dtype) for shape in TABLES]
    gradients = [[None if (step + k) % 4 == 3 else sparse(rng, shape, dtype) for k, shape in enumerate(TABLES)]
                 for step in range(4)]
    optimizers = {count: case.optimizer([table.copy() for table in tables], **case.options) for count in (0, 1, 2, 5)}
    for step in gradients:
        kept = [(g.indices.copy(), g.values.copy()) for g in step if g]
        for count, optimizer in optimizers.items():
            for p, g in zip(optimizer._parameters(), step, strict=True):
                p.grad = g
            if count:
                ol.set_num_threads(count)
                optimizer.step()
                assert_same(optimizer, optimizers[0])
            else:
                reference.step(optimizer)
        for g, (indices, given) in zip([g for g in step if g], kept, strict=True):
            assert same_bits(g.indices, indices)
            assert same_bits(g.values, given)


@pytest.mark.parametrize("indices", [[], [3], [0, 1, 2], [9, 0], [4, 4], [4, 4, 4, 2, 2, 7], [7, 4, 2, 4, 7, 4, 0]])
@pytest.mark.parametrize("case", ROWS, **ids)
def test_only_the_rows_named_change(case: Case, indices: list[int]) -> None:
    one, other = pair(case)
    given = np.arange(3 * len(indices), dtype=np.float32).reshape(-1, 3) + 1
    before = one._parameters()[0].data.copy()
    both(one, other, [ol.SparseGrad(indices, given)])
    moved = (one._parameters()[0].data != before).any(axis=1)
    assert np.flatnonzero(moved).tolist() == sorted(set(indices))
    if "exp_avg" in one.state["W"]:
        assert np.flatnonzero(one.state["W"]["exp_avg"].any(axis=1)).tolist() == sorted(set(indices))
        assert one.state["W"]["step"] == 1                       # an empty gradient counts too


@pytest.mark.parametrize("case", [*ROWS[2:], *DENSIFIED], **ids)
def test_sparse_and_dense_agree(case: Case) -> None:
    """SGD and Adagrad do with a sparse gradient what they do with the same gradient written out."""
    one, other = pair(case, (50, 7))
    rng = np.random.default_rng(1)
    for _ in range(5):
        g = sparse(rng, (50, 7), np.float32)
        one.step(grads={"W": g})
        other.step(grads={"W": g.to_dense(50)})
        assert np.array_equal(one._parameters()[0].data, other._parameters()[0].data)


def test_repeated_rows_add_up_in_the_order_in_which_they_come() -> None:
    """In float32, 1 + 2^-24 + 2^-24 is 1 from the left and more from the right."""
    small = 2.0 ** -24
    table = np.zeros((3, 1), np.float32)
    for given, total in (([1, small, small], 1.0), ([small, small, 1], 1 + 2 * small)):
        table[:] = 0
        ol.SGD([table], lr=1).step(grads=[ol.SparseGrad([2, 2, 2], np.array(given, np.float32)[:, None])])
        assert table.tolist() == [[0], [0], [-total]]


@pytest.mark.parametrize("case", [ROWS[2], ROWS[4], DENSIFIED[0]], **ids)
def test_sparse_dense_and_none_by_turns(case: Case) -> None:
    rng = np.random.default_rng(2)
    one, other = pair(case)
    for kind in "sdnsddssnd":
        dense = rng.standard_normal((10, 3)).astype(np.float32)
        if kind != "n":
            both(one, other, [sparse(rng, (10, 3), np.float32) if kind == "s" else dense])
        one.zero_grad()
        other.zero_grad()


@pytest.mark.parametrize("case", ROWS, **ids)
def test_values_are_read_when_the_step_comes(case: Case) -> None:
    """Strided, reversed, misaligned, changed in place since, or lying in the table itself: values count as values."""
    base = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)
    shifted = np.frombuffer(b"x" + base.tobytes(), np.float32, offset=1).reshape(4, 3)
    for form in (np.asfortranarray(base), base[::-1], base[:, ::-1], shifted, np.broadcast_to(base[0], (4, 3))):
        both(*pair(case), [ol.SparseGrad([1, 5, 1, 0], form)])
    one, other = pair(case)
    g = ol.SparseGrad([1, 5, 1, 0], base)
    for scale in (1, 2, 3):
        base *= scale
        both(one, other, [g])
    one, other = pair(case)
    table = one._parameters()[0].data
    one.step(grads=[ol.SparseGrad([0, 1], table[1:3])])
    other.step(grads=[ol.SparseGrad([0, 1], other._parameters()[0].data[1:3].copy())])
    assert_same(one, other)


def test_ways_in_and_zero_grad() -> None:
    table, bias = np.ones((4, 2), np.float32), np.ones(2, np.float32)
    optimizer = ol.SGD({"net": {"W": table, "b": bias}}, lr=1)
    g = ol.SparseGrad(np.array([1], np.uint8), np.ones((1, 2), np.float32))
    optimizer.step(grads={"net": {"W": g, "b": bias * 0 + 1}})
    optimizer.step(grads={"net.W": g, "net.b": None})
    optimizer.step(lambda: (0.0, {"net": {"W": g, "b": None}}))
    assert table.tolist() == [[1, 1], [-2, -2], [1, 1], [1, 1]]
    assert bias.tolist() == [0, 0]
    p = optimizer.param_groups[0]["params"][0]
    p.grad = g
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.indices.shape == (0,)
    assert p.grad.values.shape == (0, 2)
    assert g.values.tolist() == [[1, 1]]
    optimizer.step()
    assert table[1].tolist() == [-2, -2]
    optimizer.zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("case", [*ROWS, *DENSIFIED], **ids)
def test_resume_is_exact(case: Case) -> None:
    rng = np.random.default_rng(4)
    stream = [sparse(rng, (10, 3), np.float32) for _ in range(8)]
    straight, halves = pair(case)
    for g in stream:
        straight.step(grads=[g])
    for g in stream[:4]:
        halves.step(grads=[g])
    resumed = pair(case)[0]
    resumed._parameters()[0].data = halves._parameters()[0].data
    resumed.load_state_dict(halves.state_dict())
    for continued in (resumed, pickle.loads(pickle.dumps(halves)), copy.deepcopy(halves)):
        for g in stream[4:]:
            continued.step(grads=[g])
        assert values(continued) == values(straight)


@pytest.mark.parametrize(("name", "changed"), [("lr", 0.05), ("betas", (0.8, 0.999)), ("betas", (0.9, 0.9)),
                                               ("eps", 1e-2), ("maximize", True)])
def test_every_hyper_parameter_of_sparse_adam_matters(name: str, changed: Any) -> None:
    plain, other = (ol.SparseAdam([np.ones((3, 2))], **options) for options in ({}, {name: changed}))
    for k in range(3):
        for optimizer in (plain, other):
            optimizer.step(grads=[ol.SparseGrad([1, k], np.full((2, 2), k + 1.0))])
    assert (plain._parameters()[0].data != other._parameters()[0].data).any()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see which pages were written")
def test_no_pass_over_the_table() -> None:
    """A table of 2 GB of which nobody has touched a page stays untouched but for the rows of the gradient."""
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    table = np.zeros((8_000_000, 64), np.float32)
    optimizer = ol.SGD([table], lr=1)
    g = ol.SparseGrad(np.arange(0, 8_000_000, 1_000_000), np.ones((8, 64), np.float32))
    before = resident()
    optimizer.step(grads=[g])
    assert resident() - before < 64 << 20        # at most eight huge pages, and what a step itself needs
    assert table[1_000_000, 5] == -1


def test_nan_stays_in_its_row() -> None:
    for case in ROWS:
        one, other = pair(case)
        both(one, other, [ol.SparseGrad([2, 5], np.array([[np.nan] * 3, [1] * 3], np.float32))])
        assert np.flatnonzero(np.isnan(one._parameters()[0].data).any(axis=1)).tolist() == [2]


# What a step does with gradients besides using them ------------------------------------------------------------------

HANDLED = [{"grad_scale": 0.25}, {"max_grad_norm": 0.5}, {"max_grad_value": 0.3},
           {"grad_scale": 0.5, "zero_grad": True},
           {"max_grad_norm": 2.0, "max_grad_value": 0.2, "grad_scale": 3.0, "skip_nonfinite": True, "zero_grad": True}]


@pytest.mark.parametrize("options", HANDLED, ids=str)
@pytest.mark.parametrize("case", [*ROWS, DENSIFIED[0]], **ids)
def test_gradients_within_the_step(case: Case, options: dict[str, Any], level: str) -> None:
    """Norms and bounds are those of the summed rows; zeroing leaves the caller's values and an empty gradient."""
    rng = np.random.default_rng(5)
    tables = [rng.standard_normal(shape) for shape in ((300, 70), (10, 3))]
    one, other = (case.optimizer([table.astype(np.float32) for table in tables], **case.options) for _ in range(2))
    for _ in range(3):
        given = [sparse(rng, table.shape, np.float32) for table in tables]
        kept = [g.values.copy() for g in given]
        for optimizer in (one, other):
            for p, g in zip(optimizer._parameters(), given, strict=True):
                p.grad = g
        one.step(**options)
        reference.step(other, **options)
        assert_same(one, other)
        assert one.last_grad_norm == other.last_grad_norm
        assert all(same_bits(g.values, before) for g, before in zip(given, kept, strict=True))
        if options.get("zero_grad"):
            assert [len(p.grad.indices) for p in one._parameters()] == [0, 0]


def test_a_spoilt_row_skips_the_step() -> None:
    optimizer = ol.SparseAdam([np.ones((4, 2))])
    optimizer.step(grads=[ol.SparseGrad([1], np.array([[1.0, np.nan]]))], skip_nonfinite=True)
    assert optimizer.skipped_steps == 1
    assert (optimizer._parameters()[0].data == 1).all()
    assert not len(optimizer.state)


def test_accumulated_gradients_put_their_rows_together() -> None:
    p = ol.Parameter(np.zeros((4, 2)), "W")
    first, second = ol.SparseGrad([1, 3], np.ones((2, 2))), ol.SparseGrad([3], np.full((1, 2), 5.0))
    p.accumulate_grad(first)
    p.accumulate_grad(second)
    assert p.grad.to_dense(4)[:, 0].tolist() == [0, 1, 0, 6]
    assert first.values.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(TypeError, match=r"'W' is sparse and was to be added to one that isn't; use gradient.to_dense"):
        p.accumulate_grad(np.ones((4, 2)))
    p.grad = np.ones((4, 2))
    with pytest.raises(TypeError, match="'W' is sparse and was to be added to one that isn't"):
        p.accumulate_grad(first)
    assert (p.grad == 1).all()


@pytest.mark.parametrize("act", [lambda p: ol.clip_grad_norm_(p, 1.0), lambda p: ol.clip_grad_value_(p, 1.0),
                                 lambda p: ol.clip_grads_with_norm_(p, 1.0, 2.0)])
def test_clipping_in_place_refuses_sparse_gradients(act: Callable[[Any], Any]) -> None:
    p, q = ol.Parameter(np.zeros((4, 2))), ol.Parameter(np.zeros((4, 2)))
    p.grad, q.grad = np.ones((2, 4)).T, ol.SparseGrad([1], np.full((1, 2), 5.0))
    with pytest.raises(TypeError, match=r"sparse gradient can't be clipped in place; use step\(max_grad_norm=...\)"):
        act([p, q])
    assert (p.grad == 1).all()
    assert (q.grad.values == 5).all()


# Refusals ------------------------------------------------------------------------------------------------------------

ONES = np.ones((2, 3), np.float32)
test_what_is_no_sparse_gradient_is_refused = refusals({
    "float indices": (lambda: ol.SparseGrad([0.0, 1.0], ONES), "`indices` .* must be integers, got float64"),
    "bool indices": (lambda: ol.SparseGrad([True, False], ONES), "`indices` .* must be integers, got bool"),
    "two axes": (lambda: ol.SparseGrad([[0], [1]], ONES), r"`indices` .* one dimension, got shape \(2, 1\)"),
    "negative": (lambda: ol.SparseGrad([0, -1], ONES), "`indices` .* must be >= 0, got -1"),
    "beyond int64": (lambda: ol.SparseGrad(np.array([0, 2**63], np.uint64), ONES), "must fit int64"),
    "too few": (lambda: ol.SparseGrad([0], ONES), r"row for each of the 1 indices, got shape \(2, 3\)"),
    "scalar": (lambda: ol.SparseGrad([0], np.float32(1)), "`values` .* float32 or float64 array, got float32"),
    "list": (lambda: ol.SparseGrad([0], [[1.0]]), "`values` .* must be a float32 or float64 array, got list"),
    "byte-swapped": (lambda: ol.SparseGrad([0, 1], ONES.astype(">f4")), "float32 or float64 array, got >f4"),
    "int values": (lambda: ol.SparseGrad([0], np.ones((1, 3), int)), "float32 or float64 array, got int64"),
})
FITTING: dict[str, tuple[ol.SparseGrad, str]] = {
    "dtype": (ol.SparseGrad([0, 1], ONES.astype(np.float64)), r"'W' is float64 .* use values.astype\(np.float32\)"),
    "width": (ol.SparseGrad([0, 1], ONES[:, :2]), r"'W' has rows of shape \(2,\) .* \(len\(indices\), 3\)"),
    "axes": (ol.SparseGrad([0, 1], ONES[:, 0].copy()), r"'W' has rows of shape \(\)"),
    "range": (ol.SparseGrad([0, 10], ONES), "'W' has index 10 but the parameter has 10 rows"),
}


@pytest.mark.parametrize("kind", FITTING)
def test_what_does_not_fit_is_refused_when_assigned(kind: str) -> None:
    gradient, message = FITTING[kind]
    p = ol.Parameter(np.ones((10, 3), np.float32), "W")
    with pytest.raises((TypeError, ValueError), match=message):
        p.grad = gradient
    assert p.grad is None
    with pytest.raises((TypeError, ValueError), match=message):
        ol.SparseAdam([p]).step(grads=[gradient])
    assert (p.data == 1).all()


def test_parameters_without_contiguous_rows_are_refused() -> None:
    p = ol.Parameter(np.ones((10, 3), np.float32, order="F"), "W")
    with pytest.raises(ValueError, match=r"'W' must have C-contiguous rows .*got strides \(4, 40\); use np.asc"):
        p.grad = ol.SparseGrad([0, 1], ONES)
    p = ol.Parameter(np.ones((), np.float32), "t")
    with pytest.raises(ValueError, match="'t' has rows of shape"):
        p.grad = ol.SparseGrad([0, 1], ONES)


OTHERS = [case for case in CASES if case.optimizer not in (ol.SGD, ol.Adagrad)]


@pytest.mark.parametrize("case", OTHERS, **ids)
def test_optimizers_of_dense_gradients_refuse_sparse_ones(case: Case) -> None:
    built = case.optimizer({"V": np.ones((2, 2)), "W": np.ones((10, 3), np.float32)}, **case.options)
    for _ in range(2):
        with pytest.raises(TypeError, match=rf"{case.optimizer.__name__} takes no sparse gradients; use Sparse"):
            built.step(grads={"V": np.ones((2, 2)), "W": ol.SparseGrad([0, 1], ONES)})
    assert all((p.data == 1).all() for p in built._parameters())
    assert not len(built.state)


@pytest.mark.parametrize("optimizer", [ol.SGD, ol.Adagrad])
def test_weight_decay_and_sparse_gradients_exclude_each_other(optimizer: Any) -> None:
    built = optimizer({"V": np.ones((2, 2)), "W": np.ones((10, 3), np.float32)}, weight_decay=0.1)
    with pytest.raises(ValueError, match=r"`weight_decay` must be 0 for sparse gradients, got 0\.1"):
        built.step(grads={"V": np.ones((2, 2)), "W": ol.SparseGrad([0, 1], ONES)})
    assert all((p.data == 1).all() for p in built._parameters())
    assert not len(built.state)


def test_sparse_adam_refuses_dense_gradients() -> None:
    built = ol.SparseAdam({"V": np.ones((10, 3), np.float32), "W": np.ones((2, 2))})
    with pytest.raises(TypeError, match="'W' must be a SparseGrad for SparseAdam, got an array; use Adam"):
        built.step(grads={"V": ol.SparseGrad([0, 1], ONES), "W": np.ones((2, 2))})
    assert all((p.data == 1).all() for p in built._parameters())
    assert not len(built.state)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("lr", 0, "`lr` must be > 0, got 0"), ("lr", float("nan"), "`lr` must be finite, got nan"),
    ("eps", 0.0, "`eps` must be > 0, got 0.0"), ("betas", (1, 0.9), r"`betas\[0\]` must be >= 0 and < 1, got 1"),
    ("maximize", 1, "`maximize` must be True or False"), ("weight_decay", 0.1, "no argument `weight_decay`"),
    ("fused", True, "kernels are always fused")])
def test_sparse_adam_refuses_bad_hyper_parameters(name: str, value: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.SparseAdam([np.ones((2, 2))], **{name: value})


def test_indices_altered_behind_the_back_are_noticed() -> None:
    """The indices of a gradient are read-only; who forces them gets an error, and no write beyond the table."""
    built = ol.SGD({"W": np.ones((10, 3), np.float32)})
    g = ol.SparseGrad([0, 1], ONES)
    built._parameters()[0].grad = g
    with pytest.raises(ValueError, match="read-only"):
        g.indices[0] = 3
    g.indices.flags.writeable = True
    for bad in (10, -1, 2**40):
        g.indices[0] = bad
        with pytest.raises(ValueError, match=f"has index {bad}, but the table has 10 rows"):
            built.step()
    g.indices[0] = 9
    built.step()
    assert (built._parameters()[0].data[9] < 1).all()


def test_repr_and_pickle() -> None:
    g = ol.SparseGrad([3, 1], ONES)
    assert repr(g).startswith("SparseGrad(indices=array([3, 1]), values=array([[1.,")
    p = pickle.loads(pickle.dumps(ol.Parameter(np.ones((4, 3), np.float32))))
    p.grad = pickle.loads(pickle.dumps(g))
    assert pickle.loads(pickle.dumps(p)).grad.indices.tolist() == [3, 1]
    assert g.to_dense(4).sum(axis=1).tolist() == [0, 3, 0, 3]
