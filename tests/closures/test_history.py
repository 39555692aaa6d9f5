"""A history of 16 bits: the same method with pairs that are rounded, half the memory, the same evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.closures.vectors import Vector, VectorSpace
from optimlite.engine.parameter import Parameter
from support.bits import same_bits
from support.closures import rosenbrock


def rounded(values: np.ndarray) -> np.ndarray:
    """To bfloat16, to nearest even, and back."""
    bits = values.astype(np.float32).view(np.uint32)
    kept = (bits + np.uint32(0x7fff) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return (kept << np.uint32(16)).view(np.float32).astype(values.dtype)


def halves(values: np.ndarray) -> Vector:
    return Vector([(rounded(values).astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 15, 17, 1024, 1040, 40_001])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_kernels_agree_with_those_of_full_width(dtype: Any, n: int, count: int, level: str,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the rounded rows, the same bits."""
    monkeypatch.setattr(ol.native.dispatch, "level", level)
    rng = np.random.default_rng(0)
    space = VectorSpace([Parameter(np.zeros(n, dtype))])
    a, b, d, g, h, *rows = (rng.standard_normal(n).astype(dtype) for _ in range(5 + count))
    wide, narrow = [Vector([rounded(row)]) for row in rows], [halves(row) for row in rows]
    assert space.gram(Vector([a]), Vector([b]), wide) == space.gram(Vector([a]), Vector([b]), narrow)
    outs = space.empty(), space.empty()
    coefficients = rng.standard_normal(count).tolist()
    found = [space.linear_combination(out, Vector([g]), -0.5, kind, coefficients)
             for out, kind in zip(outs, (wide, narrow), strict=True)]
    assert found[0] == found[1]
    assert same_bits(outs[0].arrays[0], outs[1].arrays[0])
    s, y = space.rows(2, halves=True)
    ss, mine, others = space.add_pair(s, y, 0.3, Vector([d]), Vector([g]), Vector([h]), Vector([a]),
                                      [*narrow, s, y])
    for vector, exact in ((s, dtype(0.3) * d), (y, g - h)):
        assert same_bits(space.real(vector).arrays[0], rounded(exact))
    expected = [space.real(v).arrays[0].astype(np.float64) for v in (s, y)]
    assert (others[-2], others[-1], ss) == pytest.approx((expected[0] @ expected[1], expected[1] @ expected[1],
                                                          expected[0] @ expected[0]), rel=1e-10, abs=1e-10)
    again = space.gram(Vector([a]), space.real(y), [*narrow, s, y])
    assert (mine, others) == again


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_run_with_half_the_memory(dtype: Any) -> None:
    x = np.full(40, -1.2, dtype)
    opt = ol.LBFGS([x], line_search_fn="hager_zhang", history_size=10, history_dtype="bfloat16", max_iter=3000,
                   max_eval=6000, tolerance_change=0, tolerance_grad=1e-3)
    opt.step(lambda: (lambda loss, g: (loss, [g]))(*rosenbrock(x)))
    pairs = {key: array for key, array in opt.state[x].items() if key[:2] in ("s_", "y_")}
    assert len(pairs) == 20
    assert {array.dtype for array in pairs.values()} == {np.dtype(np.uint16)}
    assert opt.result.converged, opt.result


@pytest.mark.parametrize("bounds", [None, (-1.5, 0.7)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_run_goes_on_with_the_same_bits(dtype: Any, bounds: Any, tmp_path: Path) -> None:
    options = {"history_dtype": "bfloat16", "maxcor": 4}
    start = np.full(20, -1.2, dtype)
    whole = ol.minimize(rosenbrock, start, bounds=bounds, options={**options, "maxiter": 30})
    part = ol.minimize(rosenbrock, start, bounds=bounds, options={**options, "maxiter": 9})
    ol.save(tmp_path / "run", run=part.state)
    for state in (part.state, ol.load(tmp_path / "run")["run"]):
        rest = ol.minimize(rosenbrock, state=state, options={"maxiter": whole.nit - 9})
        assert same_bits(rest.x, whole.x)
    assert part.hess_inv.sk.dtype == np.float64
    s = part.hess_inv.sk[0]
    assert same_bits(s, rounded(s))


def test_state_dicts_of_either_kind_are_loaded() -> None:
    """Pairs that are stored otherwise than the option says are forgotten with the next direction."""
    x = np.full(6, -1.2)
    options = {"line_search_fn": "nocedal_wright", "max_iter": 5, "tolerance_change": 0}

    def closure(x: np.ndarray) -> Any:
        return lambda: (lambda loss, g: (loss, [g]))(*rosenbrock(x))

    opt = ol.LBFGS([x], history_dtype="bfloat16", **options)
    opt.step(closure(x))
    z = x.copy()
    other = ol.LBFGS([z], **options)
    other.step(closure(z))
    other.load_state_dict(opt.state_dict())
    assert other.param_groups[0]["history_dtype"] == "bfloat16"
    z[...] = x
    for params, optimizer in ((x, opt), (z, other)):
        optimizer.step(closure(params))
    assert same_bits(x, z)
    other.param_groups[0]["history_dtype"] = None
    loss = other.result.loss
    other.step(closure(z))
    assert other.result.loss < loss
    assert {array.dtype for key, array in other.state[z].items() if key[:2] == "s_"} == {np.dtype(np.float64)}


@pytest.mark.parametrize("value", ["float16", np.float16, True, 16])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"`history_dtype` must be None .* or 'bfloat16', got"):
        ol.LBFGS([np.ones(3)], history_dtype=value)


@pytest.mark.long
def test_evaluations_are_those_of_a_full_history() -> None:
    """Medians over moved starts: a single run's count rests on NumPy's last bits."""
    pytest.importorskip("scipy.optimize")
    from benchmarks.evaluations import histories

    full, half = (np.array(counts) for counts in histories().values())
    assert np.exp(np.log(half / full).mean()) <= 1.1
    assert half.sum() <= 1.2 * full.sum()
