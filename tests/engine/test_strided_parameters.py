"""Parameters of any strides: the bits of contiguous ones, in their own memory, and nothing beside them is touched."""

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
from support.cases import CASES, Case
from support.helpers import PlainMomentum, content

Shape = tuple[int, ...]
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
