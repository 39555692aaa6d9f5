"""Parameters of any strides: the bits of contiguous ones, in their own memory, and nothing beside them is touched."""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimlite as ol
from optimlite import reference
from optimlite.engine.overlap import first_overlap, overlaps_itself, relation
from optimlite.engine.state import StateMap, check_distinct
from support.bits import assert_same, same_bits
from support.bowl import Bowl
from support.cases import CASES, Case
from support.helpers import PlainMomentum, content
from support.interrupts import everywhere

Shape = tuple[int, ...]
as_strided = np.lib.stride_tricks.as_strided
ids: Any = {"ids": lambda case: case.id}


def spread(shape: Shape, before: int, step: int, behind: int) -> tuple[Shape, tuple[slice, ...]]:
    """A larger shape, and where the elements stand in it."""
    return (tuple(before + n * step + behind for n in shape),
            tuple(slice(before, before + n * step, step) for n in shape))


def within(values: np.ndarray, order: tuple[int, ...], before: int, step: int, behind: int, back: bool) -> Any:
    """A view that holds the values, and the memory that it is of, which holds others beside them."""
    shape, where = spread(tuple(values.shape[k] for k in order), before, step, behind)
    memory = np.full(shape, 7, values.dtype)
    view = memory[(*where, ...)].transpose(np.argsort(order))
    if back:
        view = view[(*[slice(None, None, -1)] * view.ndim, ...)]
    view[...] = values
    return view, memory


def views(values: np.ndarray) -> dict[str, Any]:
    axes = tuple(range(values.ndim))
    found = {
        "columns": within(values, axes, 0, 1, 3, False),
        "middle": within(values, axes, 2, 1, 1, False),
        "every other": within(values, axes, 0, 2, 0, False),
        "reversed": within(values, axes, 0, 1, 0, True),
        "reversed thirds": within(values, axes, 1, 3, 1, True),
        "transposed": within(values, axes[::-1], 1, 1, 1, False),
    }
    if values.ndim > 2:
        found["inner axes"] = within(values, (0, *axes[:0:-1]), 0, 1, 0, False)
    return {name: (view, memory) for name, (view, memory) in found.items() if not view.flags.forc or not view.size}


def beside(view: np.ndarray, memory: np.ndarray) -> bytes:
    """What stands in the memory and is none of the view's."""
    kept = memory.copy(order="K")
    np.ndarray(view.shape, view.dtype, kept, view.ctypes.data - memory.ctypes.data, view.strides)[...] = 0
    return kept.tobytes()


SHAPES: list[Shape] = [(5,), (33, 7), (130, 300), (2, 17, 1030), (4, 3, 2), (3, 0), (1, 1)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, **ids)
def test_bits_equal_the_contiguous_and_the_twin(case: Case, dtype: type, threads: None) -> None:
    rng = np.random.default_rng(0)
    for shape in [case.fit(shape) for shape in SHAPES if len(shape) >= case.axes]:
        values = rng.standard_normal(shape).astype(dtype)
        grads = [rng.standard_normal(shape).astype(dtype) for _ in range(3)]
        plain = case.optimizer([values.copy()], **case.options)
        twin = case.optimizer([next(iter(views(values).values()), (values.copy(), None))[0]], **case.options)
        for g in grads:
            plain.step(grads=[g])
            twin._parameters()[0].grad = g
            reference.step(twin)
        assert_same(plain, twin)
        for count, (name, (view, memory)) in enumerate(views(values).items()):
            ol.set_num_threads(1 + count % 3)
            untouched = beside(view, memory)
            strided = case.optimizer([view], **case.options)
            for g in grads:
                strided.step(grads=[g if count % 2 else views(g)[name][0]])      # gradients of the same strides, too
            assert_same(strided, plain)
            assert strided._parameters()[0].data is view
            assert beside(view, memory) == untouched
            assert all(array.flags.c_contiguous for array in strided.state["0"].values())


