"""How state arrays are stored: a row for each format beside the parameter's own float type."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .method import Storing


class Format(NamedTuple):
    """`decode` and `encode` are what the kernel of this name does, in plain NumPy."""

    dtype: np.dtype
    decode: Callable[[np.ndarray, np.dtype], np.ndarray]
    encode: Callable[[np.ndarray], np.ndarray]


def decode_toy(stored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    values: np.ndarray = (stored.astype(np.uint32) << 16).view(np.float32).astype(dtype)
    return values


def encode_toy(values: np.ndarray) -> np.ndarray:
    bits = values.astype(np.float32).view(np.uint32)
    stored: np.ndarray = ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return stored


FORMATS = {"toy": Format(np.dtype(np.uint16), decode_toy, encode_toy)}


def stored_dtype(method: Storing, key: str, dtype: np.dtype) -> np.dtype:
    """How a method stores a state array of a parameter of this dtype; what has a value for each line stays as it is."""
    return dtype if method.state_format is None or key in method.line_states else FORMATS[method.state_format].dtype
