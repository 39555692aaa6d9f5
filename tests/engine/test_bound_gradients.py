"""What is kept of gradients holds for the next step: after any change, the norm is that of those there are."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import optimlite as ol

Change = Callable[[list[ol.Parameter]], None]


def replace(parameters: list[ol.Parameter]) -> None:
    parameters[1].grad = np.full(parameters[1].shape, 3.0, np.float32)


def change_in_place(parameters: list[ol.Parameter]) -> None:
    parameters[0].grad *= 2


def drop(parameters: list[ol.Parameter]) -> None:
    parameters[0].grad = None


def drop_and_return(parameters: list[ol.Parameter]) -> None:
    kept, parameters[0].grad = parameters[0].grad, None
    parameters[0].grad = kept


def lay_out_otherwise(parameters: list[ol.Parameter]) -> None:
    parameters[2].grad = np.full((8, 6), 5.0, np.float32).T


def change_what_was_copied(parameters: list[ol.Parameter]) -> None:
    lay_out_otherwise(parameters)
    parameters[2].grad[1, 2] = 7.0


def exchange(parameters: list[ol.Parameter]) -> None:
    small, large = parameters[0].grad, parameters[3].grad
    parameters[0].grad, parameters[3].grad = large, small


CHANGES: tuple[Change, ...] = (replace, change_in_place, drop, drop_and_return, lay_out_otherwise,
                               change_what_was_copied, exchange)


def parameters() -> list[ol.Parameter]:
    rng = np.random.default_rng(0)
    made = [ol.Parameter(np.ones(shape, np.float32)) for shape in ((5,), (40_000,), (6, 8), (5,))]
    for parameter in made:
        parameter.grad = rng.standard_normal(parameter.shape).astype(np.float32)
    return made


def norm(given: list[ol.Parameter]) -> float:
    return math.sqrt(sum(float((p.grad.astype(np.float64) ** 2).sum()) for p in given if p.grad is not None))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("optimizer", [ol.Adam, ol.LAMB, ol.Muon])
def test_the_norm_is_that_of_the_gradients_there_are(optimizer: type[ol.Optimizer], change: Change) -> None:
    given = parameters()
    opt = optimizer([{"params": given[2:3]}, {"params": [given[i] for i in (0, 1, 3)], **(
        {"use_muon": False} if optimizer is ol.Muon else {})}])
    for _ in range(2):
        opt.step(max_grad_norm=1.0)
        assert opt.last_grad_norm == pytest.approx(norm(given), rel=1e-6)
    change(given)
    opt.step(max_grad_norm=1.0)
    assert opt.last_grad_norm == pytest.approx(norm(given), rel=1e-6)


def test_a_group_that_joins_counts() -> None:
    given = parameters()
    opt = ol.SGD(given[:2])
    opt.step(max_grad_norm=1.0)
    opt.add_param_group({"params": given[2:]})
    opt.step(max_grad_norm=1.0)
    assert opt.last_grad_norm == pytest.approx(norm(given), rel=1e-6)


def test_a_sparse_gradient_counts_with_the_values_that_it_has() -> None:
    w = np.ones((10, 3), np.float32)
    opt = ol.SparseAdam([w])
    for scale in (1.0, 2.0):
        opt.step(grads=[ol.SparseGrad([1, 4], np.full((2, 3), scale, np.float32))], max_grad_norm=1.0)
        assert opt.last_grad_norm == pytest.approx(scale * math.sqrt(6), rel=1e-6)


def test_gradients_that_came_to_share_memory_are_zeroed_after_both_were_read() -> None:
    a, b = ol.Parameter(np.zeros(4, np.float32)), ol.Parameter(np.zeros(4, np.float32))
    a.grad, b.grad = np.ones(4, np.float32), np.ones(4, np.float32)
    opt = ol.SGD([a, b], lr=1.0)
    opt.step(zero_grad=True)
    a.grad = b.grad = np.ones(4, np.float32)
    opt.step(zero_grad=True)
    assert a.data.tolist() == b.data.tolist() == [-2.0] * 4
    assert a.grad.tolist() == [0.0] * 4


@pytest.mark.parametrize("change", [
    lambda group: group.update(lr=0.5),
    lambda group: group.update(betas=(0.5, 0.9)),
    lambda group: (group.pop("lr"), group.update(lr=0.5)),           # now the last entry
    lambda group: group.update(amsgrad=True),
], ids=["value", "pair", "order", "rule"])
def test_a_changed_value_holds_from_the_next_step(change: Callable[[dict[str, object]], None]) -> None:
    w, v = np.ones(3), np.ones(3)
    opt = ol.Adam([w], lr=0.1)
    opt.step(grads=[np.ones(3)])
    change(opt.param_groups[0])
    opt.step(grads=[np.full(3, 0.1)])
    made = ol.Adam([v], lr=0.1)
    made.step(grads=[np.ones(3)])
    change(made.param_groups[0])
    made = _again(made)
    made.step(grads=[np.full(3, 0.1)])
    assert w.tobytes() == v.tobytes()


def _again(opt: ol.Optimizer) -> ol.Optimizer:
    """The same state and values in an optimizer that has never stepped."""
    group = opt.param_groups[0]
    made = type(opt)([group["params"][0]], **{key: group[key] for key in opt.defaults if key != "params"})
    made.load_state_dict(opt.state_dict())
    return made


@pytest.mark.parametrize("arguments", [{"max_grad_norm": 1e9}, {"zero_grad": True}], ids=["norm", "zeroing"])
def test_a_gradient_that_is_assigned_within_a_step_counts_in_the_next(arguments: dict[str, object],
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread, or a signal handler, may assign when the gradients of this step are bound already."""
    from optimlite.engine import rule_optimizer

    a, b = ol.Parameter(np.zeros(64, np.float32)), ol.Parameter(np.zeros(64, np.float32))
    a.grad, b.grad = np.ones(64, np.float32), np.ones(64, np.float32)
    opt = ol.SGD([a, b], lr=1.0)
    opt.step(**arguments)
    shared, plain = np.full(64, 2.0, np.float32), rule_optimizer.GradientPass

    def between(*given: object) -> rule_optimizer.GradientPass:
        a.grad = b.grad = shared
        return plain(*given)

    monkeypatch.setattr(rule_optimizer, "GradientPass", between)
    opt.step(**arguments)
    monkeypatch.undo()
    a.data[...] = b.data[...] = 0
    shared[...] = 2.0
    opt.step(**arguments)
    assert a.data.tolist() == b.data.tolist() == [-2.0] * 64
    if "max_grad_norm" in arguments:
        assert opt.last_grad_norm == pytest.approx(2 * math.sqrt(128))


def test_a_gradient_that_is_assigned_while_others_are_bound_counts_in_the_next_step() -> None:
    a, b = ol.Parameter(np.zeros(64, np.float32)), ol.Parameter(np.zeros(64, np.float32))
    opt = ol.SGD([a, b], lr=1.0, cast_grads=True)
    a.grad, b.grad = np.ones(64, np.float32), np.ones(64, np.float32)
    opt.step()
    [plan] = opt._plans[0].plans
    reads = plan.reads

    def assigning(dtype: np.dtype) -> object:
        a.grad = np.full(64, 5.0, np.float32)
        return reads(dtype)

    plan.reads, b.grad = assigning, np.ones(64, np.float16)
    opt.step()
    plan.reads, kept = reads, a.data.copy()
    opt.step()
    assert (kept - a.data).tolist() == [5.0] * 64


def test_old_state_is_not_kept() -> None:
    w = ol.Parameter(np.ones(4))
    opt = ol.Adam([w])
    w.grad = np.ones(4)
    opt.step(max_grad_norm=1.0, zero_grad=True)
    old = weakref.ref(opt.state[w]["exp_avg"])
    opt.state[w]["exp_avg"] = np.zeros(4)
    opt.step()
    assert old() is None