def test_views_without_axes() -> None:
    memory = np.arange(4.0)
    opt = ol.Adam({"t": memory[2, ...], "v": memory[:1]})
    opt.step(grads={"t": 1.0, "v": np.ones(1)})
    assert memory[[1, 3]].tolist() == [1, 3]
    assert memory[0] == pytest.approx(-1e-3)
    assert memory[2] == pytest.approx(2 - 1e-3)


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.1}, {"max_grad_value": 0.2, "zero_grad": True},
                                     {"grad_scale": 0.5, "max_grad_norm": 1.0, "skip_nonfinite": True}], ids=str)
def test_what_a_step_does_with_gradients(options: dict[str, Any]) -> None:
    """Of several views of one table, and a contiguous parameter among them."""
    rng = np.random.default_rng(1)
    table, plain = rng.standard_normal((40, 9)), rng.standard_normal((3, 2))
    strided = ol.AdamW({"a": table[:, :3], "c": plain.copy(), "b": table[:, 3:]})
    other = ol.AdamW({"a": table[:, :3].copy(), "c": plain.copy(), "b": table[:, 3:].copy()})
    for step in range(4):
        for opt in (strided, other):
            rng = np.random.default_rng(step)
            opt.step(grads={"a": rng.standard_normal((40, 3)), "c": np.full((3, 2), np.inf if step == 3 else 1.0),
                            "b": rng.standard_normal((40, 6)) if step % 2 else None},
                     **options)
        assert strided.last_grad_norm == other.last_grad_norm
        assert_same(strided, other)
    assert strided.skipped_steps == other.skipped_steps


def test_gradients_that_lie_between_a_parameters_elements() -> None:
    memory = np.ones((4, 6))
    W, b = ol.Parameter(memory[:, :3], "W"), ol.Parameter(np.ones(3), "b")
    opt = ol.SGD([W, b], lr=0.5)
    W.grad, b.grad = memory[:, 3:], memory[1, 3:]            # the very table's; the second is contiguous
    opt.step()
    assert (memory[:, :3] == 0.5).all()
    assert (b.data == 0.5).all()
    b.grad = None
    assert ol.clip_grad_norm_([W], 1.0) == pytest.approx(12**0.5)
    np.testing.assert_allclose(memory[:, 3:], 12**-0.5, rtol=1e-6)
    b.grad = memory[1, 3:]
    with pytest.raises(ValueError, match="shares part of its memory with another one"):
        ol.clip_grad_value_([W, b], 1.0)
    opt.zero_grad(set_to_none=False)
    assert (memory[:, 3:] == 0).all()
    assert (memory[:, :3] == 0.5).all()
    W.grad = memory[:, :3]
    with pytest.raises(ValueError, match="shares memory with a parameter or state and can't be zeroed"):
        opt.zero_grad(set_to_none=False)
    opt.zero_grad()
    assert W.grad is None


@pytest.mark.parametrize("form", ["columns", "transposed", "reversed"])
def test_gradients_accumulate(form: str) -> None:
    values = np.random.default_rng(0).standard_normal((4, 3))
    view, memory = views(values)[form]
    W, untouched = ol.Parameter(view), beside(view, memory)
    parts = [values, views(2 * values)[form][0], np.asfortranarray(values)]
    for part in parts:
        W.accumulate_grad(part)
    assert same_bits(np.ascontiguousarray(W.grad), values + 2 * values + values)
    assert W.grad.flags.c_contiguous
    assert beside(view, memory) == untouched
    assert same_bits(view.copy(), values)


@pytest.mark.parametrize("build", [lambda p: ol.SGD(p, lr=0.1), ol.Adagrad, ol.SparseAdam],
                         ids=["SGD", "Adagrad", "SparseAdam"])
def test_sparse_gradients_of_rows_that_lie_apart(build: Callable[[Any], ol.Optimizer]) -> None:
    values = np.random.default_rng(2).standard_normal((50, 4)).astype(np.float32)
    for name in ("columns", "rows", "back", "column"):
        kept = values[:, 0].copy() if name == "column" else values
        memory = np.full((100, 6), 7, np.float32)
        view = {"columns": memory[:50, 1:5], "rows": memory[::2, :4], "back": memory[50::-1, 2:][:50],
                "column": memory[::2, 3]}[name]
        view[...] = kept
        untouched = beside(view, memory)
        plain, strided = build([kept.copy()]), build([view])
        for step in range(3):
            rows = np.array([3, 49, 3, 0, step])
            gradient = ol.SparseGrad(rows, np.random.default_rng(step).standard_normal(
                (5, *kept.shape[1:])).astype(np.float32))
            for opt in (plain, strided):
                opt.step(grads=[gradient], max_grad_norm=1.0)
            if build is not ol.SparseAdam:                   # dense ones by turns
                for opt in (plain, strided):
                    opt.step(grads=[np.ones_like(kept)])
        assert_same(strided, plain)
        assert beside(view, memory) == untouched


