"""The compiled modules asked for what no optimizer of ours asks: each refuses, or answers, before it touches memory."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import zlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine.rule_optimizer import RuleOptimizer
from optimlite.native import dispatch, files, parameters, plans, runtime, steps, threads
from support.paths import ROOT


def adam_rule() -> runtime.Kernel:
    return dispatch.kernel("adam", np.dtype(np.float32))


def plan_of(rule: runtime.Kernel, array: np.ndarray, gradient: Any) -> tuple[plans.Plan, list[np.ndarray]]:
    """A plan of one parameter, bound to its gradient."""
    parameter = ol.Parameter(array)
    parameter.grad = gradient
    plan = plans.Plan([parameter], rule, 0)
    state = [np.zeros_like(array) for _ in range(rule.slots)]
    plan.attach(0, state, [], True)
    plan.bind(parameters.AddressRanges([array, *state]))
    assert plan.prepare() == 1
    return plan, state


def coefficients(rule: runtime.Kernel) -> dict[str, float]:
    return dict.fromkeys(rule.fields[4:], 0.5)


def test_a_rule_tells_what_it_takes() -> None:
    rule = adam_rule()
    assert (rule.kind, rule.slots, rule.itemsize, rule.measures) == ("rule", 2, 4, 0)
    assert rule.fields == ("grad_scale", "max_abs", "l2", "keep", "step_size", "beta1", "fresh1", "beta2", "fresh2",
                           "inv_root_bias2", "eps", "eps_root")
    lamb = dispatch.kernel("lamb", np.dtype(np.float64))
    assert (lamb.measures, lamb.itemsize, lamb.scalars) == (1, 8, ("lr", "most", "adapts"))


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: c.pop("eps"), "^the rule 'adam' has the coefficients step_size, .* beside grad_scale, max_abs, l2, "
                             "keep; `coefficients` lacks eps$"),
    (lambda c: c.update(lr=0.1), "`coefficients` has lr$")])
def test_coefficients_that_are_not_the_rules_are_refused(change: Any, message: str) -> None:
    """A coefficient that nobody reads would be a hyper-parameter without effect."""
    array, rule = np.ones(3, np.float32), adam_rule()
    plan, state = plan_of(rule, array, np.ones(3, np.float32))
    given = coefficients(rule)
    change(given)
    with pytest.raises(TypeError, match=message):
        steps.execute([steps.Launch(plan, 0, given, {})])
    assert (array == 1).all()
    assert not any(each.any() for each in state)
    steps.execute([steps.Launch(plan, 0, coefficients(rule), {})])
    assert (array < 1).all()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_plan_takes_as_many_states_as_its_rule_has(count: int) -> None:
    plan = plans.Plan([ol.Parameter(np.ones(3, np.float32))], adam_rule(), 0)
    with pytest.raises(ValueError, match=f"^the rule 'adam' has 2 state arrays and 0 scalars, got {count} and 0$"):
        plan.attach(0, [np.zeros(3, np.float32)] * count, [], True)


def test_a_plan_has_the_scalars_that_its_rule_moves() -> None:
    rule = dispatch.kernel("novograd", np.dtype(np.float32))
    assert (rule.own_scalars, adam_rule().own_scalars) == (1, 0)
    with pytest.raises(ValueError, match=r"^the rule 'novograd' moves 1 scalars of state, got 0$"):
        plans.Plan([ol.Parameter(np.ones(3, np.float32))], rule, 0)


@pytest.mark.parametrize(("name", "kind", "message"), [
    ("adamm", "rule", "^there is no rule called 'adamm'; did you mean 'adam'[?]$"),
    ("sum_squares", "rule", "^there is no rule called 'sum_squares'; is its file included in pyx/kernels.pyx, and "
                            "built[?]$"),
    ("adam", "modifier", "^there is no modifier called 'adam'")])
def test_an_unknown_kernel_is_refused(name: str, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dispatch.kernel(name, np.dtype(np.float32), kind)


class Slip(RuleOptimizer):
    """An optimizer whose rule names other state than its kernel has, or unknown coefficients."""

    def __init__(self, params: Any, name: str, slots: dict[str, float], **coefficients: float) -> None:
        self.recipe, self.given = (name, slots), coefficients
        super().__init__(params, {"lr": 0.1})

    def rule(self, group: Any) -> Any:
        return self.recipe

    def coefficients(self, group: Any, state: Any, first: bool) -> dict[str, float]:
        return dict(self.given)


@pytest.mark.parametrize(("name", "slots", "message"), [
    ("adam", {"exp_avg": 0.0}, r"^the rule 'adam' has 2 state arrays, but Slip names 1 \(exp_avg\); `rule` must name "
                               r"each, in the order of s\[0\], s\[1\], \.\.\.$"),
    ("adam", {}, "^the rule 'adam' has 2 state arrays, but Slip names 0; "),
    ("sgd", {"b": 0.0}, r"^the rule 'sgd' has 0 state arrays, but Slip names 1 \(b\); "),
    ("sdg", {}, "^there is no rule called 'sdg'; did you mean 'sgd'[?]$"),
    ("sgd", {}, "^the rule 'sgd' has the coefficients lr beside grad_scale, max_abs, l2, keep; "
                "`coefficients` lacks lr$")])
def test_what_a_class_says_of_its_rule_is_checked(name: str, slots: dict[str, float], message: str) -> None:
    """One state too few was written beyond its array."""
    array = np.ones(1000, np.float32)
    optimizer = Slip([array], name, slots)
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.step(grads=[np.ones(1000, np.float32)])
    assert (array == 1).all()
    assert not optimizer.state["0"]


@pytest.mark.skipif("traffic0" not in dispatch.kernels(np.dtype(np.float32), dispatch.level),
                    reason="a wheel has no rules of benchmarks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("states", range(4))
def test_the_traffic_of_benchmarks_moves_every_array_once(states: int, dtype: Any) -> None:
    """The limit of bandwidth is honest only if each array is read and written, and the gradient read."""
    array, gradient = np.arange(70, dtype=dtype), np.linspace(1, 2, 70).astype(dtype)
    rule = dispatch.kernel(f"traffic{states}", np.dtype(dtype))
    plan, state = plan_of(rule, array, gradient)
    assert rule.slots == states
    steps.execute([steps.Launch(plan, 0, {"weight": 0.0}, {})])
    assert array.tobytes() == (np.arange(70, dtype=dtype) + gradient).tobytes()
    assert all(each.tobytes() == gradient.tobytes() for each in state)


@pytest.mark.parametrize("width", [16, 32])
def test_sums_of_bytes_are_folded_where_the_cpu_can(width: int) -> None:
    block = 4 * width
    data = np.frombuffer(np.random.default_rng(0).bytes(10 * block), np.uint8)
    for length in (0, block - 1, block + 1, block // 2):
        with pytest.raises(ValueError, match=r"`data` must have a positive multiple of 4 \* `width` bytes"):
            files.crc_fold(data[:length], width)
    if width > files.crc_folds():
        with pytest.raises(ValueError, match="the CPU must fold"):
            files.crc_fold(data, width)
        return
    for length in (block, 2 * block, 10 * block):    # zlib's sum goes on from zero if it is told this value
        assert zlib.crc32(files.crc_fold(data[:length], width), 0xFFFFFFFF) == zlib.crc32(data[:length])


def test_registers_that_sum_are_of_16_or_32_bytes() -> None:
    assert files.crc_folds() in (0, 16, 32)
    for width in (-16, 0, 8, 64):
        with pytest.raises(ValueError, match="the CPU must fold"):
            files.crc_fold(np.zeros(1024, np.uint8), width)


def test_kernels_tell_the_size_of_their_elements() -> None:
    for dtype in (np.float32, np.float64):
        table = dispatch.kernels(np.dtype(dtype), dispatch.level)
        assert {kernel.itemsize for kernel in table.values()} == {np.dtype(dtype).itemsize}
        assert {kernel.kind for kernel in table.values()} == {"rule", "vector", "format", "modifier"}


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
        assert threads.default_num_threads() == count
    file.unlink()
    assert threads.default_num_threads() == 8


def test_nothing_is_no_array_to_overlap_with() -> None:
    with pytest.raises(TypeError, match="`array` must be an array, got None"):
        parameters.AddressRanges([np.ones(2)]).overlaps(None)         # type: ignore[arg-type]


# Kernels and driver --------------------------------------------------------------------------------------------------

STALE = b"optimlite.kernel 00000000"             # a capsule's name must outlive it


@pytest.mark.parametrize("name", [b"adam", "adam"])     # a table of names as text is older
def test_kernels_of_other_sources_are_refused(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is laid out otherwise would be a call to anywhere."""
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    stale = ModuleType("optimlite.native.kernels_f32_baseline")
    row = capsule(id(stale), STALE, None), b"", b""
    stale.kernels = lambda: {name: row}          # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, stale.__name__, stale)
    with pytest.raises(ImportError, match=r"^`optimlite.native.kernels_f32_baseline` was built from other sources than "
                                          r"`optimlite.native.runtime`; run `make build`, or "):
        dispatch.kernels.__wrapped__(np.dtype(np.float32), "baseline")


