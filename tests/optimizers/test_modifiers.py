"""Modifiers of any rule: each from its formula once more, on updates that a plain optimizer shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import DECAYING
from support.helpers import label

LR, DECAY = 0.05, 0.4
SHAPES = {"a": (7, 30), "b": (2000,), "c": ()}


def values(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: np.asarray(rng.standard_normal(shape)) for key, shape in SHAPES.items()}


def update(kind: type[ol.Optimizer], options: dict[str, Any], step: int) -> dict[str, tuple[np.ndarray, ...]]:
    """What a step would subtract without decay, from which parameters, and by which gradients."""
    made: Any = kind(start := values(0), **options | {"lr": LR, "weight_decay": 0})
    for t in range(step):
        made.step(grads=values(t + 1))
    before = {key: array.copy() for key, array in start.items()}
    made.step(grads=values(step + 1))
    return {key: (before[key], before[key] - start[key], values(step + 1)[key]) for key in SHAPES}


def modified(kind: type[ol.Optimizer], options: dict[str, Any], step: int, **modifiers: Any) -> dict[str, np.ndarray]:
    """The parameters after the same step with modifiers, which are off until then."""
    made: Any = kind(found := values(0), **options | {"lr": LR, "weight_decay": 0})
    for t in range(step):
        made.step(grads=values(t + 1))
    made.param_groups[0].update(modifiers)
    made.step(grads=values(step + 1))
    return found


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x * x)))


# MARS measures, too, and StableAdamW has a limit of its own.
EVERY = [(ol.AdamW, {}), *((kind, options) for kind, options in DECAYING.items() if kind is not ol.StableAdamW)]
every = pytest.mark.parametrize(("kind", "options"), EVERY, ids=label)


@every
def test_an_update_is_limited(kind: Any, options: dict[str, Any]) -> None:
    for step, limit in ((3, 0.1), (3, 0.3), (5, 1e6)):
        found = modified(kind, options, step, max_update_rms=limit)
        for key, (p, u, _) in update(kind, options, step).items():
            expected = p - u / max(1, rms(u) / (LR * limit))
            np.testing.assert_allclose(found[key], expected, rtol=1e-12, atol=1e-14)


@every
def test_a_cautious_update_is_limited_as_what_is_left_of_it(kind: Any, options: dict[str, Any]) -> None:
    found = modified(kind, options, 4, max_update_rms=0.2, cautious=True)
    for key, (p, u, g) in update(kind, options, 4).items():
        u = u * (u * g > 0) / max(np.mean(u * g > 0), 1e-3)
        np.testing.assert_allclose(found[key], p - u / max(1, rms(u) / (LR * 0.2)), rtol=1e-12, atol=1e-14)


@every
def test_cautious_decay_is_for_what_the_update_makes_smaller(kind: Any, options: dict[str, Any]) -> None:
    found = modified(kind, options, 4, cautious_weight_decay=True, weight_decay=DECAY)
    for key, (p, u, _) in update(kind, options, 4).items():
        keep = np.where(u * p > 0, 1 / (1 + LR * DECAY) if kind is ol.Adan else 1 - LR * DECAY, 1)
        np.testing.assert_allclose(found[key], keep * p - u, rtol=1e-12, atol=1e-14)
        assert key == "c" or len(np.unique(keep)) == 2


@pytest.mark.parametrize(("kind", "options"), [*EVERY, (ol.StableAdamW, {})], ids=label)
def test_corrected_decay_is_decay_by_a_smaller_share(kind: Any, options: dict[str, Any]) -> None:
    found = modified(kind, options, 4, corrected_weight_decay=8 * LR, weight_decay=DECAY)
    for key, array in modified(kind, options, 4, weight_decay=DECAY / 8).items():
        np.testing.assert_allclose(found[key], array, rtol=1e-14, atol=1e-15)


def test_the_largest_rate_is_that_of_the_group_when_it_is_asked_for() -> None:
    opt = ol.AdamW([{"params": {"a": np.ones(2)}}, {"params": {"b": np.ones(2)}, "lr": 0.25}], lr=0.5,
                   corrected_weight_decay=True)
    schedule = ol.lr_scheduler.StepLR(opt, 1)
    opt.step(grads={"a": np.ones(2), "b": np.ones(2)})
    schedule.step()
    opt.add_param_group({"params": {"c": np.ones(2)}, "lr": 0.125})
    assert [group["corrected_weight_decay"] for group in opt.param_groups] == [0.5, 0.25, 0.125]
    assert opt.param_groups[0]["lr"] == 0.05
    other = ol.AdamW([{"params": {"a": np.ones(2)}}, {"params": {"b": np.ones(2)}}, {"params": {"c": np.ones(2)}}],
                     lr=3.0, corrected_weight_decay=True)
    other.load_state_dict(opt.state_dict())      # and it goes where the rest of the group goes
    assert [group["corrected_weight_decay"] for group in other.param_groups] == [0.5, 0.25, 0.125]


def test_an_update_of_zeros_stays_zero() -> None:
    w = np.ones(4)
    ol.SGD([w], lr=0.5, cautious=True, max_update_rms=0.1).step(grads=[np.zeros(4)])
    assert (w == 1).all()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: ol.Adam([np.ones(2)], cautious_weight_decay=True),
     r"^`cautious_weight_decay` needs decoupled_weight_decay=True, got cautious_weight_decay=True without it$"),
    (lambda: ol.NAdam([np.ones(2)], corrected_weight_decay=0.5),
     r"^`corrected_weight_decay` needs decoupled_weight_decay=True, got corrected_weight_decay=0.5 without it$"),
    (lambda: ol.AdamW([np.ones(2)], lr=0, corrected_weight_decay=True),
     "^`corrected_weight_decay` must be the largest learning rate where `lr` begins with 0, got True; give that rate"),
], ids=["cautious", "corrected", "rate"])
def test_what_modifies_no_decay_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_modifier_that_is_refused_mid_run_leaves_everything() -> None:
    w = np.ones(3)
    opt = ol.Adam({"w": w})
    opt.step(grads={"w": np.ones(3)})
    before, state = w.copy(), opt.state_dict()
    opt.param_groups[0]["cautious_weight_decay"] = True
    with pytest.raises(ValueError, match="needs decoupled_weight_decay=True"):
        opt.step(grads={"w": np.ones(3)})
    assert (w == before).all()
    assert all((opt.state["w"][key] == array).all() for key, array in state["state"][0].items())
