"""The compiled modules asked for what no optimizer of ours asks: each refuses, or answers, before it touches memory."""

from __future__ import annotations

import importlib
import os
import zlib
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import _core, _cpu, _threads


def kernels(dtype: Any) -> Any:
    return importlib.import_module(f"optimlite._kernels_{_cpu.TYPES[np.dtype(dtype)]}_{_cpu.level}")


def adam_rule() -> _core.Rule:
    return _cpu.rule("adam", np.dtype(np.float32))


def plan_of(array: np.ndarray, gradient: Any, states: int) -> tuple[_core.Plan, list[np.ndarray]]:
    """A plan of one parameter, bound to its gradient."""
    leaf = ol.Parameter(array)
    leaf.grad = gradient
    plan = _core.Plan([leaf], states, 0)
    state = [np.zeros_like(array) for _ in range(states)]
    plan.attach(0, state, [], True)
    plan.bind(_core.Memory([array, *state]))
    assert plan.prepare() == 1
    return plan, state


def coefficients(rule: _core.Rule) -> dict[str, float]:
    return dict.fromkeys([name for name in rule.fields if name not in ("grad_scale", "limit", "l2")], 0.5)


def test_a_rule_tells_what_it_takes() -> None:
    rule = adam_rule()
    assert (rule.slots, rule.itemsize, rule.fields[:3]) == (2, 4, ("grad_scale", "limit", "l2"))
    assert set(rule.fields[3:]) == {"beta1", "fresh1", "beta2", "fresh2", "keep", "step_size", "inv_root_bias2", "eps"}


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: c.pop("eps"), "^the rule needs a coefficient `eps`, got .*'beta1'"),
    (lambda c: c.update(lr=0.1), "^the rule has the coefficients .*'eps'.*, got .*'lr'")])
def test_coefficients_that_are_not_the_rules_are_refused(change: Any, message: str) -> None:
    """A coefficient that nobody reads would be a hyper-parameter without effect."""
    array = np.ones(3, np.float32)
    plan, state = plan_of(array, np.ones(3, np.float32), 2)
    rule = adam_rule()
    given = coefficients(rule)
    change(given)
    with pytest.raises(TypeError, match=message):
        _core.execute([(plan, 0, rule, given, {})])
    assert (array == 1).all()
    assert not any(each.any() for each in state)
    _core.execute([(plan, 0, rule, coefficients(rule), {})])
    assert (array < 1).all()


def test_a_rule_has_at_most_five_states() -> None:
    with pytest.raises(ValueError, match=r"^a rule has at most 5 state slots, got 6$"):
        _core.Plan([], 6, 0)
    assert _core.Plan([], 5, 0).pending() == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("states", range(4))
def test_the_traffic_of_benchmarks_moves_every_array_once(states: int, dtype: Any) -> None:
    """The limit of bandwidth is honest only if each array is read and written, and the gradient read."""
    array, gradient = np.arange(70, dtype=dtype), np.linspace(1, 2, 70).astype(dtype)
    plan, state = plan_of(array, gradient, states)
    rule = _cpu.rule(f"traffic{states}", np.dtype(dtype))
    assert rule.slots == states
    _core.execute([(plan, 0, rule, {"weight": 0.0}, {})])
    assert array.tobytes() == (np.arange(70, dtype=dtype) + gradient).tobytes()
    assert all(each.tobytes() == gradient.tobytes() for each in state)


@pytest.mark.parametrize("width", [16, 32])
def test_sums_of_bytes_are_folded_where_the_cpu_can(width: int) -> None:
    block = 4 * width
    data = np.frombuffer(np.random.default_rng(0).bytes(10 * block), np.uint8)
    for length in (0, block - 1, block + 1, block // 2):
        with pytest.raises(ValueError, match=r"`data` must have a positive multiple of 4 \* `width` bytes"):
            _core.crc_fold(data[:length], width)
    if width > _core.crc_folds():
        with pytest.raises(ValueError, match="the CPU must fold"):
            _core.crc_fold(data, width)
        return
    for length in (block, 2 * block, 10 * block):    # zlib's sum goes on from zero if it is told this value
        assert zlib.crc32(_core.crc_fold(data[:length], width), 0xFFFFFFFF) == zlib.crc32(data[:length])


def test_registers_that_sum_are_of_16_or_32_bytes() -> None:
    assert _core.crc_folds() in (0, 16, 32)
    for width in (-16, 0, 8, 64):
        with pytest.raises(ValueError, match="the CPU must fold"):
            _core.crc_fold(np.zeros(1024, np.uint8), width)


def test_kernels_tell_the_size_of_their_elements() -> None:
    for dtype in (np.float32, np.float64):
        module, size = kernels(dtype), np.dtype(dtype).itemsize
        assert {_core.Reduction(*entry).itemsize for entry in module.REDUCTIONS.values()} == {size}
        assert {_core.Map(*entry).itemsize for entry in module.MAPS.values()} == {size}
        algebra = [_core.Kernel(*entry) for entry in module.ALGEBRA.values()]
        assert {kernel.itemsize for kernel in algebra} == {size}
        assert all(kernel.sums >= 0 and kernel.per_row >= 0 and kernel.maxima >= 0 for kernel in algebra)
        assert any(kernel.sums for kernel in algebra)


def test_the_quota_of_a_container_is_rounded_up(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real, file = open, tmp_path / "cpu.max"
    monkeypatch.setattr(builtins, "open", lambda path, *rest: real(
        file if path == "/sys/fs/cgroup/cpu.max" else path, *rest))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OPTIMLITE_NUM_THREADS", raising=False)
    for text, count in (("150000 100000", 2), ("100000 100000", 1), ("10000 100000", 1), ("max 100000", 8),
                        ("9900000 100000", 8)):
        file.write_text(text + "\n")
        assert _threads.default_num_threads() == count
    file.unlink()
    assert _threads.default_num_threads() == 8


def test_nothing_is_no_array_to_overlap_with() -> None:
    with pytest.raises(TypeError, match="Argument 'array'"):
        _core.Memory([np.ones(2)]).overlaps(None)         # type: ignore[arg-type]
