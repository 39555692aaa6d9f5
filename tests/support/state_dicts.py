"""State dicts to load, and their contents to compare."""

from __future__ import annotations

import copy
from typing import Any

import optimlite as ol
from support.helpers import content, model, train


def adam(steps: int = 3, **options: Any) -> ol.Optimizer:
    return train(ol.Adam(model(), **options), range(1, steps + 1))


def bits(state_dict: dict[str, Any]) -> Any:
    """A state dict with its arrays' contents, to compare."""
    return ({index: {key: content(array) for key, array in entries.items()}
             for index, entries in state_dict["state"].items()}, copy.deepcopy(state_dict["param_groups"]))
