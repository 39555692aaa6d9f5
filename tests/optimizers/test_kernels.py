"""The same bits: every case on every CPU level, thread count, size, type and alignment equals the plain-NumPy twin."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.bits import THREADS, TYPES, Guarded, assert_same, same_bits
from support.cases import AXES, CASES, SHAPES, SIZES, Case, altered, hyper_parameters, per_case

STEPS = 6        # RAdam's first rectified step is the sixth


@cache
def drawn(shapes: tuple[tuple[int, ...], ...], dtype: type) -> list[list[np.ndarray]]:
    """Random arrays, for the parameters and for each step."""
    rng = np.random.default_rng(0)
    return [[rng.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(1 + STEPS)]


@pytest.mark.parametrize("dtype", TYPES)
@per_case
def test_bits_equal_the_twin(case: Case, level: str, dtype: type, threads: None) -> None:
    values, *gradients = drawn(tuple(case.fit(shape) for shape in (SIZES if case.elementwise else [*SIZES, *SHAPES])),
                               dtype)
    twin = case.optimizer([value.copy() for value in values], **case.options)
    for step in gradients:
        for p, g in zip(twin._parameters(), step, strict=True):
            p.grad = g
        reference.step(twin)
    given = [[Guarded(g) for g in step] for step in gradients]
    for count in THREADS:
        ol.set_num_threads(count)
        guarded = [Guarded(value) for value in values]
        optimizer = case.optimizer([item.array for item in guarded], **case.options)
        for step in given:
            optimizer.step(grads=[item.array for item in step])
        assert all(item.intact() for item in guarded)
        assert_same(optimizer, twin)
    for ours, theirs in zip(given, gradients, strict=True):
        assert all(item.intact() and same_bits(item.array, g) for item, g in zip(ours, theirs, strict=True))


def step_both(pair: list[ol.Optimizer], grads: list[Any]) -> None:
    """The first by its kernels, the second by the twin."""
    for optimizer in pair:
        for p, g in zip(optimizer._parameters(), grads, strict=True):
            p.grad = g
    pair[0].step()
    reference.step(pair[1])


@per_case
def test_each_size_alone_and_both_types_in_one_optimizer(case: Case, level: str) -> None:
    rng = np.random.default_rng(1)
    for size in SIZES:
        values = [rng.standard_normal(case.fit(size)).astype(dtype) for dtype in TYPES]
        pair = [case.optimizer([value.copy() for value in values], **case.options) for _ in range(2)]
        for _ in range(STEPS):
            grads = [rng.standard_normal(case.fit(size)).astype(dtype) for dtype in TYPES]
            step_both(pair, grads)
        assert_same(*pair)


@pytest.mark.parametrize("dtype", TYPES)
@per_case
def test_special_values_stay_in_their_element(case: Case, level: str, dtype: type) -> None:
    """NaN, infinities, zeros of both signs and subnormals: as in the twin, and neighbours don't notice, unless the
    rule makes one number of them all.
    """
    info = np.finfo(dtype)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, info.tiny, info.smallest_subnormal, info.max,
                        -info.max], dtype)
    value, grad = (a.astype(dtype).reshape(case.fit(a.size)) for a in np.meshgrid(special, special))
    pair = [case.optimizer([value.copy()], **case.options) for _ in range(2)]
    for _ in range(STEPS):
        for optimizer in pair:
            optimizer._parameters()[0].grad = grad
        pair[0].step()
        reference.step(pair[1])
    assert_same(*pair)
    if not case.elementwise:
        return
    healthy = np.isfinite(value) & (abs(value) < info.max) & np.isfinite(grad) & (abs(grad) < info.max)
    assert np.isfinite(pair[0]._parameters()[0].data[healthy]).all()


@per_case
def test_skipped_parameters_keep_their_own_count(case: Case, level: str) -> None:
    """Some gradients None in some steps: classes of different counts, each as the twin has it (DeepSpeed#8471)."""
    rng = np.random.default_rng(2)
    shapes = [case.fit(shape) for shape in ((3,), (40, 50), (1,), (20_000,), (7, 2))]
    values = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    pair = [case.optimizer([value.copy() for value in values], **case.options) for _ in range(2)]
    for step in range(8):
        grads = [rng.standard_normal(shape).astype(np.float32) if k == step % 5 or (step + k) % (k + 2) else None
                 for k, shape in enumerate(shapes)]
        step_both(pair, grads)
        assert_same(*pair)


@per_case
def test_layouts(case: Case, level: str) -> None:
    """Fortran order, and gradients that are transposed, reversed, broadcast or misaligned, count by their values."""
    rng = np.random.default_rng(3)
    value = rng.standard_normal((33, 17)).astype(np.float32)
    base = rng.standard_normal((33, 17)).astype(np.float32)
    row = np.frombuffer(b"x" + base[0].tobytes(), np.float32, offset=1)
    forms = [base, np.asfortranarray(base), np.ascontiguousarray(base.T).T, base[::-1][:, ::-1],
             np.broadcast_to(row, base.shape), np.broadcast_to(np.float32(0.5), base.shape)]
    for form in forms:
        for order in "CF":
            pair = [case.optimizer([value.copy(order=order)], **case.options) for _ in range(2)]
            for optimizer, g in zip(pair, (form, np.ascontiguousarray(form)), strict=True):
                optimizer._parameters()[0].grad = g
            for _ in range(STEPS):
                pair[0].step()
                reference.step(pair[1])
            assert_same(*pair)
            assert all(a.flags.f_contiguous == (order == "F") for key, a in pair[0].state["0"].items()
                       if a.shape == value.shape and key not in pair[0].line_states)


@pytest.mark.parametrize(("optimizer", "name", "part"), hyper_parameters())
def test_every_hyper_parameter_matters(optimizer: type[ol.Optimizer], name: str, part: int | None) -> None:
    """kozistr#516: changing a hyper-parameter changes the result (in one of the cases: some act on others)."""
    shapes = [{"p": (50, 1) if AXES[optimizer] else (50,)}, {"p": (10, 5)}]
    shapes += [{"p": (50,) + (1,) * (AXES[optimizer] - 1), "q": (5, 4, 3)}] * optimizer.mixes_rows

    def run(options: dict[str, Any]) -> list[bytes]:
        found = []
        for named in shapes:
            rng = np.random.default_rng(4)
            values, *grads = ({name: (k or 1)**3 * rng.standard_normal(shape).astype(np.float32)     # Adafactor clips
                               for name, shape in named.items()} for k in range(STEPS + 1))
            made = optimizer(values, **options)
            for each in grads:
                made.step(grads=each)
            found += [array.tobytes() for p in made._parameters() for array in (p.data, *made.state[p].values())]
        return found

    matters = False
    for case in CASES:
        if case.optimizer is optimizer:
            with contextlib.suppress(ValueError):        # some exclude each other
                matters |= run(case.options) != run(case.options | {name: altered(case, name, part)})
    assert matters
