"""Optimizers with a gradient and a group for each rate, the rates that schedulers give them, and runs of the table."""

from __future__ import annotations

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from support.helpers import rates
from support.scheduler_cases import optimizer, walk


def sgd(*rates, **options):
    parameters = [ol.Parameter(np.ones(2)) for _ in rates]
    for parameter in parameters:
        parameter.grad = np.ones(2)
    return ol.SGD([{"params": [p], "lr": lr} for p, lr in zip(parameters, rates, strict=True)], **options)


class Rate:
    """A constant function, whose attribute a scheduler saves."""

    def __init__(self, rate=1.0):
        self.rate = rate

    def __call__(self, t):
        return self.rate


def steps(scheduler, n):
    """The values of counts 0 to n, of all groups, by stepping."""
    seen = [scheduler.get_last_lr()]
    for _ in range(n):
        scheduler.optimizer.step()
        scheduler.step()
        seen.append(scheduler.get_last_lr())
    return seen


def begun(case, counts):
    """A case's optimizer and schedulers after so many counts."""
    opt = optimizer(case)
    schedulers = case.schedulers(ls, opt)
    walk(case, schedulers, opt, range(counts))
    return opt, schedulers


def named(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def values(scheduler, n, key="lr"):
    """Counts 0 to n of group 0, by stepping."""
    seen = [rates(scheduler.optimizer, key)[0]]
    for _ in range(n):
        scheduler.optimizer.step()
        scheduler.step()
        seen.append(rates(scheduler.optimizer, key)[0])
    return seen