def test_sparse_gradients_of_rows_that_are_strided_are_refused() -> None:
    W = ol.Parameter(np.ones((3, 8), np.float32)[:, ::2], "W")
    with pytest.raises(ValueError, match=r"'W' must have C-contiguous rows .*let the model use that array, or gradient"
                                         r".to_dense\(3\)"):
        W.grad = ol.SparseGrad([0], np.ones((1, 4), np.float32))


def test_a_users_own_optimizer() -> None:
    memory = np.ones((3, 4))
    opt, plain = PlainMomentum([memory[:, 1:3]]), PlainMomentum([np.ones((3, 2))])
    for _ in range(3):
        for one in (opt, plain):
            one.step(grads=[np.full((3, 2), 0.3)])
    assert_same(opt, plain)
    opt.load_state_dict(opt.state_dict())
    assert_same(opt, plain)


# Files and copies ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("case", CASES[1::4], **ids)
def test_checkpoints_know_nothing_of_strides(case: Case, tmp_path: Path) -> None:
    values = np.random.default_rng(3).standard_normal((20, 6)).astype(np.float32)
    grads = [np.random.default_rng(step).standard_normal((20, 6)).astype(np.float32) for step in range(4)]

    def built(name: str | None) -> tuple[np.ndarray, ol.Optimizer]:
        view = values.copy() if name is None else views(values)[name][0]
        return view, case.optimizer({"W": view}, **case.options)

    def train(opt: ol.Optimizer, part: slice) -> None:
        for g in grads[part]:
            opt.step(grads={"W": g})

    _, whole = built(None)
    train(whole, slice(None))
    for before, behind in [("columns", None), (None, "columns"), ("reversed", "transposed"), ("transposed", "middle")]:
        W, opt = built(before)
        train(opt, slice(2))
        ol.save(tmp_path / "run.safetensors", model={"W": W}, optimizer=opt)
        U, fresh = built(behind)
        U[...] = 0
        ol.restore(tmp_path / "run.safetensors", model={"W": U}, optimizer=fresh)
        train(fresh, slice(2, None))
        assert_same(fresh, whole)
        other = built(behind)[1]
        other._parameters()[0].data[...] = W
        other.load_state_dict(opt.state_dict())
        train(other, slice(2, None))
        assert_same(other, whole)
        for copied in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
            train(copied, slice(2, None))
            if case.elementwise or not copied._parameters()[0].data.flags.fnc:       # whose sums have another order
                assert_same(copied, whole)


# Closures ------------------------------------------------------------------------------------------------------------

CLOSURES = {
    "L-BFGS": lambda p, **more: ol.LBFGS(p, line_search_fn="strong_wolfe", max_iter=12, **more),
    "fixed": lambda p, **more: ol.LBFGS(p, lr=0.1, max_iter=12, **more),
    "bounds": lambda p, **more: ol.LBFGS(p, line_search_fn="hager_zhang", bounds=(-0.9, 0.4), max_iter=12, **more),
    "CG": lambda p, **more: ol.ConjugateGradient(p, max_iter=12, **more),
}


