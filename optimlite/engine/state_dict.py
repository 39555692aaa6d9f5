"""State dicts in torch's layout: out as a snapshot, in by name or position, all checked before anything changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from ..checks import BESIDE, EXECUTION, shown
from ..native.parameters import AddressRanges
from .formats import BFLOAT16, is_bfloat16
from .groups import Grouped
from .halves import LOW, MASTER, with_master
from .parameter import Parameter
from .state import Place, place_of
from .storage import converted, format_of, new_arrays, places, without_formats


class Mismatch(NamedTuple):
    """What a state dict and an optimizer don't have in common: empty lists if all was loaded.

    `defaulted`: options that the state dict doesn't know, from before they existed, and that are off by default.
    """

    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]
    defaulted: list[str]


def save(optimizer: Grouped, copy: bool, plain: bool) -> dict[str, Any]:
    """`plain`: without formats."""
    if optimizer.state.folder is not None:
        optimizer.state.folder.check_whole()
    state, groups, index = {}, [], 0
    for group in optimizer.param_groups:
        count = len(group["params"])
        left_out = "params", *(optimizer.options if plain else ())
        groups.append({key: deepcopy(value) for key, value in group.items() if key not in left_out})
        groups[-1]["params"] = list(range(index, index + count))
        if "param_names" in group:               # of the parameters that are in it now
            groups[-1]["param_names"] = [optimizer.state.name_of(parameter) for parameter in group["params"]]
        for parameter in group["params"]:
            entries: Mapping[str, np.ndarray] = optimizer.state[parameter]
            if entries:
                if plain and optimizer.state_names is not None:
                    exact = converted(optimizer, without_formats(group), parameter,
                                      with_master(parameter, dict(entries)))
                    entries = with_master(parameter, exact)
                state[index] = {key: array.copy(order="K") if copy else array for key, array in entries.items()}
                if optimizer.state_names is not None:
                    state[index] |= pending(optimizer, groups[-1], parameter, entries)
            index += 1
    return {"state": state, "param_groups": groups}


def pending(optimizer: Grouped, group: dict[str, Any], parameter: Parameter,
            entries: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What the next step will add to a state, where an option was switched on since the last one."""
    missing = [key for key in places(optimizer, group, parameter) if key not in entries
               and not (key == LOW and MASTER in entries)]
    return new_arrays(optimizer, group, parameter, missing) if missing else {}


class Deferred:
    """An array that is not in memory yet: its shape and dtype are known, and `read` fetches its values."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self) -> np.ndarray:
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, Any]) -> np.ndarray:      # one among a group's own keys, which are copied
        return self.read().copy()


class Fit(NamedTuple):
    """A state dict matched with an optimizer, which isn't changed yet."""

    problems: Mismatch
    states: list[tuple[Parameter, dict[str, Any]]]
    groups: list[dict[str, Any]]


def load(optimizer: Grouped, state_dict: Mapping[str, Any], strict: bool) -> Mismatch:
    found = fit(optimizer, state_dict)
    refuse(found.problems, strict)
    commit(optimizer, found)
    return found.problems


def refuse(problems: Mismatch, strict: bool) -> None:
    lines = [f"  {kind}: {', '.join(keys)}" for kind, keys in problems._asdict().items()
             if keys and kind != "defaulted"]
    if strict and lines:
        raise ValueError("the state dict doesn't fit the optimizer (strict=False loads what fits):\n"
                         + "\n".join(lines))


def fit(optimizer: Grouped, state_dict: Mapping[str, Any]) -> Fit:
    check_layout(state_dict)
    problems = Mismatch([], [], [], [])
    saved_groups = [dict(group) for group in state_dict["param_groups"]]
    pairs, sources = match(optimizer, saved_groups, problems)
    groups = [new_group(optimizer, group, source, index, problems)
              for index, (group, source) in enumerate(zip(optimizer.param_groups, sources, strict=True))]
    live = AddressRanges(list(optimizer.state.arrays()))
    left = dict(state_dict["state"])             # not a set of indices, which a crafted file could make slow
    for _, index in pairs:
        left.pop(index, None)
    problems.unexpected.extend(f"state[{index!r}]" for index in left)
    owner = {parameter: new for group, new in zip(optimizer.param_groups, groups, strict=True)
             for parameter in group["params"]}
    states = [(parameter, new_state(optimizer, parameter, state_dict["state"].get(index, {}), owner[parameter], live,
                                    problems)) for parameter, index in pairs]
    fitting = [(parameter, entries) for parameter, entries in states if entries is not None]
    if apart := optimizer._check_states([entries for _, entries in fitting]):
        problems.misshapen.extend(apart)
        fitting = []
    return Fit(problems, fitting, groups)


