"""What a parameter of 16 bits lacks to a float32: kept as state, or left to chance; what the kernels do, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .formats import BFLOAT16, Rounding, halves, noise_of, stochastic_float16, widened
from .shadows import rounded

if TYPE_CHECKING:
    from .parameter import Parameter

LOW, MASTER, LOST = "low_bits", "master", "compensation"
SLOT = 5                         # whose random bits are the parameter's: behind all that rules have


class Master(NamedTuple):
    """How the rest of a float32 is kept."""

    key: str | None              # the state that it is, if any
    dtype: np.dtype
    kernel: str


NOTHING = np.dtype(np.uint16)    # never read
MASTERS = {
    ("bfloat16", "float32"): Master(LOW, np.dtype(np.uint16), "split"),
    ("float16", "float32"): Master(MASTER, np.dtype(np.float32), "float16"),
    ("bfloat16", "kahan"): Master(LOST, BFLOAT16, "kahan_bfloat16"),
    ("float16", "kahan"): Master(LOST, np.dtype(np.float16), "kahan_float16"),
    ("bfloat16", None): Master(None, NOTHING, "bfloat16"),
    ("float16", None): Master(None, NOTHING, "float16"),
}
UNIT = {"bfloat16": np.float32(2**-8), "float16": np.float32(2**-11)}    # half of the last bit of 1
LEAST = {"bfloat16": np.float32(2**-126), "float16": np.float32(2**-14)}         # normal number


def master_of(group: Mapping[str, Any], parameter: Parameter) -> Master | None:
    """How a group's parameter keeps its master; None where it has not 16 bits."""
    return MASTERS[parameter.half, group.get("master", "float32")] if parameter.half else None


def bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint16)


def joined(parameter: Parameter, key: str | None, rest: Any) -> np.ndarray:
    """The float32 that a step begins with; what somebody has written to the parameter counts."""
    with np.errstate(all="ignore"):
        p = np.asarray(widened(parameter.data), np.float32)
        if key == LOW:
            whole = (bits(parameter.data).astype(np.uint32) << 16) + rest.view(np.int16).astype(np.uint32)
            return np.asarray(whole, np.uint32).view(np.float32)
        if key == MASTER:
            return np.where(bits(rounded(rest, parameter.data)) == bits(parameter.data), rest, p)
        if key == LOST and parameter.half:
            lost = np.asarray(widened(rest), np.float32)
            counts = np.abs(lost) <= np.maximum(np.abs(p), LEAST[parameter.half])
            return p + np.where(counts, UNIT[parameter.half] * lost, np.float32(0))
        return p


def parted(values: np.ndarray, half: str, key: str | None, rounding: Rounding = None,
           ) -> tuple[np.ndarray, np.ndarray | None]:
    """What a step leaves of float32 values: the parameter, and what is kept beside it."""
    like = np.empty(0, BFLOAT16 if half == "bfloat16" else np.float16)
    if key is None:
        return in_16_bits(values, half, rounding), None
    stored = rounded(values, like)
    if key == MASTER:
        return stored, values
    with np.errstate(all="ignore"):
        if key == LOW:
            whole = values.view(np.uint32)
            quiet = np.where(np.isnan(values), np.uint32(0x7fc00000), whole)
            return (((quiet + np.uint32(0x8000)) >> 16).astype(np.uint16).view(BFLOAT16), quiet.astype(np.uint16))
        lost = values - np.asarray(widened(stored), np.float32)
        lost = np.where(np.isfinite(lost), lost / UNIT[half], np.float32(0))
        return stored, in_16_bits(lost, half, rounding)


def in_16_bits(values: np.ndarray, half: str, rounding: Rounding) -> np.ndarray:
    """As steps round a parameter, in the order of memory."""
    order: Any = "F" if values.flags.fnc else "C"
    flat = values.ravel(order)
    if half == "float16":
        stored = flat.astype(np.float16) if rounding is None else stochastic_float16(
            flat, noise_of(rounding, SLOT, flat.size))
    else:
        stored = halves(flat, noise_of(rounding, SLOT, flat.size))
    return stored.reshape(values.shape, order=order)


def to_master(group: Mapping[str, Any], parameter: Parameter, saved: dict[str, Any]) -> None:
    """Brings saved state to the kind of master that the parameter has; what begins anew is left out.

    A float32 master becomes any; others say how much is lacking to a parameter that may not be read yet.
    """
    wanted = MASTERS[parameter.half or "", group.get("master", "float32")]
    values = read(saved[MASTER]) if MASTER in saved and wanted.key != MASTER else None
    if wanted.key == LOST and LOST in saved and saved[LOST].dtype != wanted.dtype:      # a format's bits, as numbers
        saved[LOST] = in_16_bits(np.asarray(read(saved[LOST]), np.float32), parameter.half or "", None)
    for key in {LOW, MASTER, LOST} - {wanted.key}:
        saved.pop(key, None)
    if values is not None and wanted.key is not None:
        saved[wanted.key] = parted(np.asarray(values, np.float32), parameter.half or "", wanted.key)[1]


def with_master(parameter: Parameter, entries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """State with a float32 master in place of what else is kept of one."""
    for key in (LOW, LOST):
        if key in entries and parameter.half:
            entries[MASTER] = joined(parameter, key, entries.pop(key))
    return entries


def read(array: Any) -> np.ndarray:
    return np.asarray(array.read() if hasattr(array, "read") else array)
