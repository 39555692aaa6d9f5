"""What an optimizer says of its steps: rates, and norms where they were asked for."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.native import dispatch
from support.bits import THREADS, TYPES
from support.cases import CASES
from support.helpers import gradient, model, parameters

DENSE = [case for case in CASES if case.optimizer is not ol.SparseAdam]


def norm(*arrays: Any) -> float:
    return math.sqrt(sum(float((np.asarray(a, np.float64) ** 2).sum()) for a in arrays))


def test_without_asking_there_are_counts_and_rates() -> None:
    w = np.ones(3)
    opt = ol.SGD([w], lr=0.5)
    assert opt.metrics() == {"steps": 0, "skipped_steps": 0, "lr": 0.5}
    opt.step(grads=[np.array([3.0, 0, 4])], max_grad_norm=1.0)
    assert opt.metrics() == {"steps": 1, "skipped_steps": 0, "lr": 0.5, "grad_norm": 5.0}
    opt.step(grads=[np.full(3, np.inf)], skip_nonfinite=True)
    assert opt.metrics() == {"steps": 2, "skipped_steps": 1, "lr": 0.5, "grad_norm": math.inf}


def test_groups_have_a_rate_each_and_what_the_method_found() -> None:
    opt = ol.Prodigy([{"params": [np.ones(3)]}, {"params": [np.ones(2)], "lr": 0.0}])
    opt.step(grads=[[np.ones(3)], [np.ones(2)]])
    found = opt.metrics()
    assert (found["lr/0"], found["lr/1"]) == (1.0, 0.0)
    assert found["d/0"] == float(opt.param_groups[0]["d"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", DENSE, ids=lambda case: case.id)
def test_what_is_measured_is_what_numpy_measures(case: Any, dtype: Any) -> None:
    names = model(dtype, axes=case.axes)
    opt = case.optimizer(names, **case.options)
    opt.watch(1, parameters=True)
    for step in range(3):
        grads = {name: gradient(step, at, array) for at, (name, array) in enumerate(names.items())}
        before = {name: array.copy() for name, array in names.items()}
        opt.step(grads=grads, grad_scale=0.5)
        found = opt.metrics()
        assert found["measured_at"] == step
        assert found["grad_norm"] == pytest.approx(0.5 * norm(*grads.values()), rel=1e-6)
        moved = {name: names[name].astype(np.float64) - before[name] for name in names}
        for name, array in before.items():
            assert found[f"grad_norm/{name}"] == pytest.approx(0.5 * norm(grads[name]), rel=1e-6)
            assert found[f"weight_norm/{name}"] == pytest.approx(norm(array), rel=1e-6)
            assert found[f"update_norm/{name}"] == pytest.approx(norm(moved[name]), rel=1e-4, abs=1e-12)
            assert found[f"update_ratio/{name}"] == pytest.approx(norm(moved[name]) / norm(array), rel=1e-4, abs=1e-12)
        assert found["update_ratio"] == pytest.approx(norm(*moved.values()) / norm(*before.values()), rel=1e-4)
        assert all(type(value) in (int, float) for value in found.values())


def test_measuring_changes_no_bit_and_every_so_many_steps_are_measured() -> None:
    runs = [model() for _ in range(2)]
    plain, watched = (ol.AdamW(names) for names in runs)
    watched.watch(3)
    seen = []
    for step in range(8):
        for opt, names in zip((plain, watched), runs, strict=True):
            opt.step(grads={name: gradient(step, at, a) for at, (name, a) in enumerate(names.items())})
        seen.append(watched.metrics()["measured_at"])
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6]
    assert all(np.array_equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not [key for key in watched.metrics() if "/" in key]
    watched.watch(None)
    assert "measured_at" not in watched.metrics()


@pytest.mark.parametrize(("kind", "options"), [
    (ol.AdamW, {}), (ol.LAMB, {}), (ol.Adafactor, {}), (ol.AdamP, {"weight_decay": 0.1}), (ol.ScheduleFreeAdamW, {}),
    (ol.AdamW, {"state_dtype": "int8"}), (ol.Adam, {"state_dtype": "bfloat16", "cautious": True})],
    ids=lambda value: getattr(value, "__name__", str(value)))
def test_large_arrays_are_measured_tile_by_tile_and_no_bit_changes(kind: Any, options: Any) -> None:
    shapes = (30, 1_501), (9_000,), (130, 4)
    runs = [[np.random.default_rng(1).standard_normal(shape).astype(np.float32) for shape in shapes] for _ in "12"]
    plain, watched = (kind(arrays, **options) for arrays in runs)
    watched.watch(1, parameters=True)
    for step in range(3):
        before = [array.copy() for array in runs[0]]
        grads = [np.cos(array + step) for array in before]
        for opt in (plain, watched):
            opt.step(grads=[grad.copy() for grad in grads], zero_grad=True)
        for one, other in zip(*runs, strict=True):
            assert np.array_equal(one, other)
        for one, other in zip(parameters(plain), parameters(watched), strict=True):
            assert all(np.array_equal(array, watched.state[other][key]) for key, array in plain.state[one].items())
        found = watched.metrics()
        for at, array in enumerate(before):
            assert found[f"grad_norm/{at}"] == pytest.approx(norm(grads[at]), rel=1e-6)
            assert found[f"weight_norm/{at}"] == pytest.approx(norm(array), rel=1e-6)
            assert found[f"update_norm/{at}"] == pytest.approx(norm(runs[0][at].astype(np.float64) - array), rel=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-18, 1e25])
@pytest.mark.parametrize("size", [3, 1_000, 3_001])
def test_squares_beyond_the_range_of_single_precision(scale: float, size: int) -> None:
    w = np.linspace(1, 2, size, dtype=np.float32) * np.float32(scale)
    before, grad = w.copy(), w / 2
    opt = ol.SGD([w], lr=0.5)
    opt.watch(1)
    opt.step(grads=[grad.copy()], zero_grad=True)
    found = opt.metrics()
    assert found["grad_norm"] == pytest.approx(norm(grad), rel=1e-6)
    assert found["weight_norm"] == pytest.approx(norm(before), rel=1e-6)
    assert found["update_norm"] == pytest.approx(norm(w.astype(np.float64) - before), rel=1e-6)


@pytest.mark.parametrize("at", [0, 700, 999, 1_500, 2_999])
def test_what_is_not_finite_is_told(at: int) -> None:
    w, grad = np.ones(3_000, np.float32), np.ones(3_000, np.float32)
    grad[at] = np.inf
    opt = ol.SGD([w], lr=0.5)
    opt.watch(1)
    opt.step(grads=[grad])
    assert opt.metrics()["grad_norm"] == opt.metrics()["update_norm"] == math.inf
    opt.step(grads=[np.zeros_like(grad)])
    assert opt.metrics()["weight_norm"] == math.inf
    assert math.isnan(opt.metrics()["update_norm"])              # inf - inf


@pytest.mark.parametrize("dtype", TYPES)
def test_the_same_bits_on_every_level_and_for_every_thread_count(dtype: Any, level: str, threads: None) -> None:
    def measured(workers: int) -> dict[str, float]:
        ol.set_num_threads(workers)
        arrays = [np.random.default_rng(1).standard_normal(size).astype(dtype) for size in (5, 1_000, 70_003)]
        opt = ol.AdamW(arrays)
        opt.watch(1, parameters=True)
        for _ in range(2):
            opt.step(grads=[np.cos(array) for array in arrays])
        return opt.metrics()

    found = [measured(workers) for workers in THREADS]
    dispatch.level = dispatch.available()[0]     # the fixture puts it back
    assert all(each == measured(1) for each in found)


def test_going_back_to_slow_weights_is_no_update() -> None:
    opt = ol.Lookahead(ol.SGD([np.ones(2)], lr=0.5), k=1, alpha=0.5)
    opt.watch(1)
    opt.step(grads=[np.array([3.0, 4.0])])
    assert opt.metrics()["update_norm"] == 2.5


def test_the_gradients_of_a_skipped_step_are_told_one_by_one() -> None:
    opt = ol.SGD({"a": np.ones(2), "b": np.ones(2)})
    opt.watch(1, parameters=True)
    opt.step(grads={"a": np.array([3.0, 4.0]), "b": np.array([1.0, np.nan])}, skip_nonfinite=True, grad_scale=0.5)
    found = opt.metrics()
    assert found["grad_norm/a"] == 2.5
    assert math.isnan(found["grad_norm/b"])
    assert math.isnan(found["grad_norm"])
    assert "update_norm/a" not in found


def test_a_norm_that_the_last_step_measured_wins_over_that_of_the_step_that_was_watched() -> None:
    opt = ol.SGD([np.zeros(2)], lr=1.0)
    opt.watch(10)
    for scale in (1, 2):
        opt.step(grads=[scale * np.array([3.0, 4.0])], max_grad_norm=1.0)
        assert opt.metrics()["grad_norm"] == opt.last_grad_norm == 5 * scale
    assert opt.metrics()["measured_at"] == 0
    opt.step(grads=[np.ones(2)])
    assert opt.last_grad_norm is None
    assert opt.metrics()["grad_norm"] == 5       # that of the step that was watched


def test_gradients_that_the_step_zeroes_are_measured_before() -> None:
    w = ol.Parameter(np.ones(2))
    w.grad = np.array([3.0, 4.0])
    opt = ol.SGD([w], lr=0.0)
    opt.watch(1)
    opt.step(zero_grad=True)
    assert opt.metrics()["grad_norm"] == 5
    assert opt.metrics()["update_ratio"] == 0


def test_parameters_without_a_gradient_are_left_out_and_strided_ones_are_not() -> None:
    a, b = np.ones((4, 6))[:, ::2], np.ones(3)
    opt = ol.SGD({"a": a, "b": b}, lr=1.0)
    opt.watch(1, parameters=True)
    opt.step(grads={"a": np.full((4, 3), 2.0), "b": None})
    found = opt.metrics()
    assert found["update_norm"] == found["update_norm/a"] == found["grad_norm"] == pytest.approx(math.sqrt(48))
    assert found["weight_norm"] == pytest.approx(math.sqrt(12))
    assert "grad_norm/b" not in found
    opt.step(grads={"a": None, "b": np.zeros(3)})
    assert "grad_norm/a" not in opt.metrics()


def test_sparse_gradients() -> None:
    table = np.ones((5, 2))
    opt = ol.SparseAdam({"table": table}, lr=0.5)
    opt.watch(1, parameters=True)
    opt.step(grads={"table": ol.SparseGrad([3, 3], np.full((2, 2), 2.0))})
    found = opt.metrics()
    assert found["grad_norm/table"] == pytest.approx(math.sqrt(32))
    assert found["grad_norm"] == pytest.approx(math.sqrt(32))
    assert found["update_norm"] == pytest.approx(math.sqrt(0.5))
    assert found["weight_norm"] == pytest.approx(math.sqrt(10))          # before the step, with the rows that stay


def test_a_skipped_step_has_a_gradient_and_no_update() -> None:
    opt = ol.SGD([np.ones(2)])
    opt.watch(1)
    opt.step(grads=[np.array([1.0, np.nan])], skip_nonfinite=True)
    found = opt.metrics()
    assert math.isnan(found["grad_norm"])
    assert "update_norm" not in found


def test_copies_are_not_watched() -> None:
    opt = ol.SGD([np.ones(2)])
    opt.watch(1)
    opt.step(grads=[np.ones(2)])
    assert "measured_at" not in pickle.loads(pickle.dumps(opt)).metrics()


@pytest.mark.parametrize(("given", "message"), [
    ({"every": 0}, "`every` must be an integer >= 1, got 0"), ({"every": "a"}, "`every` must be a number, got 'a'"),
    ({"parameters": 1}, "`parameters` must be True or False, got 1")])
def test_what_is_refused(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.SGD([np.ones(2)]).watch(**given)


def test_closure_methods_say_how_their_iterations_went() -> None:
    w = np.array([3.0, -2.0])
    opt = ol.LBFGS([w], max_iter=5)
    opt.step(lambda: (float(w @ w), [2 * w]))
    found = opt.metrics()
    assert found["loss"] == opt.result.loss
    assert (found["iterations"], found["evaluations"]) == (opt.result.iterations, opt.result.evaluations)
    assert {"steps", "lr", "grad_max", "step_length"} < found.keys()


def test_own_optimizers_have_metrics_too() -> None:
    class Own(ol.Optimizer):
        def step(self, closure: Any = None) -> None:
            for p in parameters(self):
                p.data -= p.grad

    opt = Own([np.ones(2)], {"lr": 0.1})
    opt.step(grads=[np.ones(2)])
    assert opt.metrics() == {"steps": 1, "skipped_steps": 0, "lr": 0.1}
