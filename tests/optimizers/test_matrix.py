"""Adafactor and Muon: what a step puts in place, what it needs, what it refuses, and that it is all or nothing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from optimlite.engine.whole_matrix import Update
from optimlite.optimizers.muon import orthogonal
from support.bits import assert_same, same_bits
from support.cases import MATRIX_CASES as CASES
from support.cases import Case
from support.helpers import values

MATRICES = [(1, 1), (7, 3), (3, 7), (33, 33), (40, 1), (1, 300), (0, 4), (4, 0), (3, 2, 5), (2, 3, 4, 5), (200, 130)]
VECTORS = [(), (1,), (5,), (0,), (20_000,)]
# Across the edges of tiles of 64 x 1024, and enough of them for threads.
TILED = [(64, 1024), (65, 1025), (63, 1023), (129, 17), (2, 70, 1030), (130, 1100), (500, 3, 3), (40, 60, 1, 1),
         (30, 20, 5, 2), (7, 16, 16, 70), (120_000,)]
ids: Any = {"ids": lambda case: case.id}


def shapes(case: Case) -> list[tuple[int, ...]]:
    return MATRICES if case.optimizer is ol.Muon else MATRICES + VECTORS


def arrays(case: Case, seed: int, dtype: Any, order: Any = "C") -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.array(rng.standard_normal(shape), dtype, order=order) for shape in shapes(case)]


def build(case: Case, dtype: Any = np.float32, order: Any = "C", **options: Any) -> ol.Optimizer:
    return case.optimizer(arrays(case, 0, dtype, order), **{**case.options, **options})


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, **ids)
def test_bits_equal_the_twin(case: Case, level: str, dtype: Any, order: str, threads: None) -> None:
    """On every level, for every number of threads and layout; Muon's products are the BLAS's in both."""
    for count in (1, 3):
        ol.set_num_threads(count)
        one, twin = build(case, dtype, order), build(case, dtype, order)
        for step in range(4):
            grads = [None if (step + k) % 3 == 2 else g for k, g in enumerate(arrays(case, 10 + step, dtype))]
            kept = [None if g is None else g.copy() for g in grads]
            for optimizer in (one, twin):
                for p, g in zip(optimizer._parameters(), grads, strict=True):
                    p.grad = g
            one.step()
            reference.step(twin)
            assert_same(one, twin)
            assert all(a is b is None or same_bits(a, b) for a, b in zip(grads, kept, strict=True))


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", TILED, ids=str)
def test_adafactors_sums_are_the_same_for_everybody(shape: tuple[int, ...], level: str, dtype: Any, order: str,
                                                    threads: None) -> None:
    """Tiles are fixed, and added up in their order; a gradient laid out in another way is read in that order, too."""
    rng = np.random.default_rng(0)
    p, *grads = (np.array(rng.standard_normal(shape) * 10.0**-k, dtype) for k in range(4))
    for count in (1, 2, 8):
        ol.set_num_threads(count)
        one, twin = (ol.Adafactor([np.array(p, order=order)], lr=0.1, eps=(1e-4, 1e-3)) for _ in range(2))
        for g, options in zip(grads, ({}, {"max_grad_value": 0.01}, {"grad_scale": 0.3}), strict=True):
            one._parameters()[0].grad = twin._parameters()[0].grad = g
            one.step(**options)
            reference.step(twin, **options)
            assert_same(one, twin)


@pytest.mark.parametrize("shape", [(6, 4), (5,), (), (3, 2, 4)])
def test_adafactor_is_the_papers_formula(shape: tuple[int, ...]) -> None:
    """Written once more as the docstring has it, in float64."""
    lr, decay, (eps1, eps2), d, shrink = 0.3, -0.6, (1e-3, 0.2), 1.1, 0.05
    rng = np.random.default_rng(0)
    p = rng.standard_normal(shape)
    optimizer = ol.Adafactor([np.array(p)], lr, decay, (eps1, eps2), d, shrink)
    r = c = v = np.zeros(())
    for t in range(1, 8):
        g = np.asarray(rng.standard_normal(shape) * 2.0 ** -t)
        optimizer.step(grads=[g])
        w, square = t ** decay, g * g
        if len(shape) < 2:
            estimate = v = (1 - w) * v + w * square
        else:
            r = (1 - w) * r + w * square.mean(axis=-1, keepdims=True)
            c = (1 - w) * c + w * square.mean(axis=-2, keepdims=True)
            estimate = r * c / np.maximum(r.mean(axis=-2, keepdims=True), eps1)
        u = g / np.sqrt(np.maximum(estimate, eps1 ** 2))
        size = max(eps2, np.sqrt((p * p).mean())) * min(lr, 1 / np.sqrt(t)) / max(1, np.sqrt((u * u).mean()) / d)
        p = (1 - lr * shrink) * p - size * u
        np.testing.assert_allclose(optimizer._parameters()[0].data, p, rtol=1e-12)


@pytest.mark.parametrize("shape", [(30, 30), (60, 20), (20, 60)])
def test_muon_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    """Within [0.65, 1.25] for its coefficients, with the singular vectors of the gradient, in either orientation."""
    u, _, vt = np.linalg.svd(np.random.default_rng(0).standard_normal(shape), full_matrices=False)
    spread = np.linspace(0.1, 1, min(shape))
    x = orthogonal((u * spread) @ vt, (3.4445, -4.775, 2.0315), 5, 1e-7)
    inner = u.T @ x @ vt.T
    assert abs(inner - np.diag(np.diag(inner))).max() < 1e-12
    assert np.diag(inner).min() > 0.65
    assert np.diag(inner).max() < 1.25


@pytest.mark.parametrize("adjust", [None, "original", "match_rms_adamw"])
@pytest.mark.parametrize("order", "CF")
def test_muon_takes_more_axes_as_a_matrix(order: Any, adjust: str | None) -> None:
    """shape[0] rows, and a column for each of the other elements, whatever the layout."""
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((6, 2, 3, 3))
    wide, flat = (ol.Muon([a], lr=0.1, adjust_lr_fn=adjust) for a in (np.array(kernel, order=order),
                                                                      kernel.reshape(6, 18).copy()))
    for _ in range(3):
        g = rng.standard_normal(kernel.shape)
        wide.step(grads=[g])
        flat.step(grads=[g.reshape(6, 18)])
    assert np.array_equal(wide._parameters()[0].data.reshape(6, 18), flat._parameters()[0].data)
    assert wide.state["0"]["momentum_buffer"].shape == kernel.shape


@pytest.mark.parametrize("case", CASES, **ids)
def test_resume_is_exact(case: Case) -> None:
    straight, halves = build(case), build(case)
    for step in range(6):
        straight.step(grads=arrays(case, step, np.float32))
    for step in range(3):
        halves.step(grads=arrays(case, step, np.float32))
    resumed = build(case)
    for p, q in zip(resumed._parameters(), halves._parameters(), strict=True):
        p.data = q.data
    resumed.load_state_dict(pickle.loads(pickle.dumps(halves.state_dict())))
    for continued in (resumed, pickle.loads(pickle.dumps(halves)), copy.deepcopy(halves)):
        for step in range(3, 6):
            continued.step(grads=arrays(case, step, np.float32))
        assert values(continued) == values(straight)


@pytest.mark.parametrize("case", CASES, **ids)
def test_state_lives_where_it_was(case: Case) -> None:
    """Arrays of the state, and of a dict that was loaded, keep their identity; a skipped parameter's stand still."""
    optimizer = build(case)
    optimizer.step(grads=arrays(case, 1, np.float32))
    live = [(state, dict(state)) for state in optimizer.state.values()]
    before = values(optimizer)[1:]
    optimizer.step(grads=[arrays(case, 2, np.float32)[0], *[None] * (len(shapes(case)) - 1)])
    assert values(optimizer)[1:] == before
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step(grads=arrays(case, 3, np.float32))
    assert all(state[key] is array for state, entries in live for key, array in entries.items())