def check_layout(state_dict: Any) -> None:
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
        raise ValueError(f"a state dict must be a dict with the keys 'state' and 'param_groups', got "
                         f"{list(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__}")
    state, groups = state_dict["state"], state_dict["param_groups"]
    if not isinstance(state, Mapping):
        raise TypeError(f"a state dict's 'state' must be a dict, got {type(state).__name__}")
    for index, entries in state.items():
        if not isinstance(entries, Mapping):
            raise TypeError(f"a state dict's state[{index!r}] must be a dict, got {type(entries).__name__}")
    if not isinstance(groups, (list, tuple)) or not all(isinstance(group, Mapping) for group in groups):
        raise TypeError(f"a state dict's 'param_groups' must be a list of dicts, got {type(groups).__name__}")
    for index, group in enumerate(groups):
        params = group.get("params")
        if not isinstance(params, (list, tuple)):
            raise TypeError(f"group {index} of a state dict must have a list 'params', got {shown(params)}")


def match(optimizer: Grouped, saved: list[dict[str, Any]], problems: Mismatch,
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
        for parameter in group["params"]:
            if (name := optimizer.state.name_of(parameter)) not in by_name:
                problems.missing.append(f"parameter '{name}'")
                continue
            index, source = by_name.pop(name)
            pairs.append((parameter, index))
            if not any(source is other for other in found):
                found.append(source)
        if len(found) > 1:
            problems.misshapen.append(f"group {number} gathers parameters of {len(found)} saved groups, "
                                      f"so its hyper-parameters are kept")
        if not group["params"]:                  # no name says which one it is, so its place does
            found = [source for source in saved[number:number + 1] if not source["params"]]
        sources.append(found[0] if len(found) == 1 else dict(group))
    problems.unexpected.extend(f"parameter '{name}'" for name in by_name)
    return pairs, sources


def new_group(optimizer: Grouped, group: dict[str, Any], source: dict[str, Any], index: int,
              problems: Mismatch) -> dict[str, Any]:
    """What a live group becomes: the saved hyper-parameters, validated, and its own keys beyond them."""
    ours = "params", "param_names", *EXECUTION, *optimizer.options       # how state is kept, the live optimizer says
    new = {key: deepcopy(value) for key, value in source.items() if key not in ours}
    for key in optimizer.defaults:
        if key not in (*new, *optimizer.options):
            default = optimizer.defaults[key]
            option = default is None or default is False or key in optimizer.later_options
            if option:
                problems.defaulted.append(f"hyper-parameter `{key}` of group {index}")
            elif key in group:
                problems.missing.append(f"hyper-parameter `{key}` of group {index}")
            new[key] = default if option else group[key]
    totals = optimizer.totals(group)
    for key in [key for key in new if not known(key, (*optimizer.defaults, *totals, *group))]:
        problems.unexpected.append(f"`{key}` of group {index}")
        del new[key]
    problems.missing.extend(f"`{key}` of group {index}" for key in totals if key not in new)
    merged = {**group, **new}
    optimizer.check_group(merged)
    return merged


def known(key: Any, ours: Iterable[Any]) -> bool:
    """Whether a group's key means something here: else it is an option of a newer version, or of another optimizer."""
    return key in ours or key in BESIDE or str(key).startswith("initial_")


def new_state(optimizer: Grouped, parameter: Parameter, saved: Mapping[str, Any], group: dict[str, Any],
              live: AddressRanges, problems: Mismatch) -> dict[str, Any] | None:
    """The saved entries as arrays that fit the parameter, all or None; whatever doesn't fit is noted."""
    entries: dict[str, Any] = {}
    name, names = optimizer.state.name_of(parameter), optimizer.state_names
    if names is not None and ("state1" in saved or any(str(key).startswith("__bnb") for key in saved)):
        from .eight_bits import decoded  # few programs load bitsandbytes' state

        saved = decoded(saved, optimizer.state_shapes(group, parameter), f"state['{name}']")
    # torch's SGD has None before its first momentum
    given = {key: as_array(value) for key, value in saved.items() if value is not None}
    wanted: dict[str, Place] = {}
    scalars = optimizer.scalars_of(group)
    counted = {**scalars, **optimizer.later_scalars}
    if names is not None and given:
        given, wanted = converted(optimizer, group, parameter, given), places(optimizer, group, parameter)
    whole = True
    for key, array in given.items():
        where = f"state['{name}']['{key}']"
        if names is not None and not (key in names or key in wanted or key in scalars):
            problems.unexpected.append(where)
            continue
        like = target(optimizer, parameter, key, wanted, counted)
        if key in optimizer.half_states:
            stored = array.dtype if array.dtype == np.uint16 else parameter.dtype
            like = np.broadcast_to(stored.type(0), parameter.shape)
        if isinstance(array, Deferred) and like is not None and (array.dtype != like.dtype or key in counted):
            array = array.read()
        if reason := misfit(array, like) or (no_count(array) if key in counted else ""):
            problems.misshapen.append(f"{where} {reason}")
            whole = False
            continue
        if isinstance(array, Deferred):
            entries[key] = array
            continue
        if like is not None:
            array = array.astype(like.dtype, copy=False)
        entries[key] = array.copy() if not array.flags.forc or live.overlaps(array) else array
    if given and names is not None:
        missing = [key for key in (*wanted, *scalars) if key not in given]
        problems.missing.extend(f"state['{name}']['{key}']" for key in missing)
        whole = whole and not missing
    return entries if whole else None


def misfit(array: Any, like: np.ndarray | None) -> str:
    """Why an array can't be loaded where `like` stands; empty if it can."""
    if array.dtype.kind not in "biufc":
        return f"is {array.dtype}, not a numeric array"
    if like is not None and "c" in (kinds := {array.dtype.kind, like.dtype.kind}) and len(kinds) > 1:
        return f"is {array.dtype}, which isn't cast to {like.dtype}"
    form = format_of(array.dtype)
    if like is not None and form and like.dtype.kind in "fu" and form is not format_of(like.dtype):
        return f"is {array.dtype}, codes that lack their scales or are of another shape"
    if like is None:
        return ""
    if array.shape != like.shape:
        return f"has shape {array.shape}, not {like.shape}"
    if array.dtype == like.dtype:
        return ""
    with np.errstate(all="ignore"):
        back = array.astype(like.dtype).astype(array.dtype)
    if not np.array_equal(back, array, equal_nan=array.dtype.kind == "f"):
        return f"is {array.dtype} and would lose values as {like.dtype}"
    return ""


def no_count(array: np.ndarray) -> str:
    """Why scalar state, if it is an integer, can't be a number of steps; empty if it can."""
    if array.dtype.kind not in "iu" or 0 <= array <= 1 << 53:
        return ""
    return f"is {array}, and counts go from 0 to 2**53"


def target(optimizer: Grouped, parameter: Parameter, key: str, wanted: Mapping[str, Place],
           scalars: Mapping[str, float]) -> np.ndarray | None:
    """An array of the shape and dtype that an entry of the state has; None where the optimizer doesn't say."""
    if key in wanted:
        return np.broadcast_to(wanted[key].dtype.type(0), wanted[key].shape)
    if (own := optimizer.state[parameter].get(key)) is not None:
        return own
    if optimizer.state_names is None:
        return None
    if key in scalars:
        return np.asarray(scalars[key])
    return np.broadcast_to(parameter.float_type.type(0), parameter.shape)


def as_array(value: Any) -> Any:
    """An array from ours, from a torch tensor, or from a number; what is deferred stays so."""
    if isinstance(value, Deferred):
        return value
    if hasattr(value, "dequantize") and hasattr(value, "codes"):     # torchao's, of 8 or 4 bits
        value = value.dequantize()
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":     # NumPy has no such type; float32 holds all its values
            value = value.float()
        value = (value.to_dense() if value.is_sparse else value).numpy()
    array = np.asarray(value)
    if is_bfloat16(array.dtype):                     # perhaps ml_dtypes'
        array = array.view(BFLOAT16)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def commit(optimizer: Grouped, found: Fit) -> None:
    if optimizer.state.folder is not None:
        optimizer.state.folder.check_process()
    for parameter, entries in found.states:
        state = optimizer.state[parameter]
        for key in [key for key in state if key not in entries]:
            del state[key]
        for key, array in entries.items():
            own = place(optimizer, parameter, key, array)
            if own is not array:
                np.copyto(own, array)
            state[key] = own
    for group, new in zip(optimizer.param_groups, found.groups, strict=True):
        for key in optimizer.totals(new):
            new[key] = refilled(group[key], new[key])
        group.update(new)
    optimizer.state.invalidate()                 # plans sort parameters by scalars, which are others now
    for parameter, _ in found.states:            # which may have been read from the same file
        parameter.update_shadow()


def place(optimizer: Grouped, parameter: Parameter, key: str, array: Any) -> np.ndarray:
    """Where the values of an entry go: the live array if it fits, else a new one, laid out as the parameter."""
    own = optimizer.state[parameter].get(key)
    if own is not None and own.shape == array.shape and own.dtype == array.dtype:
        return own
    return optimizer.state.empty(place_of(parameter, array.shape, array.dtype, key in optimizer.line_states))


def refilled(own: Any, total: np.ndarray) -> np.ndarray:
    """The live array of a group's total, with the value that was loaded."""
    if not isinstance(own, np.ndarray):
        return total
    own[...] = total
    return own