@pytest.mark.parametrize("name", CLOSURES)
def test_closure_methods_have_the_bits_of_contiguous_arrays(name: str) -> None:
    rng = np.random.default_rng(5)
    first, second, scale = rng.standard_normal((6, 5)), rng.standard_normal(7), rng.uniform(1, 9, (6, 5))

    def run(a: np.ndarray, b: np.ndarray) -> Any:
        seen = []

        def closure() -> tuple[float, list[np.ndarray]]:
            seen.append((content(a.copy()), content(b.copy())))
            return (float((scale * a**2).sum() + (a[0] * b[:5]).sum() + (b**4).sum()),
                    [2 * scale * a + np.pad(b[None, :5], ((0, 5), (0, 0))), 4 * b**3 + np.pad(a[0], (0, 2))])

        opt = CLOSURES[name]({"a": a, "b": b})
        opt.step(closure)
        kept = opt.state_dict()
        opt.step(closure)
        opt.load_state_dict(kept)
        opt.step(closure)
        return seen, opt.result, {key: content(array) for key, array in opt.state["a"].items()}, opt

    seen, result, state, _ = run(first.copy(), second.copy())
    assert len(seen) > 12
    for form in ("columns", "reversed thirds", "transposed"):
        (a, memory), b = views(first)[form], views(second)["every other"][0]
        untouched = beside(a, memory)
        others, other_result, other_state, opt = run(a, b)
        assert others == seen
        assert repr(other_result) == repr(result)
        assert other_state == state
        assert beside(a, memory) == untouched
        assert all(array.flags.c_contiguous for array in opt.state["a"].values())


def test_minimize_starts_anywhere() -> None:
    values = np.random.default_rng(0).standard_normal((3, 4, 2))

    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(((x - 1)**2 * np.arange(1, 3)).sum()), 2 * (x - 1) * np.arange(1, 3)

    plain = ol.minimize(f, values)
    for view, memory in views(values).values():
        before = memory.copy()
        found = ol.minimize(f, view)
        assert found.nit == plain.nit
        np.testing.assert_allclose(found.x, 1, atol=1e-4)
        assert (memory == before).all()


# Averages ------------------------------------------------------------------------------------------------------------

AVERAGES: dict[str, dict[str, Any]] = {
    "mean": {}, "moving": {"decay": 0.5, "bias_correction": True},
    "own": {"function": lambda a, p, n: a + (p - a) / (n + 1)}}


@pytest.mark.parametrize("form", ["columns", "reversed", "transposed"])
@pytest.mark.parametrize("kind", AVERAGES)
def test_averages(kind: str, form: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((5, 4))
    plain, (view, memory) = values.copy(), views(values)[form]
    averages = [ol.Average({"W": array}, **AVERAGES[kind]) for array in (plain, view)]
    for _ in range(3):
        for array, average in zip((plain, view), averages, strict=True):
            array -= 0.25 * array**2
            average.update()
    assert content(averages[0].averages[0]) == content(averages[1].averages[0])
    own, untouched, path = content(view.copy()), beside(view, memory), tmp_path / "a.safetensors"
    part = ol.Average([view[:2]])
    part.update()
    with averages[1].swapped():
        assert content(view.copy()) == content(averages[0].averages[0])
        ol.save(path, model={"W": view, "all": memory, "row": view[1:]}, average=averages[1])
        with pytest.raises(RuntimeError, match="swapped in already"), part.swapped():
            pass                                             # pragma: no cover
    assert content(view.copy()) == own
    assert beside(view, memory) == untouched
    saved = ol.load(path)
    assert content(saved["model"]["W"]) == own
    assert content(saved["model"]["all"]) == content(memory)
    assert content(saved["model"]["row"]) == content(view[1:].copy())
    whole = memory.copy()
    view[...] = 0
    with averages[1].swapped():
        ol.restore(path, model={"W": view[...], "all": memory.copy(), "row": np.zeros_like(saved["model"]["row"])},
                   average=averages[1])
        with pytest.raises(RuntimeError, match="averages are swapped in for a part"):
            ol.restore(path, model={"W": np.zeros((5, 4)), "all": memory, "row": np.zeros((4, 4))},
                       average=averages[1])
    assert content(view.copy()) == own
    assert content(memory) == content(whole)


def test_an_average_of_a_view_leaves_what_interleaves_with_it() -> None:
    table = np.arange(12.0).reshape(3, 4)
    average = ol.Average([table[:, :2]])
    average.update()
    other = ol.Average([table[:, 2:]])
    other.update()
    table[...] = 5
    with average.swapped(), other.swapped():
        assert (table == np.arange(12.0).reshape(3, 4)).all()
    assert (table == 5).all()


# Where memory is shared ----------------------------------------------------------------------------------------------

M = np.zeros((8, 12))
APART: dict[str, list[np.ndarray]] = {
    "halves": [M[:, :3], M[:, 3:]], "columns": [M[:, k] for k in range(12)], "rows by turns": [M[::2], M[1::2]],
    "a chessboard": [M[::2, ::2], M[::2, 1::2], M[1::2, ::2], M[1::2, 1::2]], "back and forth": [M[:, ::-2], M[:, ::2]],
    "a hole": [M[:4, :4], M[:4, 4:], M[4:]], "a row in a gap": [M[::2], M[3]],
    "other types": [M.view(np.float32)[:, 1::2], M.view(np.float32)[:, ::2]],
    "band": [as_strided(M, (7, 2), (13 * 8, 8)), as_strided(M[0, 2:], (7,), (13 * 8,))],
    "real and imaginary": [M.view(complex).real, M.view(complex).imag]}
SHARING: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "columns": (M[:, :3], M[:, 2:]), "one element": (M[0], M[:, 5]), "whole": (M, M[:, 1]), "reversed": (M[::-1], M[3]),
    "grids": (M[::2, ::3], M[::4, 1::2]), "transposed": (M[:, 1:3], M.T[2]),
    "other types": (M[:, 2:4], M.view(np.float32)[:, 5]),
    "diagonal": (as_strided(M, (8,), (13 * 8,)), M[2:3])}