HYPER = [(ol.Adafactor, "lr", 0.02), (ol.Adafactor, "beta2_decay", -0.4), (ol.Adafactor, "eps", (0.5, 1e-3)),
         (ol.Adafactor, "eps", (None, 3.0)), (ol.Adafactor, "d", 1.5), (ol.Adafactor, "weight_decay", 0.1),
         (ol.Adafactor, "maximize", True), (ol.Muon, "lr", 0.02), (ol.Muon, "weight_decay", 0.2),
         (ol.Muon, "momentum", 0.5), (ol.Muon, "nesterov", False), (ol.Muon, "ns_coefficients", (3.0, -4.775, 2.0315)),
         (ol.Muon, "ns_coefficients", (3.4445, -4.0, 2.0315)), (ol.Muon, "ns_coefficients", (3.4445, -4.775, 2.5)),
         (ol.Muon, "eps", 100.0), (ol.Muon, "ns_steps", 4), (ol.Muon, "adjust_lr_fn", "match_rms_adamw")]


@pytest.mark.parametrize(("optimizer", "name", "changed"), HYPER)
def test_every_hyper_parameter_matters(optimizer: Any, name: str, changed: Any) -> None:
    plain, other, late = (optimizer([np.ones((3, 2))], **options) for options in ({}, {name: changed}, {}))
    rng = np.random.default_rng(0)
    late.param_groups[0][name] = changed                # assigned, it counts as if it had been given
    for _ in range(3):
        g = rng.standard_normal((3, 2))
        for built in (plain, other, late):
            built.step(grads=[g])
    assert (plain._parameters()[0].data != other._parameters()[0].data).any()
    assert same_bits(late._parameters()[0].data, other._parameters()[0].data)


