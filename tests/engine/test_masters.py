"""What a parameter of 16 bits has beside it: all that it lacks, Kahan's compensation, or nothing but chance."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from optimlite.engine.formats import BFLOAT16, noise_of, rounding_of, stochastic_float16, widened
from optimlite.engine.halves import bits
from optimlite.engine.shadows import rounded
from support.bits import assert_same
from support.cases import CASES, Case
from support.halves import KINDS, LAYOUTS, MASTERS, exact, give, groups_of, made
from support.helpers import values

TAKING = [case for case in CASES if getattr(case.optimizer, "takes_halves", False) and case.optimizer.by_element
          and case.optimizer is not ol.SparseAdam]


def of_every_kind(case: Case, shape: tuple[int, ...], layout: Any = np.array, **options: Any) -> ol.Optimizer:
    """A parameter of each kind, and of float32, in a group of its own."""
    start = np.random.default_rng(0).standard_normal(case.fit(shape))
    return case.optimizer(groups_of(start, layout), **{**case.options, **options})


@pytest.mark.parametrize("case", TAKING, ids=lambda case: case.id)
def test_bits_are_those_of_the_twin(case: Case) -> None:
    one, other = (of_every_kind(case, (30, 45), seed=7) for _ in range(2))
    for step in range(3):
        give(one, step).step()
        reference.step(give(other, step))
        assert_same(one, other)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_bits_on_every_level_and_in_every_layout(rounding: str, layout: str, level: str, threads: None) -> None:
    case = Case(ol.AdamW, {"cautious": True, "state_dtype": "bfloat16"})
    one, other = (of_every_kind(case, (1301, 17), LAYOUTS[layout], rounding=rounding) for _ in range(2))
    for step in range(2):
        ol.set_num_threads(step + 1)
        one.watch(1, parameters=True)            # which steps strip by strip
        give(one, step).step(max_grad_norm=0.5, zero_grad=True)
        reference.step(give(other, step), max_grad_norm=0.5)
        assert one.last_grad_norm == other.last_grad_norm
        assert_same(one, other)


def test_special_values() -> None:
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 6e-8, 1e-30, 65504.0, 65519.0, 1e38, -3.39e38, 1e-42])
    for gradient in (0.0, 1e-8, 1e3, -np.inf, np.nan):
        one, other = (ol.SGD([{"params": [made(special, half)], "master": master} for half, master in KINDS], lr=1.0)
                      for _ in range(2))
        for optimizer, step in ((one, one.step), (other, lambda other=other: reference.step(other))):
            for _ in range(3):
                for p in optimizer._parameters():
                    p.grad = np.full(len(special), gradient, np.float32)
                step()
        for p, q in zip(one._parameters(), other._parameters(), strict=True):
            np.testing.assert_array_equal(widened(p.data), widened(q.data))


# Means ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_thousands_of_updates_that_rounding_to_nearest_loses(half: str) -> None:
    sizes, steps, n = [1.0, 2.0**-7, 2.0**-15], 2000, 1280        # the last is no normal number of float16
    kinds = [(master, "stochastic") for master in MASTERS] + [("none", "nearest"), ("kahan", "nearest")]
    opt = ol.SGD([{"params": [made(np.full(n, 0.75 * size), half) for size in sizes], "master": master,
                   "rounding": rounding} for master, rounding in kinds], lr=1.0)
    for p, size in zip(opt._parameters(), sizes * len(kinds), strict=True):
        p.grad = np.full(n, size * 2.0**-13, np.float32)
    for _ in range(steps):
        opt.step()
    ends = [np.asarray(x, float) for x in exact(opt)]
    for k, size in enumerate(sizes):
        full, kahan, chance, nearest, textbook = (end / size - 0.75 for end in ends[k::3])
        wanted, apart = -steps * 2.0**-13, 2.0**-8 if half == "bfloat16" else max(2.0**-11, 2.0**-24 / size)
        spread = np.sqrt(-wanted * apart)        # of a walk by steps of the last bit
        assert np.all(full == wanted)
        assert not nearest.any()
        assert abs(chance.mean() - wanted) < 5 * spread / np.sqrt(n)
        assert 0.2 * spread < chance.std() < 1.5 * spread
        assert abs(kahan.mean() - wanted) < 1e-4
        assert kahan.std() < spread / 8
        if half == "float16":                    # whose 22 bits are enough to the nearest, too
            np.testing.assert_allclose(textbook, wanted, rtol=1e-3)


def test_float16_at_random_is_right_in_the_mean() -> None:
    rng = np.random.default_rng(0)
    x = np.asarray(rng.standard_normal(1280) * 10.0 ** rng.uniform(-9, 4, 1280), np.float32)
    many = np.mean([stochastic_float16(x, noise_of(rounding_of({}, step), 5, 1280)) for step in range(1000)], 0, float)
    apart = np.maximum(np.spacing(np.abs(x).astype(np.float16)).astype(float), 2.0**-24)
    assert np.all(np.abs(many - x) < 5 * (apart / 2) / np.sqrt(1000))


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_a_network_learns_what_it_learns_in_float32(half: str) -> None:
    """The end of a least squares problem, whose steps become small: to nearest, it stops far from it."""
    rng = np.random.default_rng(0)
    A, x = rng.standard_normal((200, 50)).astype(np.float32), rng.standard_normal(50).astype(np.float32)
    losses = {}
    for master, rounding in [(each, "stochastic") for each in MASTERS] + [("none", "nearest")]:
        p = made(np.zeros(50), half)
        opt = ol.SGD([p], lr=5e-4, master=master, rounding=rounding)
        for _ in range(500):
            residual = A @ (np.asarray(widened(p.data), np.float32) - x)
            opt.step(grads=[A.T @ residual])
        [end] = exact(opt)
        losses[master, rounding] = float(np.square(A @ (end - x)).mean())
    assert losses["kahan", "stochastic"] < 3 * losses["float32", "stochastic"] + 1e-6
    assert losses["none", "stochastic"] < losses["none", "nearest"] / 3


# Around a step -------------------------------------------------------------------------------------------------------

def test_bytes() -> None:
    case = Case(ol.SGD, {"lr": 0.1})
    opt = give(of_every_kind(case, (1000,)), 0)
    opt.step()
    state = opt.memory().state
    assert (state["low_bits"], state["master"], state["compensation"]) == (2000, 4000, 4000)
    assert [opt.state[p].get("compensation", np.ones(1)).dtype for p in opt._parameters()][1:5:3] == [
        BFLOAT16, np.float16]
    assert [set(opt.state[p]) for p in opt._parameters()][2] == {"step"}         # that the rounding goes by
    assert set(opt.state[opt._parameters()[0]]) == {"low_bits"}


@pytest.mark.parametrize("case", [Case(ol.SGD, {"lr": 0.1}), Case(ol.Adam, {"state_dtype": "int8"})],
                         ids=lambda case: case.id)
def test_a_resumed_run_goes_on(case: Case, tmp_path: Path) -> None:
    one = of_every_kind(case, (70, 70))
    for step in range(2):
        give(one, step).step()
    arrays = [p.data for p in one._parameters()]
    ol.save(tmp_path / "run", model=[bits(a) if a.itemsize == 2 else a for a in arrays], optimizer=one)
    others = [of_every_kind(case, (70, 70)) for _ in range(3)]
    for other in others[:2]:
        for p, a in zip(other._parameters(), arrays, strict=True):
            p.data[...] = a
    others[0].load_state_dict(one.state_dict())
    others[1].load_state_dict(ol.load(tmp_path / "run")["optimizer"])
    model = [bits(p.data) if p.half else p.data for p in others[2]._parameters()]
    ol.restore(tmp_path / "run", model=model, optimizer=others[2])
    others += [copy.deepcopy(one), pickle.loads(pickle.dumps(one))]
    for optimizer in (one, *others):
        give(optimizer, 2).step()
        assert values(optimizer) == values(one)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
@pytest.mark.parametrize("into", MASTERS)
@pytest.mark.parametrize("out_of", MASTERS)
def test_from_one_master_to_another(out_of: str, into: str, half: str) -> None:
    start = np.random.default_rng(0).standard_normal(500)
    one = ol.Adam([made(start, half)], lr=1e-3, master=out_of)
    give(one, 0).step()
    [before] = exact(one)
    plain = one.state_dict(dtype="float32")
    assert "master" not in plain["param_groups"][0]
    master = plain["state"][0]["master"]
    np.testing.assert_allclose(master, before, rtol=2.0**-23)
    assert np.array_equal(bits(rounded(master, one._parameters()[0].data)), bits(one._parameters()[0].data))
    for saved, kept in ((plain, out_of != "none"), (one.state_dict(), out_of == into)):
        p = made(start, half)
        p.data[...] = one._parameters()[0].data
        other = ol.Adam([p], lr=1e-3, master=into)
        other.load_state_dict(saved)
        [after] = exact(other)
        exactly = kept and (out_of == into or into == "float32")
        lost = 2.0**-23 if exactly else 2.0**-16 if kept and into != "none" else 2.0**-7
        np.testing.assert_allclose(after, before, rtol=lost, atol=1e-9)
        give(other, 1).step()


def test_what_others_write_counts() -> None:
    for half, master in KINDS:
        p = made(np.ones(300), half)
        opt = ol.SGD([p], lr=2.0**-14, master=master)
        for _ in range(3):
            opt.step(grads=[np.ones(300, np.float32)])
        written = np.asarray(widened(p.data), np.float32)
        written[7], written[200:] = 1e-4, 4.0
        p.data = written
        opt.step(grads=[np.zeros(300, np.float32)])
        assert np.array_equal(np.asarray(widened(p.data), np.float32)[200:], written[200:])
        assert widened(p.data)[7] == pytest.approx(1e-4, rel=1e-2)


def test_another_master_between_two_steps_is_refused() -> None:
    opt = ol.SGD({"W": made(np.ones(5), "float16")}, lr=0.1)
    give(opt, 0).step()
    for master in ("kahan", "none"):
        opt.param_groups[0]["master"] = master
        with pytest.raises(ValueError, match=f"state `master` of 'W' is of another `master` than {master!r}; use opt"):
            give(opt, 1).step()
    opt.load_state_dict(opt.state_dict())
    give(opt, 1).step()
    assert set(opt.state["W"]) == {"step"}


def test_single_parameters_and_rows() -> None:
    for half, master in KINDS:
        p = made(np.random.default_rng(0).standard_normal((600, 20)), half)
        one, other = (ol.Adam({"x": copy.deepcopy(p)}, master=master) for _ in range(2))
        give(one, 0).step()
        other.step_parameter("x", one._parameters()[0].grad)
        assert_same(one, other)
        [before] = exact(one)
        new = one.replace("x", one._parameters()[0].data[::-1][:4].copy(), rows=[599, 598, 597, 596])
        assert np.array_equal(exact(one)[0], before[[599, 598, 597, 596]])
        give(one, 1).step()
        assert new.half == half


@pytest.mark.parametrize(("options", "message"), [
    ({"master": "bfloat16"}, "`master` must be 'float32', 'kahan' or 'none', got 'bfloat16'"),
    ({"master": True}, "`master` must be 'float32', 'kahan' or 'none', got True"),
])
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ol.SGD([made(np.ones(3), "float16")], lr=0.1, **options)
    with pytest.raises(ValueError, match="`master` can't be had here, got 'kahan'"):
        ol.AdamMini([{"params": [np.ones((3, 3))], "master": "kahan"}])
