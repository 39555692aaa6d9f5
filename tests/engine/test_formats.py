"""State in fewer bytes: the bits of the twin, means that are right, codes that never vanish, and ways in and out."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from optimlite.engine.formats import BFLOAT16, FORMATS, rounding_of
from optimlite.engine.storage import COPIES, EXACT, Kept
from support.bits import THREADS, assert_same, same_bits
from support.cases import CASES, Case
from support.helpers import values
from support.passes import give

NAMES = ["bfloat16", "int8"]
SHAPES = [(5000,), (41, 130), (3,), (), (0,), (16_385,), (70, 70)]
STORABLE = [case for case in CASES
            if case.optimizer.options not in (EXACT, COPIES) and not case.options.get("centered")]
SIGNED, UNSIGNED = (Kept(FORMATS["int8"], unsigned, 0) for unsigned in (False, True))
HALF = Kept(FORMATS["bfloat16"], False, 0)
BY_NAME = pytest.mark.parametrize("name", NAMES)


def parameters(case: Case, dtype: Any, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.standard_normal(case.fit(shape)), dtype) for shape in SHAPES]
    return [*arrays[:-1], np.asfortranarray(arrays[-1])]


def made(case: Case, name: str | None, dtype: Any = np.float32, **storage: Any) -> ol.Optimizer:
    return case.optimizer(parameters(case, dtype), **{**case.options, "state_dtype": name, **storage})


def gradients(case: Case, dtype: Any, step: int) -> list[np.ndarray | None]:
    """Of scales from 1e-6 to 1e3, beside one another."""
    rng = np.random.default_rng(100 + step)
    drawn = [np.asarray(rng.standard_normal(p.shape) * 10.0 ** rng.uniform(-6, 3, p.shape), dtype, order="A")
             for p in parameters(case, dtype)]
    return [None if (step + k) % 5 == 4 else g for k, g in enumerate(drawn)]


@BY_NAME
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", STORABLE, ids=lambda case: case.id)
def test_bits_are_those_of_the_twin(case: Case, dtype: Any, name: str, level: str, threads: None) -> None:
    for count in THREADS[:2]:
        ol.set_num_threads(count)
        one, other = made(case, name, dtype, seed=7), made(case, name, dtype, seed=7)
        for step in range(3):
            give(one, gradients(case, dtype, step)).step()
            reference.step(give(other, gradients(case, dtype, step)))
            assert_same(one, other)


@BY_NAME
@pytest.mark.parametrize(("optimizer", "options"), [(ol.AdamW, {}), (ol.Adam, {"weight_decay": 0.1}), (ol.Lion, {}),
                                                    (ol.SGD, {"lr": 0.1, "momentum": 0.9})])
def test_gradients_of_any_bits(optimizer: Any, options: dict[str, Any], name: str, level: str, threads: None) -> None:
    """NaN of every kind, infinity and the largest numbers, where state is stepped in registers, too."""
    ol.set_num_threads(2)
    one, other = (optimizer([np.ones(n, np.float32) for n in (40_001, 1000, 7)], state_dtype=name, **options)
                  for _ in range(2))
    with np.errstate(all="ignore"):
        for step in range(3):
            grads = [np.random.default_rng(step).integers(0, 2**32, p.shape, np.uint32).view(np.float32)
                     for p in one._parameters()]
            for g in grads:
                g[-3:] = np.array([0x7fffffff, 0xffffffff, 0x7f7fffff], np.uint32).view(np.float32)
            give(one, grads).step()
            reference.step(give(other, grads))
    for p, q in zip(one._parameters(), other._parameters(), strict=True):
        assert np.array_equal(p.data, q.data, equal_nan=True)
        assert all(same_bits(one.state[p][key], value) for key, value in other.state[q].items() if key != "step")


@BY_NAME
@pytest.mark.parametrize("case", STORABLE, ids=lambda case: case.id)
def test_a_resumed_run_goes_on(case: Case, name: str, tmp_path: Path) -> None:
    one = made(case, name)
    for step in range(2):
        give(one, gradients(case, np.float32, step)).step()
    ol.save(tmp_path / "run.safetensors", optimizer=one)
    pickled = pickle.loads(pickle.dumps(one.state_dict()))
    saved = one.state_dict(), ol.load(tmp_path / "run.safetensors")["optimizer"], pickled
    others = [made(case, name) for _ in range(4)]
    for other in others:
        for p, q in zip(other._parameters(), one._parameters(), strict=True):
            p.data[...] = q.data
    for other, state_dict in zip(others, saved, strict=False):
        other.load_state_dict(state_dict)
    ol.restore(tmp_path / "run.safetensors", optimizer=others[-1])
    others += [copy.deepcopy(one), pickle.loads(pickle.dumps(one))]
    give(one, gradients(case, np.float32, 2)).step()
    for other in others:
        give(other, gradients(case, np.float32, 2)).step()
        assert values(other) == values(one)


def test_state_takes_the_bytes_that_it_should() -> None:
    for name, bytes_per_element in (("bfloat16", 2), ("int8", 1)):
        optimizer = ol.Adam([np.zeros((100, 1000), np.float32)], state_dtype=name)
        optimizer.step(grads=[np.ones((100, 1000), np.float32)])
        memory = optimizer.memory()
        assert memory.state["exp_avg"] == memory.state["exp_avg_sq"] == 100_000 * bytes_per_element
        assert memory.state.get("exp_avg_scale", 0) == (782 if name == "int8" else 0)
        assert memory.parameters == memory.gradients == 400_000
        assert memory.total == 800_000 + sum(memory.state.values())
        assert str(memory).splitlines()[-1].split() == ["total", f"{memory.total:,}", f"{memory.total / 1e5:.2f}"]


def test_small_tensors_stay_as_they_are_with_scales() -> None:
    optimizer = ol.Adam([np.zeros(4095, np.float32), np.zeros(4096, np.float32)], state_dtype="int8")
    optimizer.step(grads=[np.ones(4095, np.float32), np.ones(4096, np.float32)])
    small, large = (optimizer.state[p] for p in optimizer._parameters())
    assert small["exp_avg"].dtype == np.float32
    assert set(small) == {"step", "exp_avg", "exp_avg_sq"}
    assert large["exp_avg"].dtype == np.uint8
    assert large["exp_avg_scale"].shape == (32,)


# Rounding ------------------------------------------------------------------------------------------------------------

def encoded(form: Kept, x: np.ndarray, **group: Any) -> np.ndarray:
    return form.decode(*form.encode(x, rounding_of(group, group.pop("step", 1))), np.dtype(np.float32))


@pytest.mark.parametrize("form", [SIGNED, UNSIGNED, HALF])
def test_rounding_is_right_in_the_mean(form: Kept) -> None:
    rng = np.random.default_rng(0)
    x = np.abs(rng.standard_normal(1280) * 10.0 ** rng.uniform(-4, 0, 1280)).astype(np.float32)
    x[::2] *= -1 if not form.unsigned else 1
    many = np.mean([encoded(form, x, step=step) for step in range(4000)], 0, dtype=np.float64)
    apart = np.maximum(np.abs(x) / 8, np.abs(x).max() * 2.0**(-34 if form.unsigned else -18))    # neighbouring codes
    assert np.all(np.abs(many - x) < 5 * (apart / 2) / np.sqrt(4000))


def test_neighbours_and_steps_and_seeds_are_rounded_apart() -> None:
    x = np.full(4096, 1.03, np.float32)
    up = encoded(SIGNED, x) > 1.03
    assert 0.2 < up.mean() < 0.8
    assert not np.array_equal(up, encoded(SIGNED, x, step=2) > 1.03)
    assert not np.array_equal(up, encoded(SIGNED, x, seed=1) > 1.03)
    blocks = up.reshape(-1, 128)
    assert len({block.tobytes() for block in blocks}) > 8
    again = Kept(SIGNED.format, False, 1).encode(x, rounding_of({}, 1))      # another array of the same state
    assert not np.array_equal(up, SIGNED.decode(*again, np.dtype(np.float32)) > 1.03)


@pytest.mark.parametrize("form", [SIGNED, UNSIGNED, HALF])
def test_to_the_nearest(form: Kept) -> None:
    x = np.abs(np.random.default_rng(0).standard_normal(1000)).astype(np.float32)
    error = np.abs(encoded(form, x, rounding="nearest") - x)
    assert np.all(error <= np.maximum(np.abs(x) * 2.0**-4, np.abs(x).max() * 2.0**-18))
    assert same_bits(encoded(form, x, rounding="nearest"), form.decode(*form.encode(x), np.dtype(np.float32)))


@pytest.mark.parametrize("form", [SIGNED, UNSIGNED, HALF])
@pytest.mark.parametrize("scale", [1e-15, 1e-30, 1e-37, 1e15, 1e30, 3e38])
def test_scales_reach_as_far_as_float32(form: Kept, scale: float) -> None:
    x = (np.random.default_rng(0).uniform(0.5, 1, 300) * scale).astype(np.float32)
    assert np.allclose(encoded(form, x), x, rtol=0.14, atol=2.0**-125)


@pytest.mark.parametrize("group", [{}, {"rounding": "nearest"}])
def test_a_mean_of_squares_never_becomes_zero(group: dict[str, Any]) -> None:
    x = np.float32(10.0)**np.linspace(0, -30, 1024, dtype=np.float32)
    x = x.reshape(8, 128).T.ravel()                      # in blocks of a wide spread
    assert np.all(encoded(UNSIGNED, x, **group) > 0)
    assert np.all(encoded(UNSIGNED, np.zeros(256, np.float32), **group) == 0)


@pytest.mark.parametrize("form", [SIGNED, UNSIGNED, HALF])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_in_sight_and_in_its_block(form: Kept, bad: float) -> None:
    x = np.ones(400, np.float32)
    x[200] = bad
    back = encoded(form, x)
    assert not np.isfinite(back[200])
    reach = slice(128, 256) if form.format.scaled else slice(200, 201)
    assert np.all(np.isfinite(np.delete(back, reach)))
    assert np.allclose(np.delete(back, reach), 1, rtol=0.13)


def test_the_largest_numbers_stay_finite() -> None:
    x = np.full(4096, np.finfo(np.float32).max, np.float32)
    for step in range(20):
        assert np.isfinite(encoded(HALF, x, step=step)).all()
        assert np.isfinite(encoded(SIGNED, x * np.float32(0.9), step=step)).all()
    odd = np.array([0x7fffffff, 0xffffffff, 0x7f800001, 0xff800001], np.uint32).view(np.float32)
    assert np.isnan(encoded(HALF, odd)).all()


def spread(ratio: float, n: int = 1280) -> np.ndarray:
    return (ratio ** np.random.default_rng(3).uniform(-1, 0, n)).astype(np.float32)


@BY_NAME
@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.slow
def test_means_of_squares_are_those_of_float32(name: str, ratio: float, constant: bool) -> None:
    rng, scales = np.random.default_rng(0), spread(ratio, 5120)
    one, other = (ol.Adam([np.zeros(5120, np.float32)], state_dtype=form) for form in (name, None))
    for _ in range(4000):
        g = scales if constant else (scales * rng.standard_normal(5120)).astype(np.float32)
        for optimizer in (one, other):
            optimizer.step(grads=[g])
    [p], [q] = one._parameters(), other._parameters()
    form = Kept(FORMATS[name], True, 1)
    v = form.decode(one.state[p]["exp_avg_sq"], one.state[p].get("exp_avg_sq_scale"), np.dtype(np.float64))
    quotient = np.sqrt(v / other.state[q]["exp_avg_sq"])
    assert abs(quotient.mean() - 1) < 0.02
    assert quotient.std() <= 0.12
    assert np.all(v > 0)


@BY_NAME
def test_nothing_diverges_that_float32_does_not(name: str) -> None:
    """A quadratic of curvatures from 1e-3 to 1, for every optimizer that takes a format, from its own rate."""
    curvature = np.geomspace(1e-3, 1, 5000).astype(np.float32)
    for case in STORABLE:
        if case.options.get("maximize") or case.axes:
            continue
        losses = []
        for form in (None, name):
            [x] = [np.ones(5000, np.float32)]
            optimizer = case.optimizer([x], **{**case.options, "state_dtype": form})
            for _ in range(100):
                optimizer.step(grads=[curvature * x])
            losses.append(float(curvature @ (x * x)))
        assert losses[1] <= 1.3 * losses[0] + 0.02 * curvature.sum(), (case.id, losses)


# In and out ----------------------------------------------------------------------------------------------------------

def close(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.allclose(one[key], other[key], rtol=0.07, atol=np.abs(one[key]).max(initial=0) * 2.0**-17)
               for key in other)


@BY_NAME
def test_float32_state_goes_into_a_format_and_back(name: str, tmp_path: Path) -> None:
    case = Case(ol.AdamW, {})
    exact, form = made(case, None), made(case, name)
    for step in range(2):
        give(exact, gradients(case, np.float32, step)).step()
    form.load_state_dict(exact.state_dict())
    assert form.state[form._parameters()[1]]["exp_avg"].dtype == FORMATS[name].dtype
    assert form.param_groups[0]["state_dtype"] == name
    plain = form.state_dict(dtype="float32")
    assert "state_dtype" not in plain["param_groups"][0]
    for index, entries in exact.state_dict()["state"].items():
        assert set(plain["state"][index]) == set(entries)
        assert close(entries, plain["state"][index])
    again = made(case, name)
    again.load_state_dict(plain)
    for index, entries in again.state_dict(dtype="float32")["state"].items():
        assert close(entries, plain["state"][index])
    back = made(case, None)
    back.load_state_dict(form.state_dict())
    ol.save(tmp_path / "form.safetensors", optimizer=form)
    restored = made(case, None)
    ol.restore(tmp_path / "form.safetensors", optimizer=restored)
    direct = made(case, None)
    direct.load_state_dict(plain)
    assert values(back) == values(direct) == values(restored)


def test_from_one_format_to_another() -> None:
    case = Case(ol.SGD, {"lr": 0.1, "momentum": 0.9})
    one = made(case, "int8")
    give(one, gradients(case, np.float32, 0)).step()
    other = made(case, "bfloat16")
    other.load_state_dict(one.state_dict())
    assert close(one.state_dict(dtype="float32")["state"][1], other.state_dict(dtype="float32")["state"][1])
    exact = made(case, None)
    exact.load_state_dict(other.state_dict())            # without the count of steps that rounding needs
    assert set(exact.state[exact._parameters()[0]]) == {"momentum_buffer"}


def test_layouts_differ_between_a_file_and_a_parameter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    g = rng.standard_normal((80, 90)).astype(np.float32)
    one = ol.Adam({"W": np.zeros((80, 90), np.float32)}, state_dtype="int8")
    other = ol.Adam({"W": np.zeros((80, 90), np.float32, order="F")}, state_dtype="int8")
    one.step(grads={"W": g})
    other.load_state_dict(one.state_dict())
    assert one.state["W"]["exp_avg_scale"].shape == (57,)
    assert other.state["W"]["exp_avg_scale"].shape == (1, 57)
    ol.save(tmp_path / "f.safetensors", optimizer=other)
    third = ol.Adam({"W": np.zeros((80, 90), np.float32)}, state_dtype="int8")
    ol.restore(tmp_path / "f.safetensors", optimizer=third)
    plain = [optimizer.state_dict(dtype="float32")["state"][0] for optimizer in (one, other, third)]
    assert close(plain[0], plain[1])
    assert close(plain[1], plain[2])


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    optimizer = ol.Adam({"W": np.zeros((64, 64), np.float32)}, state_dtype="bfloat16")
    optimizer.step(grads={"W": np.ones((64, 64), np.float32)})
    ol.save(tmp_path / "run.safetensors", optimizer=optimizer)
    assert b'"dtype":"BF16","shape":[64,64]' in (tmp_path / "run.safetensors").read_bytes()
    ml_dtypes = pytest.importorskip("ml_dtypes")
    loaded = ol.load(tmp_path / "run.safetensors")["optimizer"]["state"][0]["exp_avg"]
    assert loaded.dtype == ml_dtypes.bfloat16
    assert np.allclose(loaded.astype(np.float32), 0.1, rtol=0.01)


def test_damaged_scales_are_refused() -> None:
    case = Case(ol.Adam, {})
    one = give(made(case, "int8"), gradients(case, np.float32, 0))
    one.step()
    for name in (None, "int8", "bfloat16"):
        saved = one.state_dict()
        saved["state"][1]["exp_avg_scale"] = saved["state"][1]["exp_avg_scale"][:-1]
        with pytest.raises(ValueError, match="exp_avg"):
            made(case, name).load_state_dict(saved)
        del saved["state"][1]["exp_avg_scale"]
        with pytest.raises(ValueError, match="exp_avg"):
            made(case, name).load_state_dict(saved)


@BY_NAME
def test_replaced_and_pruned(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((600, 20)).astype(np.float32)
    optimizer = ol.Adam({"x": x}, state_dtype=name)
    optimizer.step(grads={"x": x.copy()})
    before = optimizer.state_dict(dtype="float32")["state"][0]
    keep = np.arange(600) % 3 > 0
    optimizer.replace("x", x[keep], rows=keep)
    after = optimizer.state_dict(dtype="float32")["state"][0]
    assert close({key: before[key][keep] if key != "step" else before[key] for key in before}, after)
    optimizer.replace("x", np.asfortranarray(x[keep]))
    assert close(after, optimizer.state_dict(dtype="float32")["state"][0])
    optimizer.step(grads={"x": x[keep]})


def test_a_start_that_is_stored_is_far_from_where_a_run_began() -> None:
    """Why DoG takes no format: its first distance is a millionth of |p0|."""
    start = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    for form, wanted in ((HALF, 0.0024), (SIGNED, 0.037)):
        stored, scales = form.encode(start, rounding_of({}, 1))
        away = np.linalg.norm(form.decode(stored, scales, start.dtype) - start) / np.linalg.norm(start)
        assert away == pytest.approx(wanted, rel=0.05)


def test_a_mean_of_parameters_that_is_stored_is_far_from_it() -> None:
    """Why ASGD takes no format: its average moves by ever less, and rounding doesn't."""
    rng, kept, stored = np.random.default_rng(0), np.zeros(512), np.zeros(512, np.float32)
    for t in range(1, 2001):
        x = (1 + rng.standard_normal(512)).astype(np.float32)
        kept += (x - kept) / t
        codes, scales = HALF.encode(stored + (x - stored) / np.float32(t), rounding_of({}, t))
        stored = HALF.decode(codes, scales, stored.dtype)
    assert np.linalg.norm(stored - 1) > 2 * np.linalg.norm(kept - 1)