@pytest.mark.parametrize("row", APART)
def test_views_that_interleave_are_taken_side_by_side(row: str) -> None:
    views_ = {f"v{k}": view for k, view in enumerate(APART[row])}
    ol.SGD(views_)
    for order in (views_, dict(reversed(views_.items()))):
        opt = ol.Adam([{"params": {name: view}} for name, view in order.items()])
        opt.step(grads=[{name: np.zeros_like(view)} for name, view in order.items()])


@pytest.mark.parametrize("row", SHARING)
def test_views_that_share_an_element_are_refused(row: str) -> None:
    one, other = SHARING[row]
    apart = np.ones(3)
    for a, b in ((one, other), (other, one)):
        with pytest.raises(ValueError, match=r"parameter '[ab]' and parameter '[ab]' overlap in memory; list it once"):
            ol.SGD({"c": apart, "a": a, "b": b})
        opt = ol.SGD({"a": a, "c": apart})
        with pytest.raises(ValueError, match="parameter 'a' and parameter 'b' overlap in memory, and 'a' is in the"):
            opt.add_param_group({"params": {"b": b}})
        with pytest.raises(ValueError, match="overlap in memory; list it once"):
            ol.Average([a, b])
    state = ol.SGD({"a": one.view(), "c": apart}, momentum=0.9)
    state.step(grads={"a": np.ones_like(one), "c": apart.copy()})
    state.state["c"]["momentum_buffer"] = one.ravel()[:3] if one.flags.forc else np.zeros(3)
    with pytest.raises(ValueError, match="overlap in memory") if one.flags.forc else np.errstate():
        state.step(grads={"a": np.ones_like(one), "c": apart.copy()})


SELF: dict[str, Callable[[], np.ndarray]] = {
    "broadcast": lambda: np.broadcast_to(np.ones(4), (3, 4)), "stride 0": lambda: as_strided(M, (4,), (0,)),
    "windows": lambda: as_strided(M, (5, 4), (8, 8)), "backward": lambda: as_strided(M, (5, 4), (8, 8))[::-1],
    "half an element": lambda: as_strided(M, (5,), (4,)), "entangled": lambda: as_strided(M, (4, 3), (16, 24)),
    "in three axes": lambda: as_strided(M, (3, 3, 3), (5 * 8, 3 * 8, 2 * 8))}


@pytest.mark.parametrize("row", SELF)
def test_arrays_that_overlap_themselves_are_refused(row: str) -> None:
    for array in (SELF[row](), SELF[row]().T):
        with pytest.raises(ValueError, match=r"'W' must have memory of its own for each element, got strides .*; use "
                                             r"a.copy\(\), and let the model use that array"):
            ol.SGD({"W": array})


