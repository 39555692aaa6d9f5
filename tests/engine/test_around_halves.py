"""What is around an optimizer works on parameters of 16 bits, and on the float32 that they stand for."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi, reference
from optimlite.engine.formats import widened
from optimlite.engine.halves import bits
from optimlite.engine.shadows import rounded
from support.halves import KINDS, LAYOUTS, exact, give, groups_of, made, seen
from support.helpers import parameters
from support.wrappers import same_bits

START = np.random.default_rng(0).standard_normal((30, 45))
BY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def adamw(groups: Any, **options: Any) -> ol.AdamW:
    return ol.AdamW(groups, **{"lr": 0.01, "seed": 7, **options})


# Lookahead -----------------------------------------------------------------------------------------------------------

@BY_LAYOUT
@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_lookahead_has_the_bits_of_its_twin(rounding: str, layout: Any, level: str) -> None:
    one, other = (ol.Lookahead(adamw(groups_of(START, layout), rounding=rounding), k=2, alpha=0.3) for _ in range(2))
    for step in range(5):
        give(one, step).step()
        reference.step(give(other, step).base)
    for p, q in zip(parameters(one), parameters(other), strict=True):
        assert same_bits(p.data, q.data), p.name
        assert all(same_bits(array, other.state[q][key]) for key, array in one.state[p].items()), p.name


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_lookahead_with_a_master_is_that_of_float32(half: str) -> None:
    p = made(START, half)
    w = seen(p)
    one, other = (ol.Lookahead(adamw([each]), k=2) for each in (p, w))
    for step in range(5):
        g = np.random.default_rng(step).standard_normal(w.shape).astype(np.float32)
        one.step(grads=[g])
        other.step(grads=[g])
    assert same_bits(exact(one)[0], w)
    assert same_bits(one.state[p]["slow"], other.state[w]["slow"])


def test_lookahead_loses_no_small_steps() -> None:
    """What a meeting leaves to chance has chance of its own: with that of the step, every element goes one way."""
    p = made(np.ones(20_000), "bfloat16")
    opt = ol.Lookahead(ol.SGD([p], lr=2.0**-13, master="none"), k=4)
    for _ in range(800):
        opt.step(grads=[np.ones(20_000, np.float32)])
    assert abs(seen(p).mean() - (1 - 400 / 2**13)) < 0.001


# Averages ------------------------------------------------------------------------------------------------------------

@BY_LAYOUT
def test_averages_are_float32_of_masters_or_of_what_is_seen(layout: Any) -> None:
    opt = adamw(groups_of(START, layout))
    params = parameters(opt)
    averages = [ol.Average(params, 0.9, optimizer=opt), ol.Average(params, 0.9),
                ol.Average(params, function=lambda a, p, n: a + np.float32(0.1) * (p - a), optimizer=opt)]
    expected: list[list[np.ndarray]] = [[], []]
    for step in range(4):
        give(opt, step).step()
        for average in averages:
            average.update()
        for known, new in zip(expected, (exact(opt), list(map(seen, params))), strict=True):
            known[:] = [a + np.float32(1.0 - 0.9) * (x - a) for a, x in zip(known or new, new, strict=True)]
    for average, wanted in zip(averages[:2], expected, strict=True):
        assert all(map(np.array_equal, average.averages, wanted))
    for a, b in zip(averages[2].averages, expected[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert all(a.dtype == np.float32 for a in averages[0].averages)


@BY_LAYOUT
def test_an_average_is_swapped_in_rounded_and_out_exactly(layout: Any, tmp_path: Path) -> None:
    opt = adamw(groups_of(START, layout))
    params = parameters(opt)
    average = ol.Average(params, 0.5, optimizer=opt)
    for step in range(3):
        give(opt, step).step()
        average.update()
    own, before, state = [p.data.copy() for p in params], [a.copy() for a in average.averages], opt.state_dict()
    masters = opt.state_dict(dtype="float32")
    with average.swapped():
        for p, a in zip(params, before, strict=True):
            assert same_bits(p.data, rounded(a, p.data) if p.half else a)
        inside = opt.state_dict(dtype="float32")
        for p in params:
            p.data[3] = rounded(np.full(45, 7.0), p.data[3]) if p.half else 7.0
        copies = [pickle.loads(pickle.dumps(average)).averages, average.state_dict()["averages"]]
        ol.save(tmp_path / "run", average=average, model=[bits(p.data) if p.half else p.data for p in params])
    for a in before:
        a[3] = 7.0                               # what was written, and nothing else, is taken for the average
    for found in (average.averages, *copies, ol.load(tmp_path / "run")["average"]["averages"]):
        assert all(map(np.array_equal, found, before))
    assert all(map(same_bits, (p.data for p in params), own))
    for saved, array in zip(ol.load(tmp_path / "run")["model"], own, strict=True):
        assert same_bits(np.asarray(saved), np.ascontiguousarray(array))
    for index, entries in state["state"].items():
        assert all(same_bits(array, opt.state_dict()["state"][index][key]) for key, array in entries.items())
        assert all(map(np.array_equal, inside["state"][index].values(), masters["state"][index].values()))


def test_an_average_follows_masters_that_come_and_go() -> None:
    for half in ("bfloat16", "float16"):
        p = made(np.ones(50), half)
        opt = ol.SGD({"W": p}, lr=2.0**-14)
        average = ol.Average([p], 0.0, optimizer=opt)    # of the newest alone
        for change in range(5):
            if change == 2:
                opt.load_state_dict(opt.state_dict())
            elif change == 3:
                p.data[7] = rounded(np.full(1, 3.0), p.data)[0]
            elif change == 4:
                opt.state.clear()
            else:
                opt.step(grads=[np.ones(50, np.float32)])
            average.update()
            np.testing.assert_array_equal(average.averages[0], exact(opt)[0])
        again = average.replace(p, opt.replace("W", p.data[::-1][:9].copy(), rows=range(49, 40, -1)), rows=range(9))
        average.update()
        assert again.half == half
        np.testing.assert_array_equal(average.averages[0], exact(opt)[0])
    with pytest.raises(KeyError, match="`optimizer` must have each parameter of 16 bits, and has no 'V'; give the one"):
        ol.Average({"V": made(START, "float16")}, optimizer=opt)


# SAM and Schedule-Free -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("half", "master"), KINDS)
def test_sam_looks_at_the_rounded_point_and_comes_back(half: str, master: str, adaptive: bool) -> None:
    p = made(START, half)
    opt = ol.SAM(ol.SGD([p], lr=0.1, master=master), rho=2.0, adaptive=adaptive)
    for _ in range(2):
        at, own, points = exact(opt)[0], p.data.copy(), list[np.ndarray]()

        def closure(at: list[np.ndarray] = points) -> Any:
            at.append(p.data.copy())
            return 0.0, [seen(p)]

        g = seen(p)
        opt.step(closure)
        weight = np.abs(at) if adaptive else np.float32(1)
        scale = np.float32(2.0 / (np.sqrt(np.square((weight * g).astype(float)).sum()) + 1e-12))
        point = made(at + scale * weight * weight * g, half)
        assert same_bits(points[0], own)
        assert np.mean(bits(points[1]) == bits(point.data)) > 0.99   # the norm's last bits are the kernel's
        wanted = at - np.float32(0.1) * seen(point)
        np.testing.assert_allclose(exact(opt)[0], wanted, atol=4e-3 if half == "float16" else 0.03)


@pytest.mark.parametrize("kind", [ol.ScheduleFreeAdamW, ol.ScheduleFreeSGD])
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_schedule_free_swaps_in_the_rounded_average(half: str, kind: Any) -> None:
    p = made(START, half)
    w = seen(p)
    one, other = kind([p], lr=0.01), kind([w], lr=0.01)
    for step in range(4):
        g = np.random.default_rng(step).standard_normal(w.shape).astype(np.float32)
        one.step(grads=[g])
        other.step(grads=[g])
    own = p.data.copy()
    assert same_bits(exact(one)[0], w)
    with one.swapped(), other.swapped():
        assert same_bits(p.data, rounded(w, p.data))
        assert same_bits(pickle.loads(pickle.dumps(one)).param_groups[0]["params"][0].data, own)
    assert same_bits(p.data, own)


# Many ranks ----------------------------------------------------------------------------------------------------------

MANY: dict[str, Callable[[Any], Any]] = {
    "AdamW": lambda groups: adamw(groups, state_dtype="int8"), "DoG": ol.DoG, "LAMB": ol.LAMB,
    "Lookahead": lambda groups: ol.Lookahead(ol.SGD(groups, lr=0.01, momentum=0.9), k=2)}
BIG = np.random.default_rng(1).standard_normal((200, 300))           # four blocks, the last of them cut


def in_groups(layout: Any) -> list[dict[str, Any]]:
    shadow = np.empty(START.shape, np.float16, order="F" if layout is np.asfortranarray else "C")
    shadowed = ol.Parameter(layout(START.astype(np.float32)), "shadowed", shadow=shadow)
    return [*groups_of(BIG, layout, [("bfloat16", "float32"), ("float16", "float32"), ("bfloat16", "none")]),
            {"params": [shadowed]}]


def given(params: list[ol.Parameter], rank: int, step: int) -> list[np.ndarray | None]:
    rng = np.random.default_rng((rank, step))
    drawn = [rounded(rng.standard_normal(p.shape), p.data).view(p.data.dtype) if p.half
             else rng.standard_normal(p.shape).astype(np.float32) for p in params]
    return [None if (k + rank + step) % 5 == 0 else g for k, g in enumerate(drawn)]


@BY_LAYOUT
@pytest.mark.parametrize("name", MANY)
def test_ranks_have_the_bits_of_one_process(name: str, layout: Any, tmp_path: Path) -> None:
    ranks, steps = 2, 3
    alone = MANY[name](in_groups(layout))
    params = parameters(alone)
    for step in range(steps):
        gradients = zip(*(given(params, rank, step) for rank in range(ranks)), strict=True)
        for p, parts in zip(params, gradients, strict=True):
            first, second = (0 if g is None else np.asarray(widened(g), np.float32) for g in parts)
            p.grad = None if parts[0] is parts[1] is None else np.asarray(np.float32(0) + first + second)
        alone.step(grad_scale=1 / ranks, max_grad_norm=30.0)

    def train(comm: Any) -> Any:
        opt = mpi.Sharded(MANY[name](in_groups(layout)), comm)
        for step in range(steps):
            for p, g in zip(parameters(opt), given(parameters(opt), comm.rank, step), strict=True):
                p.grad = g
            opt.step(max_grad_norm=30.0)
        mpi.save(tmp_path / "all", optimizer=opt)
        again = mpi.Sharded(MANY[name](in_groups(layout)), comm)
        mpi.restore(tmp_path / "all", optimizer=again)
        assert all(same_bits(array, again.state[part.name][key]) for part in opt.mine.values()
                   for key, array in opt.state[part].items())
        return parameters(opt), mpi.gathered(opt)

    for theirs, state_dict in mpi.simulate(ranks, train):
        whole = MANY[name](in_groups(layout))
        whole.load_state_dict(state_dict)
        for p, q, r in zip(params, theirs, parameters(whole), strict=True):
            assert same_bits(p.data, q.data), p.name
            assert p.shadow is None or same_bits(p.shadow, q.shadow)
            assert all(same_bits(array, whole.state[r][key]) for key, array in alone.state[p].items()), p.name


@BY_LAYOUT
def test_gradients_are_averaged_and_parameters_given_to_all_ranks(layout: Any) -> None:
    def train(comm: Any) -> list[ol.Parameter]:
        params = parameters(ol.SGD(in_groups(layout), lr=1.0))
        for p, g in zip(params, given(params, comm.rank, 0), strict=True):
            p.data = np.full(p.shape, comm.rank + 1, np.float32)
            p.grad = g
        mpi.broadcast(params, comm, root=1)
        mpi.average_gradients(params, comm)
        return params

    one, other = mpi.simulate(2, train)
    for p, q, *parts in zip(one, other, given(one, 0, 0), given(one, 1, 0), strict=True):
        assert same_bits(p.data, q.data)
        assert np.all(seen(p) == 2)
        first, second = (0 if g is None else np.asarray(widened(g), np.float32) for g in parts)
        if p.grad is not None:
            np.testing.assert_array_equal(p.grad, (first + second) / 2)


# Clipping ------------------------------------------------------------------------------------------------------------

@BY_LAYOUT
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_gradients_are_clipped_in_float32_and_rounded(half: str, layout: Any) -> None:
    p = made(layout(START), half)
    p.grad = p.data.copy()
    before = seen(p)
    norm = ol.clip_grad_norm_([p], 1.0)
    assert norm == pytest.approx(float(np.linalg.norm(before.astype(float))))
    wanted = rounded(before * np.float32(1 / (norm + 1e-6)), p.data)
    assert same_bits(bits(np.asarray(p.grad)).copy(order="C"), bits(wanted).copy(order="C"))
    ol.clip_grad_value_([p], 2.0**-9)
    assert np.abs(np.asarray(widened(np.asarray(p.grad)), np.float32)).max() == 2.0**-9
    p.grad = np.full(p.shape, np.nan, np.float16)
    ol.clip_grad_value_([p], 1.0)
    assert np.isnan(np.asarray(p.grad)).all()


def test_minimize_begins_at_any_16_bits() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (np.float16, ml_dtypes.bfloat16):
        assert ol.minimize(lambda x: ((x * x).sum(), 2 * x), np.ones(3, dtype)).x.dtype == np.float64