def test_every_hyper_parameter_is_in_the_table() -> None:
    for optimizer in (ol.Adafactor, ol.Muon):
        assert set(optimizer([np.ones((2, 2))]).defaults) == {name for made, name, _ in HYPER if made is optimizer}


@pytest.mark.parametrize("case", CASES, **ids)
def test_nan_and_overflow_stay_in_their_parameter(case: Case) -> None:
    optimizer = case.optimizer([np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 2))], **case.options)
    grads = [np.ones((3, 2)), np.full((3, 2), 0.5), np.full((3, 2), 1e300)]
    grads[0][1, 1] = np.nan
    for _ in range(2):
        optimizer.step(grads=grads)                     # and no warning of NumPy's comes out
    first, second, _ = optimizer._parameters()
    assert np.isnan(first.data).any()
    assert np.isfinite(second.data).all()


@pytest.mark.parametrize("case", CASES, **ids)
def test_zero_gradients_are_harmless(case: Case) -> None:
    optimizer = build(case)
    optimizer.step(grads=[np.zeros(shape, np.float32) for shape in shapes(case)])
    assert all(np.isfinite(p.data).all() for p in optimizer._parameters())


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("base", [ol.Muon])
def test_an_update_that_fails_leaves_everything(base: Any, steps: int) -> None:
    class Failing(base):
        fails = False

        def update(self, group: Any, p: np.ndarray, *rest: Any) -> list[Update]:
            if self.fails and len(p) == 2:
                raise MemoryError("as it should")
            return super().update(group, p, *rest)

    optimizer = Failing([np.ones((3, 2)), np.ones((2, 2))])
    grads = [np.ones((3, 2)), np.ones((2, 2))]
    for _ in range(steps):
        optimizer.step(grads=grads)
    before = values(optimizer)
    optimizer.fails = True
    with pytest.raises(MemoryError, match="as it should"):
        optimizer.step(grads=grads)
    assert values(optimizer) == before
    optimizer.fails = False
    optimizer.step(grads=grads)
    assert values(optimizer) != before


