"""Schedules as functions: the values that the schedulers write, for every kind."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

import optimlite as ol
from support.helpers import SCHEDULES, refusals

NAMES = {"constant": "ConstantLR", "linear": "LinearLR", "exponential": "ExponentialLR", "polynomial": "PolynomialLR",
         "step": "StepLR", "multi_step": "MultiStepLR", "multiplied_by": "LambdaLR", "cosine": "CosineAnnealingLR",
         "cosine_with_restarts": "CosineAnnealingWarmRestarts", "warmup_cosine": "WarmupCosineLR",
         "warmup_stable_decay": "WarmupStableDecayLR", "cyclic": "CyclicLR", "one_cycle": "OneCycleLR"}
OWN = ("cyclic", "one_cycle")


def test_all_are_here() -> None:
    assert set(NAMES) == set(ol.schedules.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_that_the_scheduler_writes(name: str) -> None:
    options = SCHEDULES[NAMES[name]]
    opt = ol.SGD([np.zeros(1)], lr=0.5)
    scheduler = getattr(ol.lr_scheduler, NAMES[name])(opt, **options)
    arguments = {key: value for key, value in options.items() if key != "cycle_momentum"}
    schedule = getattr(ol.schedules, name)(*([] if name in OWN else [0.5]), **arguments)
    for t in range(9):
        assert schedule(t) == opt.param_groups[0]["lr"], t
        opt.step(grads=[np.zeros(1)])
        scheduler.step()


@pytest.mark.parametrize("name", NAMES)
def test_the_signature_says_what_it_takes(name: str) -> None:
    make = getattr(ol.schedules, name)
    names = list(inspect.signature(make).parameters)
    assert (names[0] == "value") == (name not in OWN)
    assert not {"optimizer", "last_epoch", "key", "cycle_momentum"} & set(names)
    assert NAMES[name] in (make.__doc__ or "")


def test_by_position_and_in_a_process_of_its_own() -> None:
    schedule = ol.schedules.cosine(0.1, 100, 0.02)
    assert [schedule(t) for t in (0, 50, 100)] == pytest.approx([0.1, 0.06, 0.02])
    assert pickle.loads(pickle.dumps(schedule))(50) == schedule(50)
    assert repr(schedule).startswith("<schedule of <CosineAnnealingLR(T_max=100, eta_min=0.02)")


test_what_is_refused = refusals([
    (lambda: ol.schedules.cosine(-1, 10), "`value` must be >= 0, got -1"),
    (lambda: ol.schedules.cosine(1, 0), "`T_max` must be an integer >= 1, got 0"),
    (lambda: ol.schedules.cosine(1), "missing a required argument: 'T_max'"),
    (lambda: ol.schedules.cosine(1, 10, key="momentum"), "the schedule of CosineAnnealingLR has no argument `key`"),
    (lambda: ol.schedules.cosine(1, 10)(-1), "`t` must be an integer >= 0, got -1"),
])
