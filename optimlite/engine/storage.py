"""What a parameter's state consists of as it is kept: each array's shape and layout, and which are in a format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from .. import checks
from . import halves
from .formats import FORMATS, SHARING, Format, Rounding
from .halves import LOST, LOW, MASTER, master_of, read, to_master
from .parameter import Parameter, describe
from .state import Place, fitting, place_of

if TYPE_CHECKING:
    from .method import Group, Storing

SMALL = 4096                     # a tensor with fewer elements isn't worth scales


class Storage(TypedDict, total=False):
    """How an optimizer keeps its state, and reads gradients; a parameter group may say otherwise.

    state_dtype: "bfloat16" (2 bytes an element) or "int8" (1 byte, and 1 for each 128 elements; tensors of fewer than
        4,096 elements stay as they are); None: the parameter's own type.
    master: how much of the rest of a float32 is kept beside parameters of 16 bits: "float32", all of it; "kahan", what
        they were rounded by, in 16 bits; "none", so that they are rounded as `rounding` says.
    rounding: "stochastic" (up or down at random, right in the mean) or "nearest", which loses small changes.
    seed: of the randomness, an integer from 0 to 2**63 - 1.
    cast_grads: gradients may be of another float type than the parameter's, and are converted as they are read.
    """

    state_dtype: str | None
    master: str
    rounding: str
    seed: int
    cast_grads: bool


def seed(name: str, value: Any) -> int:
    if not 0 <= (number := checks.integer(name, value)) < 1 << 63:
        raise ValueError(f"`{name}` must be from 0 to 2**63 - 1, got {number}")
    return number


CHECKS: dict[str, checks.Check] = {"state_dtype": checks.optional(checks.one_of(*FORMATS)),
                                   "master": checks.one_of("float32", "kahan", "none"),
                                   "rounding": checks.one_of("stochastic", "nearest"), "seed": seed,
                                   "cast_grads": checks.flag}


def refused(name: str, value: Any) -> Any:
    """A check of options that an optimizer doesn't take."""
    if value is not None:
        raise ValueError(f"`{name}` can't be had here, got {checks.shown(value)}: the state is of rows or matrices, or "
                         f"must be exact; leave it out")


def no_cast(name: str, value: Any) -> bool:
    """The same of `cast_grads`."""
    if checks.flag(name, value):
        raise ValueError(f"`{name}` can't be had here, where gradients are read by more than the step; "
                         f"use grad.astype(parameter.dtype)")
    return False


# the options of an optimizer that takes none
EXACT: dict[str, checks.Check] = {**dict.fromkeys(CHECKS, refused), "cast_grads": no_cast}
COPIES = {**CHECKS, "state_dtype": refused}      # of one whose state is copies, or a mean, of parameters


