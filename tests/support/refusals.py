"""What tests of refusals share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import AXES
from support.helpers import content, gradient, model, parameters, snapshot, train


def stepping(optimizer: type[ol.Optimizer] = ol.Adam, steps: int = 3) -> ol.Optimizer:
    """An optimizer in the middle of its work: with state, and gradients for the next step."""
    built = train(optimizer(model(axes=AXES[optimizer])), range(1, steps + 1))
    for index, p in enumerate(parameters(built)):
        p.grad = gradient(99, index, p)
    return built


def assert_refused(act: Callable[[], Any], message: str, *touched: np.ndarray,
                   optimizer: ol.Optimizer | None = None) -> None:
    """`act` raises TypeError or ValueError with a message like `message`, and changes nothing."""
    before = [content(array) for array in touched], optimizer and snapshot(optimizer)
    for _ in range(2):                                       # and it hasn't spoilt what would refuse it once more
        with pytest.raises((TypeError, ValueError), match=message):
            act()
    assert ([content(array) for array in touched], optimizer and snapshot(optimizer)) == before