def test_strides_made_by_hand_that_dont_overlap_are_taken() -> None:
    memory = np.zeros(9)
    W = as_strided(memory, (2, 3), (24, 16))                 # elements 0, 2, 4 and 3, 5, 7
    opt = ol.SGD([W], lr=1.0)
    opt.step(grads=[np.arange(6.0).reshape(2, 3)])
    assert memory.tolist() == [0, 0, -1, -3, -2, -4, 0, -5, 0]


def test_what_cannot_be_told_apart_is_refused_in_bounded_time() -> None:
    """Strides that nobody can see through: sums of subsets."""
    strides = [8 * int(k) for k in np.random.default_rng(0).integers(2**20, 2**21, 24)]
    memory = np.zeros(sum(strides) // 8 + 2)
    one, other = (as_strided(memory[at:], (2,) * 24, strides) for at in (0, 1))
    begun = time.process_time()
    assert relation(one, other) == "interleave in memory in too many ways to tell whether they overlap"
    with pytest.raises(ValueError, match="'W' must have memory of its own for each element"):
        ol.SGD({"W": one})
    with pytest.raises(ValueError, match=r"a and b interleave .* overlap; give one of them an array of its own"):
        check_distinct("ab", [one, other])
    table = np.zeros((2,) * 20)                              # as many axes, but within each other
    ol.SGD({"a": table[..., 0], "b": table[..., 1]})
    assert time.process_time() - begun < 5


lengths = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@given(st.data())
def test_relations_are_exact(data: st.DataObject) -> None:
    """Beside the addresses of all elements, for any strides."""
    memory = np.zeros(400, np.float32)

    def drawn() -> np.ndarray:
        shape = data.draw(lengths)
        strides = [4 * data.draw(st.integers(-20, 20)) for _ in shape]
        return as_strided(memory[200 + data.draw(st.integers(-15, 15)):], shape, strides)

    def addresses(array: np.ndarray) -> list[int]:
        grid = sum(np.arange(n).reshape((-1, *[1] * (array.ndim - k - 1))) * stride
                   for k, (n, stride) in enumerate(zip(array.shape, array.strides, strict=True)))
        return (array.ctypes.data + np.asarray(grid)).ravel().tolist()

    arrays = [drawn() for _ in range(data.draw(st.integers(1, 4)))]
    places = [set(addresses(array)) for array in arrays]
    for array, place in zip(arrays, places, strict=True):
        assert overlaps_itself(array) == (len(place) < array.size)
    shared = {(i, k) for i in range(len(arrays)) for k in range(len(arrays)) if i != k and places[i] & places[k]}
    assert {(i, k) for i in range(len(arrays)) for k in range(len(arrays))
            if i != k and relation(arrays[i], arrays[k])} == shared
    found = first_overlap(arrays)
    assert (found is not None) == bool(shared)
    assert found is None or found[:2] in shared


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(1, 4), st.integers(1, 6), st.booleans()), max_size=12))
def test_parameters_are_found_by_their_memory(rows: list[tuple[int, int, int, bool]]) -> None:
    """StateMap.sharing beside a comparison with each, as views come and go."""
    table = np.zeros((6, 16))
    states, there = StateMap(), list[ol.Parameter]()
    for begin, width, height, leave in rows:
        p = ol.Parameter(table[:height, begin:begin + width])
        expected = {one for one in there if np.shares_memory(one.data, p.data)}
        assert set(states.sharing(p)) == expected
        if not expected:
            states.register(p, "p")
            there.append(p)
        if leave and there:
            states.forget(there.pop(begin % len(there)))


def test_many_views_of_one_table_take_little_time() -> None:
    table = np.ones((20, 400))
    begun = time.process_time()
    opt = ol.SGD([table[:, k] for k in range(400)], lr=0.5)
    opt.step(grads=list(np.ones((400, 20))))
    assert (table == 0.5).all()
    assert time.process_time() - begun < 5


def test_a_view_that_was_locked_is_refused() -> None:
    memory = np.ones((3, 4))
    opt = ol.SGD({"W": memory[:, :2]})
    opt.step(grads={"W": np.ones((3, 2))})
    opt._parameters()[0].data.flags.writeable = False
    with pytest.raises(ValueError, match="'W' must be writeable, and became read-only"):
        opt.step(grads={"W": np.ones((3, 2))})


