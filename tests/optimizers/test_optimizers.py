"""What users of every optimizer expect to just work, and what none of them accepts."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import assert_same, same_bits
from support.cases import CASES, OPTIMIZERS, SHAPING, Case, altered, hyper_parameters, per_case
from support.helpers import values as everything

SHAPES = {"a": (5, 3), "b": (7,), "c": ()}
RNG = np.random.default_rng(0)
START = {name: RNG.standard_normal(shape) for name, shape in SHAPES.items()}
GRADS = [{name: RNG.standard_normal(shape) for name, shape in SHAPES.items()} for _ in range(12)]

per_case_alone = pytest.mark.parametrize("case", [case for case in CASES if case.alone], ids=lambda case: case.id)


def values(case: Case, *names: str) -> dict[str, np.ndarray]:
    return {name: START[name].reshape(case.fit(SHAPES[name])).copy() for name in names or SHAPES}


def given(optimizer: ol.Optimizer, grads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of the optimizer's parameters, in their shapes."""
    return {name: grads[name].reshape(optimizer.state.find(name).shape) for name in optimizer._names()}


def walk(optimizer: ol.Optimizer, begin: int, end: int) -> ol.Optimizer:
    for grads in GRADS[begin:end]:
        optimizer.step(grads=given(optimizer, grads))
    return optimizer


def assert_equal(optimizer: ol.Optimizer, *others: ol.Optimizer) -> None:
    """Each parameter and its state, by name, is as in the one of the others that has it."""
    for other in others:
        for name in other._names():
            assert same_bits(optimizer.state.find(name).data, other.state.find(name).data), name
            assert list(optimizer.state[name]) == list(other.state[name])
            for key, array in other.state[name].items():
                assert same_bits(optimizer.state[name][key], array), f"{key} of {name}"


@per_case_alone
def test_a_frozen_parameter_stands_still_with_its_state(case: Case) -> None:
    """grad None for some steps: as if those steps had not been, and the others don't notice."""
    optimizer = case.optimizer(values(case), **case.options)
    for step, grads in enumerate(GRADS):
        optimizer.step(grads=given(optimizer, grads) | ({"b": None} if step in (0, 4, 5, 11) else {}))
    others, frozen = (case.optimizer(values(case, *names), **case.options) for names in (("a", "c"), ("b",)))
    walk(others, 0, 12)
    for step, grads in enumerate(GRADS):
        if step not in (0, 4, 5, 11):
            frozen.step(grads=given(frozen, grads))
    assert_equal(optimizer, others, frozen)


@per_case_alone
def test_overrides_of_a_group_are_as_an_optimizer_of_its_own(case: Case) -> None:
    for optimizer, name, part in hyper_parameters():
        if optimizer is not case.optimizer:
            continue
        options = case.options | {name: altered(case, name, part)}
        try:
            alone = optimizer(values(case, "b", "c"), **options)
        except ValueError:                       # two that exclude each other
            continue
        plain = optimizer(values(case, "a"), **case.options)
        both = optimizer([{"params": values(case, "a")}, {"params": values(case, "b", "c"), name: options[name]}],
                         **case.options)
        assert_equal(walk(both, 0, 4), walk(plain, 0, 4), walk(alone, 0, 4))


@per_case
def test_a_hyper_parameter_changed_mid_run_counts_from_the_next_step(case: Case) -> None:
    """As an optimizer made with the new value, that goes on with the state of the old one."""
    for optimizer, name, part in hyper_parameters():
        if optimizer is not case.optimizer or name in SHAPING:
            continue
        changed = altered(case, name, part)
        try:
            fresh = optimizer(values(case), **{**case.options, name: changed})
        except ValueError:
            continue
        old = walk(optimizer(values(case), **case.options), 0, 4)
        for key in SHAPES:
            fresh.state.find(key).data = old.state.find(key).data
            fresh.state[key].update({k: array.copy() for k, array in old.state[key].items()})
        for key in old.totals(old.param_groups[0]):
            fresh.param_groups[0][key][...] = old.param_groups[0][key]
        old.param_groups[0][name] = changed
        assert_equal(walk(old, 4, 8), walk(fresh, 4, 8))


@per_case_alone
def test_a_group_added_mid_run_starts_from_its_own_first_step(case: Case) -> None:
    optimizer = walk(case.optimizer(values(case, "a"), **case.options), 0, 3)
    optimizer.add_param_group({"params": values(case, "b", "c")})
    first = walk(case.optimizer(values(case, "a"), **case.options), 0, 9)
    late = walk(case.optimizer(values(case, "b", "c"), **case.options), 3, 9)
    assert_equal(walk(optimizer, 3, 9), first, late)


