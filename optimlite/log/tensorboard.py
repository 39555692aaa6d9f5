"""TensorBoard's event files, without TensorFlow: records of protocol buffers, by hand.

A record is its length, a checksum of that, the bytes and their checksum.  The bytes are an Event: wall time, step, and
a Summary with a name and a float for each metric.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator

from ..checks import path_of
from .writer import Writer

WALL_TIME, STEP, FILE_VERSION, SUMMARY = 1, 2, 3, 5      # fields of Event
VALUE = 1                                                # of Summary
TAG, SIMPLE_VALUE = 1, 2                                 # of Summary.Value
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5             # how a field is stored


class TensorBoard(Writer):
    """An event file in a folder: `tensorboard --logdir FOLDER` draws its scalars.

    folder: made if it isn't there; each run has one of its own, and every object writes a new file in it.

    Values are kept in float32, as TensorBoard does.  Raises TypeError for what is no path, and OSError where a folder
    can't be made or written to.

        >>> with ol.log.TensorBoard("runs/one") as log:
        ...     log.write(0, {"loss": 0.5})
        >>> ol.log.read("runs/one")["loss"]
        array([0.5])
    """

    _made = 0                                    # by this process: files of one second have different names

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        folder = path_of(folder, "folder")
        os.makedirs(folder, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{TensorBoard._made}"
        TensorBoard._made += 1
        super().__init__(open(os.path.join(folder, name), "xb"))  # noqa: SIM115 - it stays open
        self._file.write(record(double(WALL_TIME, time.time()) + delimited(FILE_VERSION, b"brain.Event:2")))
        self._file.flush()

    def _write(self, step: int, metrics: dict[str, float]) -> None:
        values = b"".join(delimited(VALUE, delimited(TAG, name.encode()) + single(SIMPLE_VALUE, value))
                          for name, value in metrics.items())
        self._file.write(record(double(WALL_TIME, time.time()) + integer(STEP, step) + delimited(SUMMARY, values)))


# Protocol buffers ----------------------------------------------------------------------------------------------------

def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    value &= (1 << 64) - 1                       # negative ones in two's complement
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + bytes([value])


def key(field: int, stored: int) -> bytes:
    return varint(field << 3 | stored)


def integer(field: int, value: int) -> bytes:
    return key(field, VARINT) + varint(value)


def double(field: int, value: float) -> bytes:
    return key(field, FIXED64) + struct.pack("<d", value)


def single(field: int, value: float) -> bytes:
    try:
        return key(field, FIXED32) + struct.pack("<f", value)
    except OverflowError:                        # beyond float32
        return single(field, float("inf") if value > 0 else float("-inf"))


def delimited(field: int, data: bytes) -> bytes:
    return key(field, BYTES) + varint(len(data)) + data


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a message: numbers of eight and four bytes as these bytes."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        stored = tag & 7
        if stored == VARINT:
            value, at = read_varint(data, at)
            yield tag >> 3, value
            continue
        if stored == BYTES:
            size, at = read_varint(data, at)
        elif stored in (FIXED64, FIXED32):
            size = 8 if stored == FIXED64 else 4
        else:
            raise ValueError(f"an event has a field of the unknown kind {stored}")
        yield tag >> 3, data[at:at + size]
        at += size


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("an event ends in the middle of a number")
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at


# Records -------------------------------------------------------------------------------------------------------------

def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def records(data: bytes) -> Iterator[bytes]:
    """The whole records of a file; one that is being written is left out.  Raises ValueError for a damaged one."""
    at = 0
    while at + 12 <= len(data):
        [size, check] = struct.unpack_from("<QI", data, at)
        if masked(data[at:at + 8]) != check:
            raise ValueError(f"an event file is damaged at byte {at}")
        if at + size + 16 > len(data):
            return
        body = data[at + 12:at + 12 + size]
        if struct.unpack_from("<I", data, at + 12 + size) != (masked(body),):
            raise ValueError(f"an event file is damaged at byte {at + 12}")
        yield body
        at += size + 16


def table() -> list[int]:
    """Of CRC-32C, Castagnoli's polynomial, bits reversed."""
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return found


TABLE = table()


def masked(data: bytes) -> int:
    """The checksum as TensorFlow stores it: rotated, with a constant added, since sums of sums are weak."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