# Interrupts ----------------------------------------------------------------------------------------------------------

STEPS: dict[str, tuple[Callable[[Any], ol.Optimizer], int]] = {
    "Adam": (ol.Adam, 3), "LAMB": (ol.LAMB, 7), "Adafactor": (ol.Adafactor, 7), "Muon": (ol.Muon, 13)}


@pytest.mark.parametrize("row", STEPS)
def test_an_interrupted_step_is_whole_or_none(row: str) -> None:
    build, every = STEPS[row]

    def begun(steps: int = 1) -> tuple[np.ndarray, ol.Optimizer]:
        table = np.arange(30.0).reshape(5, 6)
        opt = build([table[:, :2], table[:, :1:-1]])
        for _ in range(steps):
            act((table, opt))
        return table, opt

    def act(subject: tuple[np.ndarray, ol.Optimizer]) -> None:
        subject[1].step(grads=[np.ones((5, 2)), np.full((5, 4), 0.5)], max_grad_norm=1.0)

    def all_of(subject: tuple[np.ndarray, ol.Optimizer]) -> Any:
        return content(subject[0]), [{key: content(array) for key, array in state.items()}
                                     for state in subject[1].state.values()]

    states = [all_of(begun(steps)) for steps in (1, 2, 3)]

    def check(subject: tuple[np.ndarray, ol.Optimizer]) -> None:
        left = all_of(subject)
        assert left in states[:2]
        for _ in range(2 - states.index(left)):
            act(subject)
        assert all_of(subject) == states[2]

    assert everywhere(begun, act, check, every) > 10


class StridedBowl(Bowl):
    """The same problem in two views of one array."""

    def __init__(self, cls: Any, options: dict[str, Any]) -> None:
        super().__init__(cls, options)
        table = np.zeros(9)
        self.arrays = {"a": table[1:8:4], "b": table[::2][:4][::-1]}
        self.arrays["a"][...], self.arrays["b"][...] = 2.0, -1.5
        self.optimizer = cls(self.arrays, callback=lambda result: self.accept(), **options)
        self.accepted = []
        self.accept()


@pytest.mark.parametrize(("cls", "options", "every"), [
    (ol.LBFGS, {"line_search_fn": "strong_wolfe", "history_size": 2}, 41), (ol.ConjugateGradient, {}, 89),
    (ol.LBFGS, {"line_search_fn": "hager_zhang", "bounds": (-1.4, 1.7)}, 61)], ids=["L-BFGS", "CG", "bounds"])
def test_an_interrupted_minimizer_is_at_the_last_accepted_point(cls: Any, options: dict[str, Any], every: int) -> None:
    options = {**options, "max_iter": 3}
    plain, whole = Bowl(cls, options), StridedBowl(cls, options)
    plain.step()
    whole.step()
    assert whole.accepted == plain.accepted
    accepted = [*whole.accepted, whole.point()]
    if "bounds" in options:                      # parameters are moved into them first, all at once
        start = StridedBowl(cls, options).arrays.values()
        accepted.append([content(array.clip(*options["bounds"])) for array in start])

    def check(bowl: StridedBowl) -> None:
        assert bowl.point() in accepted
        for _ in range(20):
            bowl.step()

    assert everywhere(lambda: StridedBowl(cls, options), StridedBowl.step, check, every) > 20


def test_an_interrupted_swap_loses_no_value() -> None:
    def build() -> tuple[np.ndarray, ol.Average]:
        table = np.arange(12.0).reshape(3, 4)
        average = ol.Average([table[:, :2], table[:, 3]])
        average.update()
        table *= 2
        average.update()
        return table, average

    def act(subject: tuple[np.ndarray, ol.Average]) -> None:
        with subject[1].swapped():
            assert subject[0][2, 1] == 13.5

    def check(subject: tuple[np.ndarray, ol.Average]) -> None:
        assert content(subject[0]) == content(build()[0])
        act(subject)

    assert everywhere(build, act, check) > 20
