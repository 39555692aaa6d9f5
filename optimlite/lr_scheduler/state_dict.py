"""State dicts of schedulers: what fits, and how a user's callables are saved."""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping
from typing import Any

from ..checks import at_least, number, shown


def check_state(scheduler: str, mine: Mapping[str, Any], state: Any, lists: tuple[str, ...]) -> None:
    """Refuses a state dict that isn't of the form of `mine`, where `lists` have a number for each group."""
    if not isinstance(state, Mapping):
        raise TypeError(f"`state_dict` must be a dict, got {type(state).__name__}")
    for name in mine:
        if name not in state:
            raise ValueError(f"`state_dict` must come from {scheduler}.state_dict(); it lacks {name!r}")
    for name in state:
        if name not in mine:
            raise ValueError(f"`state_dict` must come from {scheduler}.state_dict(); it has an unknown {name!r}")
    for name in ("type", "key"):
        if state[name] != mine[name]:
            raise ValueError(f"`state_dict` must have the {name} {mine[name]!r}, got {shown(state[name])}")
    at_least(0)("last_epoch", state["last_epoch"])
    if not isinstance(state["values"], Mapping):
        raise TypeError(f"`state_dict` must have a dict of values, got {type(state['values']).__name__}")
    if set(state["values"]) != set(mine["values"]):
        raise ValueError(f"`state_dict` must have values of {', '.join(mine['values'])}, "
                         f"got {', '.join(map(str, state['values']))}")
    groups = len(mine["values"][mine["key"]])
    for name, values in [*((name, state[name]) for name in lists), *state["values"].items()]:
        if not isinstance(values, (list, tuple)):
            raise TypeError(f"`state_dict` must have a list in {name!r}, got {type(values).__name__}")
        if len(values) != groups:
            raise ValueError(f"`state_dict` must have one entry per group in {name!r}: {groups}, got {len(values)}")
        for value in values:
            number(name, value)


def callable_state(fn: Any) -> dict[str, Any] | None:
    """torch's rule: a callable object is saved as a copy of its attributes, a function not at all."""
    attributes = None if isinstance(fn, types.FunctionType) else getattr(fn, "__dict__", None)
    return copy.deepcopy(attributes)


def check_callable_state(name: str, fn: Any, state: Any) -> None:
    """Raises where `load_callable_state` would, and does nothing else."""
    if state is None:
        return
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise TypeError(f"`state_dict` must have None or the attributes of an object in {name!r}, got {shown(state)}")
    if not hasattr(fn, "__dict__"):
        raise ValueError(f"`state_dict` must have None in {name!r} for a function without attributes, "
                         f"got {shown(state)}")
    copy.deepcopy(dict(state))


def load_callable_state(fn: Any, state: Mapping[str, Any] | None) -> None:
    if state is not None:
        fn.__dict__.update(copy.deepcopy(dict(state)))