# Groups, sparse gradients, what is refused ---------------------------------------------------------------------------

def test_a_group_may_have_a_format_of_its_own() -> None:
    a, b = np.zeros(5000, np.float32), np.zeros(5000, np.float32)
    optimizer = ol.Adam([{"params": [a]}, {"params": [b], "state_dtype": "int8", "seed": 3}])
    g = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    optimizer.step(grads=[[g], [g]])
    p, q = optimizer._parameters()
    assert optimizer.state[p]["exp_avg"].dtype == np.float32
    assert optimizer.state[q]["exp_avg"].dtype == np.uint8
    optimizer.param_groups[1]["state_dtype"] = "bfloat16"
    with pytest.raises(ValueError, match="state `exp_avg`"):
        optimizer.step(grads=[[g], [g]])
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step(grads=[[g], [g]])
    assert optimizer.state[q]["exp_avg"].dtype == BFLOAT16
    assert "exp_avg_scale" not in optimizer.state[q]
    optimizer.param_groups[1]["rounding"] = "nearest"
    optimizer.step(grads=[[g], [g]])
    optimizer.param_groups[1]["rounding"] = "up"
    with pytest.raises(ValueError, match="`rounding` must be 'stochastic' or 'nearest', got 'up'"):
        optimizer.step(grads=[[g], [g]])