@per_case
def test_maximize_is_descent_along_the_negative(case: Case) -> None:
    up, down = (case.optimizer(values(case), **{**case.options, "maximize": maximize}) for maximize in (True, False))
    for grads in GRADS[:4]:
        up.step(grads=given(up, grads))
        down.step(grads={name: -g for name, g in given(down, grads).items()})
    assert_same(up, down)


@per_case
def test_state_lives_where_it_was(case: Case) -> None:
    """Arrays of the state, and of a dict that was loaded, keep their identity; a skipped parameter's stand still."""
    optimizer = walk(case.optimizer(values(case), **case.options), 0, 1)
    live = [(state, dict(state)) for state in optimizer.state.values()]
    before = everything(optimizer)[1:]
    optimizer.step(grads={**given(optimizer, GRADS[1]), "b": None, "c": None})
    assert everything(optimizer)[1:] == before
    optimizer.load_state_dict(optimizer.state_dict())
    walk(optimizer, 2, 3)
    assert all(state[key] is array for state, entries in live for key, array in entries.items())


@per_case_alone
def test_nan_and_overflow_stay_in_their_parameter(case: Case) -> None:
    optimizer = case.optimizer([np.ones((3, 2)) for _ in range(3)], **case.options)
    grads = [np.ones((3, 2)), np.full((3, 2), 0.5), np.full((3, 2), 1e300)]
    grads[0][1, 1] = np.nan
    for _ in range(2):
        optimizer.step(grads=grads)                      # and no warning of NumPy's comes out
    assert np.isfinite(optimizer._parameters()[1].data).all()


@per_case
def test_zero_gradients_are_harmless(case: Case) -> None:
    shapes = [case.fit(shape) for shape in ((), (5,), (0,), (1, 1), (7, 3), (1, 300), (0, 4), (4, 0), (3, 2, 5))]
    optimizer = case.optimizer([np.ones(shape, np.float32) for shape in shapes], **case.options)
    for _ in range(2):
        optimizer.step(grads=[np.zeros(shape, np.float32) for shape in shapes])
    assert all(np.isfinite(p.data).all() for p in optimizer._parameters())


# Refused ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flag", ["foreach", "fused", "capturable", "differentiable"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_torchs_execution_flags_are_refused(optimizer: type[ol.Optimizer], flag: str) -> None:
    with pytest.raises(TypeError, match=f"{optimizer.__name__} has no argument `{flag}`: optimlite's kernels are"):
        optimizer([np.ones((2, 2))], **{flag: True})


# Details of single optimizers ---------------------------------------------------------------------------------------

def test_scalar_state_is_kept_in_64_bits() -> None:
    for case in CASES:
        optimizer = walk(case.optimizer({"b": np.ones(case.fit(7), np.float32)}, **case.options), 0, 0)
        optimizer.step(grads={"b": np.ones(case.fit(7), np.float32)})
        for key, initial in optimizer.scalars_of(optimizer.param_groups[0]).items():
            assert optimizer.state["b"][key].dtype == (np.int64 if isinstance(initial, int) else np.float64)


@pytest.mark.parametrize(("optimizer", "option", "value", "key"), [
    (ol.SGD, "momentum", 0.9, "momentum_buffer"), (ol.RMSprop, "momentum", 0.9, "momentum_buffer"),
    (ol.RMSprop, "centered", True, "grad_avg"), (ol.Adam, "amsgrad", True, "max_exp_avg_sq"),
    (ol.AdamW, "amsgrad", True, "max_exp_avg_sq"),
])
def test_what_needs_another_array_may_be_switched_on_mid_run(optimizer: type[ol.Optimizer], option: str, value: Any,
                                                             key: str) -> None:
    """torch raises KeyError here; the array starts at zero, and switching off leaves it as it is."""
    made = walk(optimizer(values(Case(optimizer, {})), lr=0.01), 0, 3)
    assert key not in made.state["a"]
    made.param_groups[0][option] = value
    walk(made, 3, 5)
    kept = made.state["a"][key].copy()
    assert kept.any()
    made.param_groups[0][option] = type(value)(0)
    walk(made, 5, 7)
    assert same_bits(made.state["a"][key], kept)
    assert made.state["a"].get("step", 7) == 7