class Kept(NamedTuple):
    """How one state array of a parameter is kept in a format."""

    format: Format
    unsigned: bool               # its values are never negative
    slot: int                    # its place among the rule's state arrays

    @property
    def kernel(self) -> str:
        return f"{self.format.name}_unsigned" if self.format.scaled and self.unsigned else self.format.name

    def decode(self, stored: np.ndarray, scales: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
        """The values, in the layout that the scales go by."""
        order: Any = "F" if (stored.flags.fnc if scales is None else scales.ndim > 1) else "C"
        values = self.format.decode(stored.ravel(order), scales, self.unsigned)
        return values.astype(dtype).reshape(stored.shape, order=order)

    def encode(self, values: np.ndarray, rounding: Rounding = None) -> tuple[np.ndarray, np.ndarray | None]:
        """What is stored of values, in their layout, and the scales."""
        order: Any = "F" if values.flags.fnc else "C"
        stored, scales = self.format.encode(values.ravel(order), rounding, self.slot, self.unsigned)
        if scales is not None:
            scales = scales.reshape(shape_of_scales(values))
        return stored.reshape(values.shape, order=order), scales


def shape_of_scales(values: np.ndarray) -> tuple[int, ...]:
    """One for each SHARING elements side by side in memory; two axes where these run down columns."""
    count = -(-values.size // SHARING)
    return (1, count) if values.flags.fnc else (count,)


def scales_of(key: str) -> str:
    """The entry of the state with the scales of another."""
    return f"{key}_scale"


def kept(method: Storing, group: Group, parameter: Parameter) -> dict[str, Kept]:
    """The state arrays of a parameter that are in a format; raises ValueError where none can be."""
    if group.get("state_dtype") and parameter.dtype.kind == "c":
        raise ValueError(f"`state_dtype` can't be had for complex parameters, got {group['state_dtype']!r} for "
                         f"{describe(parameter.name, parameter.shape)}; give it a group with state_dtype=None")
    if not (name := group.get("state_dtype")) or (FORMATS[name].scaled and parameter.tensor_size < SMALL):
        return {}
    exact = {*method.line_states, *method.exact_states}
    return {key: Kept(FORMATS["bfloat16" if key in method.fine_states else name], key in method.unsigned_states, slot)
            for slot, key in enumerate(method.state_shapes(group, parameter)) if key not in exact}


def places(method: Storing, group: Group, parameter: Parameter) -> dict[str, Place]:
    """All arrays of a parameter's state, and how they lie."""
    formats, found = kept(method, group, parameter), {}
    for key, shape in method.state_shapes(group, parameter).items():
        form = formats[key].format if key in formats else None
        found[key] = place_of(parameter, shape, form.dtype if form else parameter.float_type, key in method.line_states)
        if form and form.scaled:
            found[scales_of(key)] = Place(shape_of_scales(parameter.data), np.dtype(np.int8), None)
    if (master := master_of(group, parameter)) and master.key:
        found[master.key] = place_of(parameter, parameter.shape, master.dtype)
    return found


def new_arrays(method: Storing, group: Group, parameter: Parameter, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """Those arrays of a parameter's state as they begin."""
    initial, formats = method.initial_state(group, parameter), kept(method, group, parameter)
    values = {key: in_both_parts(initial.get(key, 0.0), parameter.float_type)
              for key in method.state_shapes(group, parameter)}
    if parameter.half:
        values |= {LOW: np.zeros((), np.uint16), LOST: np.zeros((), np.uint16),
                   MASTER: halves.own_values(parameter.data)}
    for key, form in formats.items():
        values[key], scale = form.encode(values[key])
        if scale is not None:
            [values[scales_of(key)]] = scale
    result = {}
    for key, place in places(method, group, parameter).items():
        if key in wanted:
            result[key] = method.state.empty(place)
            if method.state.folder is None or values[key].any():             # files begin as zeros
                result[key][...] = values[key]
    return result


def in_both_parts(value: float, dtype: np.dtype) -> np.ndarray:
    """A number as an array without axes; complex ones have it twice, as rules see two numbers."""
    return np.array(complex(value, value) if dtype.kind == "c" else value, dtype)


def counts_to_round(method: Storing, group: Group) -> bool:
    """Whether a group's steps are counted for the rounding alone, since the rule needs no count."""
    return rounds(group) and "step" not in method.scalars


def rounds(group: Group) -> bool:
    """Whether a group's steps may round at random."""
    return group.get("state_dtype") is not None or group.get("master", "float32") != "float32"


def without_formats(group: Group) -> Group:
    """The group without formats."""
    return {**group, "state_dtype": None, "master": "float32"}


# Formats that were saved ---------------------------------------------------------------------------------------------

def converted(method: Storing, group: Group, parameter: Parameter, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved state as the parameter keeps it: decoded, and encoded to the nearest, where the formats differ.

    Arrays, as all of `saved`, or what has a shape and a dtype and can be read.  What is kept as it was saved stays
    untouched, and so does what isn't a state of this parameter.
    """
    wanted, result = kept(method, group, parameter), dict(saved)
    for key, shape in method.state_shapes(group, parameter).items():
        if key not in saved or saved[key].shape != shape:
            continue
        one, form, scales = wanted.get(key), format_of(saved[key].dtype), None
        if form is not None and form.scaled:
            scales = saved.get(scales_of(key))
            if scales is None or scales.shape not in either_way(parameter.data.size):
                continue
        same_layout = scales is None or scales.shape == shape_of_scales(parameter.data)
        if same_layout and form is (one.format if one else None):
            continue
        values = read(saved[key])
        if form is not None:
            scales = None if scales is None else read(scales)
            values = Kept(form, key in method.unsigned_states, 0).decode(values, scales, parameter.float_type)
        result.pop(scales_of(key), None)
        if one is not None:
            values, scales = one.encode(fitting(parameter, values))
            if scales is not None:
                result[scales_of(key)] = scales
        result[key] = values
    if master := master_of(group, parameter):
        to_master(master, result)
        result |= new_arrays(method, group, parameter, {LOW, LOST, MASTER} - result.keys())
    if counts_to_round(method, group):
        result.setdefault("step", np.array(0))
    elif "step" not in method.scalars:
        result.pop("step", None)
    return result


def format_of(dtype: np.dtype) -> Format | None:
    """The format that an array of state of this type is in: moments are floats, or codes."""
    return {np.dtype(np.uint16): FORMATS["bfloat16"], np.dtype(np.uint8): FORMATS["int8"]}.get(dtype)


def either_way(size: int) -> tuple[tuple[int, ...], ...]:
    count = -(-size // SHARING)
    return (count,), (1, count)
