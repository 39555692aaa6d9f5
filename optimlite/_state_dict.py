"""State dicts in torch's layout: out as a snapshot, in by name or position, all checked before anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._check import EXECUTION
from ._core import Memory
from .parameter import Parameter

if TYPE_CHECKING:
    from .optimizer import Optimizer


class Mismatch(NamedTuple):
    """What a state dict and an optimizer don't have in common: empty lists if all was loaded."""

    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]


def save(optimizer: Optimizer, copy: bool) -> dict[str, Any]:
    state, groups, index = {}, [], 0
    for group in optimizer.param_groups:
        count = len(group["params"])
        groups.append({key: value for key, value in group.items() if key != "params"})
        if "param_names" in group:
            groups[-1]["param_names"] = list(group["param_names"])
        groups[-1]["params"] = list(range(index, index + count))
        for parameter in group["params"]:
            if entries := optimizer.state[parameter]:
                state[index] = {key: array.copy(order="K") if copy else array for key, array in entries.items()}
            index += 1
    return {"state": state, "param_groups": groups}


def load(optimizer: Optimizer, state_dict: Mapping[str, Any], strict: bool) -> Mismatch:
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
        raise ValueError(f"a state dict must be a dict with the keys 'state' and 'param_groups', got "
                         f"{list(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__}")
    problems = Mismatch([], [], [])
    saved_groups = [dict(group) for group in state_dict["param_groups"]]
    pairs, sources = match(optimizer, saved_groups, problems)
    groups = [new_group(optimizer, group, source, index, problems)
              for index, (group, source) in enumerate(zip(optimizer.param_groups, sources, strict=True))]
    live = Memory(list(optimizer.state.arrays()))
    known = {index for _, index in pairs}
    problems.unexpected.extend(f"state[{index!r}]" for index in state_dict["state"] if index not in known)
    owner = {parameter: new for group, new in zip(optimizer.param_groups, groups, strict=True)
             for parameter in group["params"]}
    states = [(parameter, new_state(optimizer, parameter, state_dict["state"].get(index, {}), owner[parameter], live,
                                    problems)) for parameter, index in pairs]
    if strict and any(problems):
        lines = [f"  {kind}: {', '.join(found)}" for kind, found in problems._asdict().items() if found]
        raise ValueError("the state dict doesn't fit the optimizer (strict=False loads what fits):\n"
                         + "\n".join(lines))
    for parameter, entries in states:
        commit(optimizer, parameter, entries)
    for group, new in zip(optimizer.param_groups, groups, strict=True):
        group.update(new)
    return problems


def match(optimizer: Optimizer, saved: list[dict[str, Any]], problems: Mismatch,
          ) -> tuple[list[tuple[Parameter, Any]], list[dict[str, Any]]]:
    """(parameter, its index in the state dict), …, and for each live group the saved one that it takes values from."""
    groups = optimizer.param_groups
    by_name: dict[str, tuple[Any, dict[str, Any]]] = {}
    count = 0
    for group in saved:
        for name, index in zip(group.get("param_names") or (), group["params"], strict=False):
            by_name[name] = index, group
        count += len(group["params"])
    named = len(by_name) == count and all("param_names" in group for group in groups if group["params"])
    if not (named and count and optimizer.state.unique_names()):
        lengths, ours = [len(group["params"]) for group in saved], [len(group["params"]) for group in groups]
        if lengths != ours:
            raise ValueError(f"the state dict has groups of {lengths} parameters, the optimizer has {ours}; "
                             f"name the parameters on both sides to match them by name")
        return [(p, index) for group, source in zip(groups, saved, strict=True)
                for p, index in zip(group["params"], source["params"], strict=True)], saved
    pairs, sources = [], []
    for number, group in enumerate(groups):
        found: list[dict[str, Any]] = []
        for parameter, name in zip(group["params"], group.get("param_names", ()), strict=True):
            if name not in by_name:
                problems.missing.append(f"parameter '{name}'")
                continue
            index, source = by_name.pop(name)
            pairs.append((parameter, index))
            if not any(source is other for other in found):
                found.append(source)
        if len(found) > 1:
            problems.misshapen.append(f"group {number} gathers parameters of {len(found)} saved groups, "
                                      f"so its hyper-parameters are kept")
        sources.append(found[0] if len(found) == 1 else dict(group))
    problems.unexpected.extend(f"parameter '{name}'" for name in by_name)
    return pairs, sources


def new_group(optimizer: Optimizer, group: dict[str, Any], source: dict[str, Any], index: int,
              problems: Mismatch) -> dict[str, Any]:
    """What a live group becomes: the saved hyper-parameters, validated, and its own keys beyond them."""
    new = {key: value for key, value in source.items() if key not in ("params", "param_names", *EXECUTION)}
    for key in optimizer.defaults:
        if key not in new:
            if key in group:
                problems.missing.append(f"hyper-parameter `{key}` of group {index}")
            new[key] = group[key]
    merged = {**group, **new}
    optimizer._check_group(merged)
    return merged


def new_state(optimizer: Optimizer, parameter: Parameter, saved: Mapping[str, Any], group: dict[str, Any],
              live: Memory, problems: Mismatch) -> dict[str, np.ndarray]:
    """The saved entries as arrays that fit the parameter; whatever doesn't is noted."""
    entries: dict[str, np.ndarray] = {}
    name, names = optimizer.state.name_of(parameter), optimizer.state_names
    for key, value in saved.items():
        where = f"state['{name}']['{key}']"
        if value is None:                        # torch's SGD before its first step with momentum
            continue
        array = as_array(value)
        if names is not None and key not in names:
            problems.unexpected.append(where)
            continue
        if names is not None or key in optimizer.state[parameter]:
            shape, dtype = target(optimizer, parameter, key)
            if array.shape != shape:
                problems.misshapen.append(f"{where} has shape {array.shape}, not {shape}")
                continue
            with np.errstate(all="ignore"):
                cast = array.astype(dtype)
                if not np.array_equal(cast.astype(array.dtype), array, equal_nan=array.dtype.kind == "f"):
                    problems.misshapen.append(f"{where} is {array.dtype} and would lose values as {dtype}")
                    continue
            array = cast
        contiguous = array.flags.forc
        entries[key] = array.copy() if not contiguous or live.overlaps(array) else array
    if names is not None and any(value is not None for value in saved.values()):
        needed = [*optimizer.rule(group)[1], *optimizer.scalars]
        problems.missing.extend(f"state['{name}']['{key}']" for key in needed if key not in saved)
    return entries


def target(optimizer: Optimizer, parameter: Parameter, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype that an entry of the state has."""
    if key in optimizer.state[parameter]:
        array = optimizer.state[parameter][key]
        return array.shape, array.dtype
    if key in optimizer.scalars:
        return (), np.asarray(optimizer.scalars[key]).dtype
    return parameter.shape, parameter.dtype


def as_array(value: Any) -> np.ndarray:
    """An array from ours, from a torch tensor, or from a number."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":     # NumPy has no such type; float32 holds all its values
            value = value.float()
        value = value.numpy()
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def commit(optimizer: Optimizer, parameter: Parameter, entries: dict[str, np.ndarray]) -> None:
    state = optimizer.state[parameter]
    for key in [key for key in state if key not in entries]:
        del state[key]
    for key, array in entries.items():
        if key in state and state[key].shape == array.shape and state[key].dtype == array.dtype:
            np.copyto(state[key], array)
        elif array.shape == parameter.shape:
            own = np.empty_like(parameter.data, dtype=array.dtype, subok=False)      # laid out as the parameter
            np.copyto(own, array)
            state[key] = own
        else:
            state[key] = array.copy()
