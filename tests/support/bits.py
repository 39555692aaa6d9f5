"""Equality of bits, and arrays at odd offsets between guard bytes."""

from __future__ import annotations

import numpy as np

import optimlite as ol

THREADS = [1, 2, 3, 8]
TYPES = [np.float32, np.float64]
GUARD = 64       # bytes on both sides of an array that nobody may touch


class Guarded:
    """An array at an odd multiple of its element size, between guard bytes."""

    def __init__(self, values: np.ndarray) -> None:
        offset = GUARD + values.itemsize
        self.memory = np.full(offset + values.nbytes + GUARD, 0xA5, np.uint8)
        start = offset + (-self.memory.ctypes.data) % 64
        if start + values.nbytes + GUARD > self.memory.size:
            self.memory = np.full(self.memory.size + 64, 0xA5, np.uint8)
            start = offset + (-self.memory.ctypes.data) % 64
        self.inside = slice(start, start + values.nbytes)
        self.array = self.memory[self.inside].view(values.dtype).reshape(values.shape)
        self.array[...] = values
        assert self.array.ctypes.data % 64 == values.itemsize or not values.size

    def intact(self) -> bool:
        return bool((self.memory[:self.inside.start] == 0xA5).all() and (self.memory[self.inside.stop:] == 0xA5).all())


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal as integers, NaNs in the same places (their payload is free)."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "c":
        return same_bits(a.real, b.real) and same_bits(a.imag, b.imag)
    if a.dtype.kind != "f":
        return bool((a == b).all())
    integers = f"u{a.itemsize}"
    a, b = np.ravel(a), np.ravel(b)
    return bool(((a.view(integers) == b.view(integers)) | (np.isnan(a) & np.isnan(b))).all())


def assert_same(one: ol.Optimizer, other: ol.Optimizer) -> None:
    for p, q in zip(one._parameters(), other._parameters(), strict=True):
        assert same_bits(p.data, q.data), f"parameter of {p.shape}"
        assert list(one.state[p]) == list(other.state[q])
        for key, array in one.state[p].items():
            assert same_bits(array, other.state[q][key]), f"{key} of {p.shape}"
