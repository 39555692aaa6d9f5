"""Prodigy, D-Adaptation and DoG: what all tensors of a group, or all groups, decide together."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import reference
from support.bits import assert_same, same_bits
from support.helpers import dogs_average, snapshot, values

ONE_D = [ol.Prodigy, ol.DAdaptAdam]


def made(kind: type[ol.Optimizer], second: dict[str, Any] | None = None, **options: Any) -> Any:
    groups = [{"params": {"W": np.linspace(-1, 1, 40).reshape(5, 8)}},
              {"params": {"b": np.ones(7, np.float32), "c": np.array(3.0)}, **(second or {})}]
    return kind(groups, **options)


def toward(optimizer: ol.Optimizer, goal: float = 5.0) -> ol.Optimizer:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = np.sign(p.data - goal)
    return optimizer


@pytest.mark.parametrize("kind", ONE_D)
def test_groups_have_one_d(kind: type[ol.Optimizer]) -> None:
    """Also where one of them has no gradient in a step, and in every copy."""
    one, other = made(kind), made(kind)
    for t in range(25):
        for optimizer in (one, other):
            toward(optimizer)
            if t % 5 == 3:
                optimizer.param_groups[t % 2]["params"][0].grad = None
            if t == 8:
                optimizer.param_groups[1]["params"][1].grad = None
        one.step()
        reference.step(other)
        assert_same(one, other)
        assert all(same_bits(a[key], b[key]) and a[key] is one.param_groups[0][key]
                   for a, b in zip(one.param_groups, other.param_groups, strict=True) for key in one.totals(a))
        if t == 12:
            one = pickle.loads(pickle.dumps(one))
        if t == 16:
            one = copy.deepcopy(one)
        if t == 18:
            fresh = made(kind)
            for group, same in zip(fresh.param_groups, one.param_groups, strict=True):
                for p, q in zip(group["params"], same["params"], strict=True):
                    p.data[...] = q.data
            fresh.load_state_dict(one.state_dict())
            one = fresh
    assert one.param_groups[0]["d"] > 1.5 * one.param_groups[0]["d0"]


@pytest.mark.parametrize("kind", ONE_D)
def test_an_added_group_has_the_d_of_the_others(kind: type[ol.Optimizer]) -> None:
    optimizer = made(kind)
    for _ in range(10):
        toward(optimizer).step()
    optimizer.add_param_group({"params": [np.zeros(3)]})
    assert optimizer.param_groups[2]["d"] is optimizer.param_groups[0]["d"]
    toward(optimizer).step()


@pytest.mark.parametrize("kind", ONE_D)
def test_groups_that_differ_are_refused(kind: type[ol.Optimizer]) -> None:
    for key, value, message in (("lr", 0.5, "`lr` must be the same in all groups of .*, or 0"),
                                ("d0", 1e-3, "`d0` must be the same in all groups"),
                                ("betas", (0.5, 0.9), "`betas` must be the same in all groups"),
                                ("d", 1e-3, r"`d` is one number of all groups; assign it in place: opt.param_groups")):
        optimizer = toward(made(kind))
        optimizer.param_groups[1][key] = value
        optimizer.param_groups[1].update({} if key != "d" else {"d": np.array(value)})
        before = snapshot(optimizer)
        with pytest.raises(ValueError, match=message):
            optimizer.step()
        assert snapshot(optimizer) == before


@pytest.mark.parametrize("kind", ONE_D)
def test_a_group_whose_rate_is_0_stands_still(kind: type[ol.Optimizer]) -> None:
    """From the start, and from a step on, when its moments aren't 0; its decay, too."""
    for first in (0, 4):
        optimizer, without = made(kind, weight_decay=0.1, decouple=True), made(kind, weight_decay=0.1, decouple=True)
        for t in range(10):
            if t == first:
                optimizer.param_groups[1]["lr"] = 0.0
                before = [p.data.copy() for p in optimizer.param_groups[1]["params"]]
            toward(optimizer).step()
            toward(without)
            if t >= first:
                for p in without.param_groups[1]["params"]:
                    p.grad = None
            without.step()
        for held, start in zip(optimizer.param_groups[1]["params"], before, strict=True):
            assert same_bits(held.data, start)
        assert same_bits(optimizer.param_groups[0]["d"], without.param_groups[0]["d"])
        [p], [q] = optimizer.param_groups[0]["params"], without.param_groups[0]["params"]
        assert same_bits(p.data, q.data)


@pytest.mark.parametrize("kind", [*ONE_D, ol.DoG, ol.LDoG])
def test_a_step_without_any_gradient_moves_nothing(kind: type[ol.Optimizer]) -> None:
    """The sum that divides is empty."""
    options = {"eps": 0.0} if kind in (ol.DoG, ol.LDoG) else {"weight_decay": 0.1, "decouple": True}
    optimizer = made(kind, **options)
    start = [p.data.copy() for group in optimizer.param_groups for p in group["params"]]
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = np.zeros_like(p.data)
    optimizer.step()
    found = [p.data for group in optimizer.param_groups for p in group["params"]]
    assert all(same_bits(a, b) for a, b in zip(found, start, strict=True))
    assert all(optimizer.state[p].get("step", 0) == 0 for p in optimizer.state)
    fresh = made(kind, **options)
    for _ in range(3):                           # and the first step is still to come
        toward(optimizer).step()
        toward(fresh).step()
    assert values(optimizer) == values(fresh)


def test_dog_goes_by_the_group_and_ldog_by_the_tensor() -> None:
    for kind in (ol.DoG, ol.LDoG):
        p, q = np.array([3.0, 4.0]), np.array([6.0])
        optimizer = kind([p, q], reps_rel=0.1, eps=0.0)
        optimizer.step(grads=[np.array([1.0, 0.0]), np.array([2.0])])
        rates = [3 - p[0], (6 - q[0]) / 2]
        together = 0.1 * (1 + 61**0.5) / 5**0.5
        wanted = [together] * 2 if kind is ol.DoG else [0.1 * (1 + 5) / 1, 0.1 * (1 + 6) / 2]
        assert np.allclose(rates, wanted, 1e-14)


def test_dogs_average_is_polynomial() -> None:
    """With weights (gamma + 1) / (t + gamma), gamma = 8."""
    p = np.array([1.0])
    average = dogs_average([p])
    expected = 0.0
    for t in range(1, 6):
        p[...] = t * t
        average.update()
        expected = (1 - 9 / (t + 8)) * expected + 9 / (t + 8) * t * t
    assert np.allclose(average.averages[0], expected, 1e-14)