def test_a_gradient_may_lie_in_another_parameter() -> None:
    """f = sum(x * y) gives y as x's gradient: both updates come from the values before the step."""
    x, y = np.ones((2, 2)), np.full((2, 2), 3.0)
    for optimizer in (ol.Adafactor, ol.Muon):
        shared, apart = optimizer([x.copy(), y.copy()], lr=0.1), optimizer([x.copy(), y.copy()], lr=0.1)
        p, q = shared._parameters()
        shared.step(grads=[q.data, p.data])
        apart.step(grads=[y, x])
        assert_same(shared, apart)


@pytest.mark.parametrize("options", [{"grad_scale": 0.25}, {"max_grad_norm": 0.5}, {"max_grad_value": 0.3},
                                     {"grad_scale": 0.5, "max_grad_norm": 5.0, "skip_nonfinite": True,
                                      "zero_grad": True}], ids=str)
@pytest.mark.parametrize("case", CASES, **ids)
def test_gradients_within_the_step(case: Case, options: dict[str, Any]) -> None:
    """Scaled, clipped and zeroed as for every optimizer."""
    one, other = build(case), build(case)
    for step in range(3):
        for optimizer in (one, other):
            for p, g in zip(optimizer._parameters(), arrays(case, step, np.float32), strict=True):
                p.grad = g
        one.step(**options)
        reference.step(other, **options)
        assert_same(one, other)
        assert one.last_grad_norm == other.last_grad_norm
        assert all(same_bits(p.grad, q.grad) for p, q in zip(one._parameters(), other._parameters(), strict=True))
        assert all((p.grad == 0).all() for p in one._parameters()) == options.get("zero_grad", False)


# Refusals ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(), (5,)])
def test_muon_refuses_what_is_no_matrix(shape: tuple[int, ...]) -> None:
    vector = np.ones(shape)
    with pytest.raises(ValueError, match=r"'b' must have at least two axes for Muon, got shape .*; give it to AdamW"):
        ol.Muon({"W": np.ones((2, 2)), "b": vector})
    optimizer = ol.Muon({"W": np.ones((2, 2))})
    with pytest.raises(ValueError, match="'b' must have at least two axes"):
        optimizer.add_param_group({"params": {"b": vector}})
    assert len(optimizer.param_groups) == 1
    optimizer.step(grads={"W": np.ones((2, 2))})


VALUES: list[tuple[Any, str, Any, str]] = [
    *((ol.Adafactor, name, -0.1, f"`{name}` must be >= 0, got -0.1") for name in ("lr", "weight_decay")),
    *((ol.Adafactor, name, float("nan"), f"`{name}` must be finite, got nan")
      for name in ("lr", "beta2_decay", "d", "weight_decay")),
    (ol.Adafactor, "beta2_decay", 0.1, "`beta2_decay` must be <= 0, got 0.1"),
    (ol.Adafactor, "d", 0.9, "`d` must be >= 1, got 0.9"),
    (ol.Adafactor, "eps", 1e-3, "`eps` must be a pair of a number or None and a number, got 0.001"),
    (ol.Adafactor, "eps", (-1, 1e-3), r"`eps\[0\]` must be >= 0, got -1"),
    (ol.Adafactor, "eps", (None, float("nan")), r"`eps\[1\]` must be finite, got nan"),
    (ol.Adafactor, "eps", (None, None), r"`eps\[1\]` must be a number, got None"),
    (ol.Adafactor, "maximize", 1, "`maximize` must be True or False"),
    *((ol.Muon, name, -0.1, f"`{name}` must be >= 0, got -0.1") for name in ("lr", "weight_decay", "momentum", "eps")),
    *((ol.Muon, name, float("nan"), f"`{name}` must be finite, got nan")
      for name in ("lr", "weight_decay", "momentum", "eps", "ns_steps")),
    (ol.Muon, "nesterov", 0, "`nesterov` must be True or False"),
    (ol.Muon, "ns_steps", 100, "`ns_steps` must be >= 0 and < 100, got 100"),
    (ol.Muon, "ns_steps", -1, "`ns_steps` must be >= 0 and < 100, got -1"),
    (ol.Muon, "ns_steps", 2.0, "`ns_steps` must be an integer, got 2.0"),
    (ol.Muon, "ns_coefficients", (1, 2), r"`ns_coefficients` must be three numbers, got \(1, 2\)"),
    (ol.Muon, "ns_coefficients", (1, 2, "3"), r"`ns_coefficients\[2\]` must be a number, got '3'"),
    (ol.Muon, "ns_coefficients", (1, float("inf"), 3), r"`ns_coefficients\[1\]` must be finite, got inf"),
    (ol.Muon, "adjust_lr_fn", "match", "`adjust_lr_fn` must be None, 'original' or 'match_rms_adamw', got 'match'"),
    (ol.Muon, "adjust_lr_fn", 1, "`adjust_lr_fn` must be None, 'original' or"),
]


