"""The rest of a parameter of 16 bits: what it lacks to its master, kept as state or left to chance.  In NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .formats import BFLOAT16, Rounding, halves, noise_of, stochastic_float16, widened
from .shadows import rounded

if TYPE_CHECKING:
    from .parameter import Parameter

LOW, MASTER, LOST = "low_bits", "master", "compensation"
SLOT = 5                         # the random bits of a parameter: those of a slot that no rule has


class Master(NamedTuple):
    """How a parameter of 16 bits stands for a float32."""

    half: str                    # its format
    key: str                     # of the state beside it, if there is any
    dtype: np.dtype              # of that
    kernel: str

    @property
    def unit(self) -> np.float32:
        """Of Kahan's compensation: half of the last bit of 1, so that it is as large as the parameter at most."""
        return np.float32(2**-8 if self.half == "bfloat16" else 2**-11)

    @property
    def least(self) -> np.float32:
        """The least normal number."""
        return np.float32(2**-126 if self.half == "bfloat16" else 2**-14)

    def joined(self, data: np.ndarray, rest: Any) -> np.ndarray:
        """The float32 that a step begins with; what somebody has written to the parameter counts."""
        p: np.ndarray = np.asarray(widened(data), np.float32)
        if self.key == LOW:
            whole = (bits(data).astype(np.uint32) << 16) + rest.view(np.int16).astype(np.uint32)
            p = np.asarray(whole, np.uint32).view(np.float32)
        elif self.key == MASTER:
            p = np.where(bits(rounded(rest, data)) == bits(data), rest, p)
        elif self.key == LOST:
            with np.errstate(all="ignore"):
                lost = np.asarray(widened(rest), np.float32)
                counts = np.abs(lost) <= np.maximum(np.abs(p), self.least)
                p = np.asarray(p + np.where(counts, self.unit * lost, np.float32(0)))
        return p

    def parted(self, values: np.ndarray, rounding: Rounding = None) -> tuple[np.ndarray, np.ndarray | None]:
        """What a step leaves of it: the parameter, and what is kept beside."""
        if not self.key:
            return self.encoded(values, rounding), None
        if self.key == MASTER:
            return self.encoded(values), values
        with np.errstate(all="ignore"):
            if self.key == LOW:
                whole = np.where(np.isnan(values), np.uint32(0x7fc00000), values.view(np.uint32))
                return ((whole + np.uint32(0x8000)) >> 16).astype(np.uint16).view(BFLOAT16), whole.astype(np.uint16)
            stored = self.encoded(values)
            lost = values - np.asarray(widened(stored), np.float32)
            return stored, self.encoded(np.where(np.isfinite(lost), lost / self.unit, np.float32(0)), rounding)

    def encoded(self, values: np.ndarray, rounding: Rounding = None) -> np.ndarray:
        """Values in 16 bits, rounded in the order of memory."""
        order: Any = "F" if values.flags.fnc else "C"
        flat, form = values.ravel(order), stochastic_float16 if self.half == "float16" else halves
        if rounding is None and self.half == "float16":
            with np.errstate(all="ignore"):
                return values.astype(np.float16)
        return form(flat, noise_of(rounding, SLOT, flat.size)).reshape(values.shape, order=order)


NOTHING = np.dtype(np.uint16)    # never read
own_values: Callable[[np.ndarray], np.ndarray] = np.asarray      # while an average is swapped in; set by `swapping`
MASTERS = {
    "float32": (Master("bfloat16", LOW, np.dtype(np.uint16), "split"),
                Master("float16", MASTER, np.dtype(np.float32), "float16")),
    "kahan": (Master("bfloat16", LOST, BFLOAT16, "kahan_bfloat16"),
              Master("float16", LOST, np.dtype(np.float16), "kahan_float16")),
    "none": (Master("bfloat16", "", NOTHING, "bfloat16"), Master("float16", "", NOTHING, "float16")),
}


def master_of(group: Mapping[str, Any], parameter: Parameter) -> Master | None:
    """How a group's parameter keeps its master; None where it has not 16 bits."""
    return MASTERS[group.get("master", "float32")][parameter.half == "float16"] if parameter.half else None


def bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint16)


def master_in(parameter: Parameter, entries: Mapping[str, Any]) -> Master:
    """How a parameter of 16 bits keeps its master, told by its state; as "none" does while there is no state."""
    kinds = [kinds[parameter.half == "float16"] for kinds in MASTERS.values()]
    return next(master for master in kinds if not master.key or master.key in entries)


def exact(parameter: Parameter, entries: Mapping[str, Any]) -> np.ndarray:
    """The float32 that a parameter of 16 bits stands for; another one's array itself."""
    if not parameter.half:
        return parameter.data
    master = master_in(parameter, entries)
    return master.joined(parameter.data, entries.get(master.key))


def gradient_of(parameter: Parameter) -> np.ndarray | None:
    """The gradient in the float type of the parameter's rule."""
    return None if parameter.grad is None else np.asarray(widened(parameter.grad), parameter.float_type)


# In and out ----------------------------------------------------------------------------------------------------------

def to_master(wanted: Master, saved: dict[str, Any]) -> None:
    """Brings saved state to the kind of master that a parameter has; what is left out begins anew.

    A float32 master becomes any; others are the rest of a parameter that may not have been read yet.
    torch's classes load what they don't know as numbers of the parameter's type, which say nothing.
    """
    if MASTER in saved and saved[MASTER].dtype.itemsize < 4:
        del saved[MASTER]
    if LOW in saved and saved[LOW].dtype != np.uint16:
        del saved[LOW]
    values = read(saved[MASTER]) if MASTER in saved and wanted.key != MASTER else None
    if wanted.key == LOST and LOST in saved and saved[LOST].dtype != wanted.dtype:      # bfloat16 as float32
        saved[LOST] = wanted.encoded(np.asarray(read(saved[LOST]), np.float32))
    for key in {LOW, MASTER, LOST} - {wanted.key}:
        saved.pop(key, None)
    if values is not None and wanted.key:
        saved[wanted.key] = wanted.parted(np.asarray(values, np.float32))[1]


def with_master(parameter: Parameter, entries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """State with a float32 master in place of what else is kept of one: rounded, it is the parameter."""
    if parameter.half and (master := master_in(parameter, entries)).key not in ("", MASTER):
        data = own_values(parameter.data)
        exact = master.joined(data, entries.pop(master.key))
        halfway = bits(rounded(exact, data)) != bits(data)
        entries[MASTER] = np.where(halfway, np.nextafter(exact, np.asarray(widened(data), np.float32)), exact)
    return entries


def read(array: Any) -> np.ndarray:
    return np.asarray(array.read() if hasattr(array, "read") else array)