def test_coefficients_that_are_called_alike_are_refused() -> None:
    module = importlib.import_module(f"optimlite.native.kernels_f32_{dispatch.level}")
    capsule = module.kernels()[b"adam"][0]
    assert runtime.Kernel(b"mine", capsule, b"Adam", b"").fields[:4] == ("grad_scale", "max_abs", "l2", "keep")
    with pytest.raises(TypeError, match=r"^kernel 'mine' must have at most 32 \+ 8 coefficients, none called twice"):
        runtime.Kernel(b"mine", capsule, b"Adam", b"Adam")


NAMES = ROOT / "build/pyx/in_place/coefficients.pxi"         # of the coefficients, which driver and kernels count alike


@pytest.mark.skipif(not NAMES.exists(), reason="needs the sources of what is built in place")
def test_rows_are_known_by_the_declarations_that_they_were_built_from() -> None:
    """After a change of the kernel table, a module that was built before is told from one that fits."""
    declared = zlib.crc32(b"".join(path.read_bytes() for path in [*sorted((ROOT / "pyx").glob("*.pxd")), NAMES]))
    module = importlib.import_module(f"optimlite.native.kernels_f32_{dispatch.level}")
    assert {repr(row[0]).split('"')[1] for row in module.kernels().values()} == {f"optimlite.kernel {declared:08x}"}
