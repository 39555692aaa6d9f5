"""How state is stored in fewer bytes: what the format kernels do, in plain NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

SHARING = 128                    # elements that share a scale
TILE = 1024                      # elements whose random bits follow from one number
GOLDEN = 0x9e3779b9
LEAST, SPOILT = -122, 127        # exponents of scales: the least, and the mark of a block where something isn't finite
SIGNED, UNSIGNED = 15, 31        # octaves from a scale to the largest value

# NumPy has no bfloat16, the upper half of a float32.  Its bits are uint16, which say what they are.
BFLOAT16 = np.dtype(np.uint16, metadata={"optimlite": "bfloat16"})


def is_bfloat16(dtype: np.dtype) -> bool:
    """Whether it is ours, or ml_dtypes'."""
    return dtype.name == "bfloat16" or (dtype == BFLOAT16 and "optimlite" in (dtype.metadata or ()))


def declared(array: np.ndarray) -> np.ndarray:
    """uint16, which are the bits of bfloat16, as such; anything else as it is."""
    return array.view(BFLOAT16) if array.dtype == np.uint16 else array


def widened(array: Any) -> Any:
    """As float32 what is bfloat16, of which uint16 are the bits; anything else as it is."""
    if array.dtype != np.uint16 and not is_bfloat16(array.dtype):
        return array
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


Rounding = int | None            # 64 bits that a step's random bits follow from; None: to the nearest


class Format(NamedTuple):
    name: str
    dtype: np.dtype
    scaled: bool                 # SHARING elements share a scale, a power of two whose exponent is in another array

    def decode(self, stored: np.ndarray, scales: np.ndarray | None, unsigned: bool) -> np.ndarray:
        """Values as float32, in the order of memory as all here; `unsigned`: of values that are never negative."""
        with np.errstate(all="ignore"):
            if scales is None:
                return (stored.astype(np.uint32) << 16).view(np.float32)
            bits = (stored & (255 if unsigned else 127)).astype(np.uint32) << 20
            z = (bits + np.uint32(0x3f800000)).view(np.float32) - np.float32(1)
            z = z if unsigned else np.where(stored & 128, -z, z)
            sizes = np.where(scales == SPOILT, np.float32(np.nan), np.ldexp(np.float32(1), scales))
            values: np.ndarray = shared(sizes, stored.size) * z
            return values

    def encode(self, values: np.ndarray, rounding: Rounding, slot: int, unsigned: bool,
               ) -> tuple[np.ndarray, np.ndarray | None]:
        """What is stored, and the scales."""
        with np.errstate(all="ignore"):
            flat = values.astype(np.float32)
            noise = noise_of(rounding, slot, flat.size)
            return codes(flat, noise, unsigned) if self.scaled else (halves(flat, noise), None)


FORMATS = {"bfloat16": Format("bfloat16", BFLOAT16, False), "int8": Format("int8", np.dtype(np.uint8), True)}


def shared(scales: np.ndarray, n: int) -> np.ndarray:
    each: np.ndarray = np.repeat(scales, SHARING)[:n]
    return each


def codes(flat: np.ndarray, noise: np.ndarray, unsigned: bool) -> tuple[np.ndarray, np.ndarray]:
    """int8: of 1 + |value| / scale, what stands above 1 in a float32's exponent and the first bits of its fraction."""
    n, sizes = flat.size, np.abs(flat)
    blocks = np.arange(0, n, SHARING)
    largest = np.maximum.reduceat(sizes.view(np.uint32), blocks) if n else np.empty(0, np.uint32)
    octaves = UNSIGNED if unsigned else SIGNED
    exponents = np.maximum((largest >> 23).astype(np.int32) - 126 - octaves, LEAST)
    spoilt = largest >= 0x7f800000
    z = sizes * shared(np.ldexp(np.float32(1), -exponents), n) + np.float32(1)
    code = (z.view(np.uint32) - np.uint32(0x3f800000) + (noise >> 12)) >> 20
    code = np.maximum(code, sizes > 0) if unsigned else code | flat.view(np.uint32) >> 24 & 128
    code[shared(spoilt, n)] = 0
    return code.astype(np.uint8), np.where(spoilt, SPOILT, exponents).astype(np.int8)


def halves(flat: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """bfloat16; what is finite stays finite."""
    bits = flat.view(np.uint32)
    sizes = bits & 0x7fffffff
    bits = bits + np.where(sizes < 0x7f7f0000, noise >> 16, 0).astype(np.uint32)
    bits = np.where(sizes > 0x7f800000, np.uint32(0x7fc00000), bits)
    upper: np.ndarray = (bits >> 16).astype(np.uint16).view(BFLOAT16)
    return upper


def stochastic_float16(flat: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """float16; what is beyond its largest number may be infinite."""
    with np.errstate(all="ignore"):
        bits, random = flat.view(np.uint32), noise >> 19
        size = bits & 0x7fffffff
        moved = np.abs(flat) + (random.astype(np.float32) - np.float32(4095.5)) * np.float32(2**-37)
        small = (moved + np.float32(0.75)).view(np.uint32) - np.uint32(0x3f400000)       # in units of 2^-24
        kept = np.where(size >= 0x38800000, (size - np.uint32(0x38000000) + random) >> 13, small)
        kept = np.where(size < 0x47800000, kept, 0x7c00)
        kept = np.where(size <= 0x7f800000, kept, 0x7e00)
        half: np.ndarray = (kept | bits >> 16 & 0x8000).astype(np.uint16).view(np.float16)
        return half


def nearest_halves(flat: np.ndarray) -> np.ndarray:
    """bfloat16 to the nearest, ties away from 0."""
    return halves(flat, noise_of(None, 0, flat.size))


def scattered(x: np.ndarray) -> np.ndarray:
    """Splitmix64's: each bit of the result depends on all of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
    result: np.ndarray = x ^ (x >> np.uint64(31))
    return result


def rounding_of(group: Mapping[str, Any], step: int) -> Rounding:
    """How a group's state is rounded in its parameters' step of this number."""
    if group.get("rounding") == "nearest":
        return None
    key = scattered(scattered(np.array([group.get("seed", 0)], np.uint64)) + np.uint64(step))
    return int(key[0])


def noise_of(rounding: Rounding, slot: int, n: int) -> np.ndarray:
    """Random bits for each element, one half where the rounding is to the nearest."""
    if rounding is None:
        return np.full(n, 0x80000000, np.uint32)
    tiles = np.arange(0, n, TILE, dtype=np.uint64)
    first = (scattered(np.uint64(rounding) ^ np.uint64(slot << 56) ^ tiles) >> np.uint64(32)).astype(np.uint32)
    block = np.arange(TILE // SHARING, dtype=np.uint32) * np.uint32(GOLDEN)
    place = np.arange(SHARING, dtype=np.uint32) * np.uint32(GOLDEN)
    noise: np.ndarray = ((first[:, None] + block)[:, :, None] ^ place).reshape(-1)[:n]
    return noise
