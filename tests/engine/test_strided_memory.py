"""Which strided parameters share memory: told exactly, in bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimlite as ol
from optimlite.engine.overlap import first_overlap, overlaps_itself, relation
from optimlite.engine.state import StateMap, check_distinct

as_strided = np.lib.stride_tricks.as_strided


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


@pytest.mark.parametrize("kind", [ol.LBFGS, ol.ConjugateGradient, ol.NewtonCG])
def test_a_closure_method_refuses_an_array_that_was_locked(kind: type[Any]) -> None:
    W = np.arange(1.0, 4.0)
    opt = kind({"W": W}, max_iter=1)
    opt.step(lambda: (W @ W * W[0], [2 * W * W[0]]))
    W.flags.writeable = False
    held = W.copy()
    with pytest.raises(ValueError, match="parameter 'W' must be writeable, and became read-only"):
        opt.step(lambda: (W @ W, [2 * W]))
    assert (held == W).all()


@pytest.mark.parametrize("kind", [ol.Average, ol.ScheduleFreeSGD])
def test_an_average_takes_no_place_that_was_locked(kind: type[Any]) -> None:
    W = np.ones(3)
    owner = kind([W])
    owner.update() if kind is ol.Average else owner.step(grads=[W.copy()])
    W.flags.writeable = False
    held = W.copy()
    with pytest.raises(ValueError, match="must be writeable, and became read-only"), owner.swapped():
        pass
    assert (held == W).all()