@pytest.mark.parametrize(("optimizer", "name", "value", "message"), VALUES)
def test_bad_hyper_parameters_are_refused(optimizer: Any, name: str, value: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer([np.ones((2, 2))], **{name: value})
    built = optimizer([np.ones((2, 2))])
    built.step(grads=[np.ones((2, 2))])
    before = values(built)
    built.param_groups[0][name] = value
    with pytest.raises((TypeError, ValueError), match=message):
        built.step(grads=[np.ones((2, 2))])
    assert values(built) == before


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], **ids)
def test_state_that_does_not_fit_is_refused(case: Case) -> None:
    built = case.optimizer({"W": np.ones((3, 2), np.float32)})
    built.step(grads={"W": np.ones((3, 2), np.float32)})
    saved = built.state_dict()
    for key in [key for key in saved["state"][0] if key != "step"]:
        kept = built.state["W"][key]
        for wrong in (np.ones((2, 3), np.float32), kept.astype(np.float64)):
            built.state["W"][key] = wrong
            with pytest.raises(ValueError, match=f"state `{key}` of 'W' must be float32 of shape"):
                built.step()
        built.state["W"][key] = kept
        bad = {**saved, "state": {0: {**saved["state"][0], key: np.ones((2, 3), np.float32)}}}
        with pytest.raises(ValueError, match=rf"misshapen: state\['W'\]\['{key}'\] has shape \(2, 3\)"):
            built.load_state_dict(bad)
        without = {name: array for name, array in saved["state"][0].items() if name != key}
        if without:                                          # nothing at all means that it hasn't stepped
            with pytest.raises(ValueError, match=rf"missing: state\['W'\]\['{key}'\]"):
                built.load_state_dict({**saved, "state": {0: without}})
    built.load_state_dict(saved)
    built.step()


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(6, 4), (5, 3, 2), (2, 3, 4, 5)])
@pytest.mark.parametrize("case", [CASES[0], CASES[2]], **ids)
def test_state_replaced_in_another_layout_is_refused(case: Case, shape: tuple[int, ...], order: Any) -> None:
    """A kernel reads the parameter and its state side by side; factors of Adafactor's stand in C order."""
    rng = np.random.default_rng(0)
    p = np.array(rng.standard_normal(shape), order=order)
    built, other = case.optimizer([p]), case.optimizer([p.copy(order="K")])
    for _ in range(4):
        g = rng.standard_normal(shape)
        built.step(grads=[g])
        other.step(grads=[g])
        state = built.state["0"]
        for key in [key for key in state if state[key].ndim]:
            kept, before = state[key], values(built)
            state[key] = kept.copy(order="C" if kept.flags.fnc else "F")
            if state[key].flags.c_contiguous != kept.flags.c_contiguous:
                with pytest.raises(ValueError, match=f"`{key}` of '0' .*must be writeable and .*; assign into it"):
                    built.step(grads=[g])
            state[key] = kept.copy(order="K")
            assert values(built) == before
    assert_same(built, other)
