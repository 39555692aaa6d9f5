"""Optimizers with a gradient and a group for each rate, and the rates that a scheduler gives them."""

from __future__ import annotations

import numpy as np

import optimlite as ol
from support.helpers import rates


def sgd(*rates, **options):
    parameters = [ol.Parameter(np.ones(2)) for _ in rates]
    for parameter in parameters:
        parameter.grad = np.ones(2)
    return ol.SGD([{"params": [p], "lr": lr} for p, lr in zip(parameters, rates, strict=True)], **options)


def values(scheduler, n):
    """Counts 0 to n of group 0, by stepping."""
    seen = [rates(scheduler.optimizer)[0]]
    for _ in range(n):
        scheduler.optimizer.step()
        scheduler.step()
        seen.append(rates(scheduler.optimizer)[0])
    return seen