def test_centered_rmsprop_survives_a_constant_gradient() -> None:
    """The variance is 0 then, and rounding may leave it below: torch's root of it is NaN."""
    optimizer = ol.RMSprop([np.zeros(1000, np.float32)], lr=1e-6, alpha=0.9, centered=True)
    grad = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    for _ in range(300):
        optimizer.step(grads=[grad])
    [p] = optimizer._parameters()
    below = optimizer.state[p]["square_avg"] < optimizer.state[p]["grad_avg"] ** 2
    assert below.any()
    assert np.isfinite(p.data).all()


def test_rprop_by_hand() -> None:
    optimizer = ol.Rprop({"p": np.zeros(4)}, lr=1.0, etas=(0.5, 2.0), step_sizes=(0.25, 3.0))
    for grad in ([1, 1, 1, 0], [5, -1, nan, 2], [1, -1, 1, 2], [1, 1, 1, -2]):
        optimizer.step(grads={"p": np.array(grad, float)})
    # 1 + 2 + 3 + 3; 1, turned: none, then 0.5 back, turned again: none; 1, NaN: none, 1, then 2; 0, 1, 2, turned: none
    np.testing.assert_array_equal(optimizer.state.find("p").data, [-9.0, -0.5, -4.0, -3.0])
    np.testing.assert_array_equal(optimizer.state["p"]["step_size"], [3.0, 0.25, 2.0, 1.0])
    np.testing.assert_array_equal(optimizer.state["p"]["prev"], [1.0, 0.0, 1.0, 0.0])


def test_asgd_averages_from_t0_on() -> None:
    optimizer = ol.ASGD({"p": np.zeros(())}, lr=1.0, lambd=0.0, t0=2)
    p, averages = optimizer.state.find("p"), []
    for grad in (-1.0, -2.0, -3.0, -4.0, -5.0):
        optimizer.step(grads={"p": grad})
        averages.append(float(optimizer.state["p"]["ax"]))
    assert float(p) == 15.0
    assert averages == [1.0, 3.0, 6.0, 10.0, 12.5]       # mu = 1, 1, 1, 1, 1/2
    assert optimizer.state["p"]["mu"] == 1 / 3


def test_radam_is_momentum_until_the_variance_is_tractable() -> None:
    optimizer = ol.RAdam({"p": np.zeros(1)}, lr=1.0)
    moved = []
    for _ in range(6):
        before = optimizer.state.find("p").data.copy()
        optimizer.step(grads={"p": np.full(1, 4.0)})
        moved.append(float((before - optimizer.state.find("p").data)[0]))
    np.testing.assert_allclose(moved[:5], 4.0)           # the gradient itself
    assert 0 < moved[5] < 0.1                            # rectified: by its sign, with a small rate


def test_novograd_has_one_second_moment_for_a_tensor() -> None:
    optimizer = ol.NovoGrad({"p": np.zeros(2), "late": np.zeros(1)}, lr=1.0, betas=(0.5, 0.75), eps=1.0)
    optimizer.step(grads={"p": np.array([3.0, 4.0]), "late": np.zeros(1)})       # v = 25: p = -g / 6
    optimizer.step(grads={"p": np.zeros(2), "late": np.full(1, 8.0)})            # v = 18.75: m = g / 12; v = 64: 8 / 9
    np.testing.assert_allclose(optimizer.state.find("p").data, [-0.75, -1.0])
    np.testing.assert_allclose(optimizer.state.find("late").data, -8 / 9)
    assert [optimizer.state[name]["exp_avg_sq"] for name in ("p", "late")] == [18.75, 64.0]


def test_adabelief_steps_far_where_gradients_are_as_expected() -> None:
    optimizer = ol.AdaBelief({"steady": np.zeros(1), "wild": np.zeros(1)}, lr=1.0)
    for t in range(50):
        optimizer.step(grads={"steady": np.ones(1), "wild": np.full(1, 1.0 if t % 4 else -1.0)})
    steady, wild = (-float(optimizer.state.find(name).data[0]) for name in ("steady", "wild"))
    assert steady > 4 * wild > 0                 # Adam: twice as far


def test_adagrad_starts_at_the_initial_accumulator_value() -> None:
    optimizer = ol.Adagrad({"p": np.zeros(1)}, lr=1.0, initial_accumulator_value=9.0)
    optimizer.step(grads={"p": np.full(1, 4.0)})
    assert optimizer.state["p"]["sum"] == 25.0
    np.testing.assert_allclose(optimizer.state.find("p").data, -4 / 5)
