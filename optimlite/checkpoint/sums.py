"""CRC-32 of a whole from those of its pieces, which may be summed in any order, by several threads."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

from ..native.files import crc_fold, crc_folds

WIDTH = crc_folds()                  # bytes of the registers that sum, 0 where the CPU can't


class Sums:
    """The checksums of arrays, gathered piece by piece, in any order."""

    def __init__(self, count: int) -> None:
        self.found: list[list[tuple[int, int, int]]] = [[] for _ in range(count)]

    def add(self, key: int, offset: int, buffer: Any) -> None:
        """Adds the sum of the bytes at an offset in the array of that key."""
        self.found[key].append((offset, crc32(buffer), buffer.nbytes))

    def results(self) -> list[int]:
        totals = []
        for found in self.found:
            total = 0
            for _, crc, nbytes in sorted(found):
                total = times(shift(nbytes), total) ^ crc
            totals.append(total)
        return totals


def crc32(buffer: Any) -> int:
    """zlib's CRC-32 of bytes, several times as fast where the CPU multiplies polynomials."""
    folded = buffer.nbytes & -4 * WIDTH
    if folded < 1024:
        return zlib.crc32(buffer)
    rest = zlib.crc32(crc_fold(buffer[:folded], WIDTH), 0xFFFFFFFF)      # the value of which a CRC-32 goes on from zero
    return zlib.crc32(buffer[folded:], rest)


def times(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo that of CRC-32; the highest bit is the coefficient of 1."""
    product, bit = 0, 1 << 31
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = b >> 1 ^ (0xEDB88320 if b & 1 else 0)
    return product


@lru_cache(256)
def shift(nbytes: int) -> int:
    """x**(8 * nbytes): what a checksum is multiplied with when `nbytes` more bytes follow."""
    result, square = 1 << 31, 1 << 23
    while nbytes:
        if nbytes & 1:
            result = times(result, square)
        square = times(square, square)
        nbytes >>= 1
    return result