def test_sparse_gradients() -> None:
    table = np.random.default_rng(0).standard_normal((100, 50)).astype(np.float32)
    rows = ol.SparseGrad([3, 70, 3], np.ones((3, 50), np.float32))
    one, other = (ol.SparseAdam([table.copy()], state_dtype="bfloat16") for _ in range(2))
    for _ in range(3):
        one.step(grads=[rows])
        give(other, [rows])
        reference.step(other)
        assert_same(one, other)
    refused = ol.SparseAdam([table], state_dtype="int8")
    before = table.copy()
    with pytest.raises(TypeError, match="elements of several rows share a scale; use state_dtype='bfloat16'"):
        refused.step(grads=[rows])
    assert np.array_equal(table, before)


@pytest.mark.parametrize(("cls", "options", "message"), [
    (ol.Adam, {"state_dtype": "int4"}, "`state_dtype` must be 'bfloat16' or 'int8', got 'int4'"),
    (ol.Adam, {"state_dtype": np.float16}, "`state_dtype` must be 'bfloat16' or 'int8', got"),
    (ol.Adam, {"state_dtype": "int8", "rounding": True}, "`rounding` must be 'stochastic' or 'nearest', got True"),
    (ol.Adam, {"state_dtype": "int8", "seed": -1}, r"`seed` must be from 0 to 2\*\*63 - 1, got -1"),
    (ol.RMSprop, {"state_dtype": "int8", "centered": True}, "`state_dtype` can't be had with `centered`"),
])
def test_what_is_refused(cls: type[ol.Optimizer], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls([np.zeros(3)], **options)


def test_an_optimizer_without_formats_says_so() -> None:
    with pytest.raises(TypeError, match="Muon has no argument `state_dtype`"):
        ol.Muon([np.zeros((3, 3))], state_dtype="int8")
    for cls in (ol.Muon, ol.DoG, ol.ASGD, ol.ScheduleFreeSGD, ol.LBFGS):
        with pytest.raises(ValueError, match="`state_dtype` can't be had here, got 'int8'"):
            cls([{"params": [np.zeros((3, 3))], "state_dtype": "int8"}])
    with pytest.raises(TypeError, match="Adam has no argument `state_dtyp`; did you mean `state_dtype`"):
        ol.Adam([np.zeros(3)], state_dtyp="int8")        # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="use opt"):
        ol.Adam([np.zeros(3)]).state_dtype = "int8"
    with pytest.raises(ValueError, match="`dtype` must be None or 'float32', got 'int8'"):
        ol.Adam([np.zeros(3)]).state_dict(dtype="int8")
