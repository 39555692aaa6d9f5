"""Parameters that are removed, replaced, pruned or grown, and what becomes of their state."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import shown
from . import nesting
from .groups import Grouped
from .method import Group
from .overlap import refusal, relation
from .parameter import USE_IT, Parameter
from .state import StateMap, fitting, place_of
from .storage import converted, new_arrays


def remove(optimizer: Grouped, parameter: Parameter) -> None:
    changed = optimizer.state.copied()
    changed.forget(parameter)
    group = next((group for group in optimizer.param_groups if any(one is parameter for one in group["params"])), {})
    rest = tuple(one for one in group.get("params", ()) if one is not parameter)
    commit(optimizer, group, rest, nesting.pruned(optimizer._trees, parameter), changed)
    if "param_names" in group:
        group["param_names"] = [optimizer.state.name_of(one) for one in rest]


def commit(optimizer: Grouped, group: Group, parameters: tuple[Parameter, ...], trees: nesting.Trees,
           states: StateMap) -> None:
    optimizer._rearranged()
    adopt, tables = vars(optimizer.state).update, vars(states)
    # No call in between, in which an interrupt could come: it finds all of it done, or none.
    group["params"], optimizer._trees = parameters, trees
    adopt(tables)


def replace(optimizer: Grouped, old: Parameter, new: Any, rows: Any) -> Parameter:
    name = optimizer.state.name_of(old)
    group = group_of(optimizer, old, name)
    parameter = as_parameter(new, old, name)
    optimizer.check_kind(parameter, name, group)
    optimizer.check_parameter(parameter, name, group)
    rivals = [one for one in optimizer.state.sharing(parameter) if one is not old]
    check_apart(optimizer, parameter, rivals, name)
    entries = carried(optimizer, group, old, parameter, rows, name)
    changed, trees = optimizer.state.copied(), optimizer._trees
    for one in rivals:                           # parameters of that name that have left their groups
        changed.forget(one)
        trees = nesting.pruned(trees, one)
    changed.forget(old)
    changed.register(parameter, name)
    if not optimizer.begins_anew:
        dict.update(changed[parameter], entries)
    commit(optimizer, group, tuple(parameter if one is old else one for one in group["params"]),
           [(tree, [parameter if one is old else one for one in parameters]) for tree, parameters in trees], changed)
    return parameter


def check_apart(optimizer: Grouped, parameter: Parameter, rivals: list[Parameter], name: str) -> None:
    """Raises ValueError for a new parameter that has memory of another one in a group."""
    present = set(optimizer._parameters()) if rivals else set()
    for one in rivals:
        if one in present:
            there, how = optimizer.state.name_of(one), relation(one.data, parameter.data) or "are the same"
            raise ValueError(refusal(f"parameter '{there}'", f"the new '{name}'", how,
                                     "give `new` an array of its own, and let the model use that array"))


def group_of(optimizer: Grouped, parameter: Parameter, name: str) -> Group:
    for group in optimizer.param_groups:
        if any(one is parameter for one in group["params"]):
            return group
    raise ValueError(f"'{name}' is in no group any more; add the new array with add_param_group")


def as_parameter(new: Any, old: Parameter, name: str) -> Parameter:
    if isinstance(new, Parameter):
        parameter = new
    else:
        declared = "bfloat16" if old.half == "bfloat16" else None
        parameter = old if new is old.data else Parameter(new, name, dtype=declared)
    if old.shadow is not None and parameter.shadow is None:
        raise TypeError(f"the new '{name}' must have a shadow, as the old one has, got an array; "
                        f"use Parameter(new, shadow=...)")
    parameter.casts = old.casts
    if parameter.dtype != old.dtype:
        raise TypeError(f"the new '{name}' must be {old.dtype} as the old one, got {parameter.dtype}; "
                        f"use new.astype(np.{old.dtype}), {USE_IT}")
    return parameter


def rows_taken(rows: Any, old: np.ndarray, new: np.ndarray, name: str) -> np.ndarray:
    """For each row of `new` the row of `old` that it goes on from, or -1."""
    if not old.ndim or old.shape[1:] != new.shape[1:]:
        raise ValueError(f"`rows` needs arrays that differ in their number of rows alone, and '{name}' of shape "
                         f"{old.shape} was to become {new.shape}; leave `rows` out, and its state begins anew")
    index = np.asarray(rows)
    if index.dtype == bool:
        if index.shape != (len(old),):
            raise ValueError(f"`rows` as a mask must have the shape ({len(old)},) for '{name}', got {index.shape}")
        index = np.flatnonzero(index)
    if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
        raise TypeError(f"`rows` must be a list of the old rows' numbers, or a mask of them, got {shown(rows)}")
    if len(index) > len(new):
        raise ValueError(f"`rows` must have at most {len(new)} items, one for each row of the new '{name}', "
                         f"got {len(index)}")
    if index.size and not -1 <= index.min() <= index.max() < len(old):
        wrong = index.min() if index.min() < -1 else index.max()
        raise ValueError(f"`rows` must be numbers of rows of '{name}', 0 to {len(old) - 1}, or -1 for a new row, "
                         f"got {wrong}")
    result = np.full(len(new), -1)
    result[:len(index)] = index
    return result


def carried(optimizer: Grouped, group: Group, old: Parameter, new: Parameter, rows: Any, name: str,
            ) -> dict[str, np.ndarray]:
    """The state of `new`, made of that of `old`."""
    entries: dict[str, np.ndarray] = dict(optimizer.state[old])
    known = optimizer.state_names is not None
    if rows is None:
        if old.shape != new.shape:
            return {}
        if known and entries:
            entries = converted(optimizer, group, new, entries)
        return {key: fitting(new, array, key in optimizer.line_states) for key, array in entries.items()}
    result = carried_rows(optimizer, {**group, "state_dtype": None}, old, new, rows, name)
    if known and result:
        result = converted(optimizer, group, new, result)
        if "step" in entries:                    # perhaps of a format's rounding alone: `result` was made without
            result["step"] = entries["step"]
    return result


def carried_rows(optimizer: Grouped, group: Group, old: Parameter, new: Parameter, rows: Any, name: str,
                 ) -> dict[str, np.ndarray]:
    """`carried` for `rows`; the state that it returns has no format."""
    known = optimizer.state_names is not None
    entries: dict[str, np.ndarray] = dict(optimizer.state[old])
    if known and entries:
        entries = converted(optimizer, group, old, entries)
    taken = rows_taken(rows, old.data, new.data, name)
    if entries and optimizer.mixes_rows:
        raise ValueError(f"`rows` can't tell what becomes of the state of '{name}', where {type(optimizer).__name__} "
                         f"mixes the rows; leave `rows` out: without, another shape begins anew")
    before = optimizer.state_shapes(group, old) if known else {}
    after = optimizer.state_shapes(group, new) if known else {}
    result = {}
    for key, array in entries.items():
        shape = after.get(key, new.shape)
        if array.ndim and array.shape == before.get(key, old.shape) and shape == (len(new), *array.shape[1:]):
            if key in before:
                result[key] = new_arrays(optimizer, group, new, [key])[key]
            else:
                result[key] = optimizer.state.empty(place_of(new, shape, array.dtype, key in optimizer.line_states))
                result[key].fill(0)
            result[key][taken >= 0] = array[taken[taken >= 0]]
        elif not array.ndim or array.shape == after.get(key):        # state of the columns, or of all elements
            result[key] = array
        else:
            raise ValueError(f"state `{key}` of '{name}' has the shape {array.shape}, which `rows` can't tell how to "
                             f"change; delete it before (del opt.state['{name}']['{key}']), and set it afterwards")
    return result
