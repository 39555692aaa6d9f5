"""Checkpoints to be refused: files in memory, headers made to break a reader, and how it must refuse them."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint import header

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@contextmanager
def memory_file() -> Iterator[tuple[int, str]]:
    """A file without a disk, and its path: thousands of them take seconds."""
    fd = os.memfd_create("checkpoint")
    try:
        yield fd, f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def put(fd: int, data: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)


def refused(path: str, read: Any = ol.load) -> str:
    """The message of the CheckpointError that reading raises, in under a second."""
    start = time.process_time()
    with pytest.raises(ol.CheckpointError) as caught:
        read(path)
    assert time.process_time() - start < 1
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert len(text) > len(path) + 10
    return text


def file_of(text: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def ours(tree: str = "{}", arrays: Any = None, **changed: str | None) -> bytes:
    """A file with our marks and valid sums, whatever its tree says."""
    arrays = {"x": np.zeros(2, np.float32)} if arrays is None else arrays
    entries = [(name, header.code_of(a.dtype), a.shape, a.nbytes) for name, a in arrays.items()]
    data = b"".join(a.tobytes() for a in arrays.values())
    text = header.build(entries, tree, {name: zlib.crc32(a.tobytes()) for name, a in arrays.items()})
    if not changed:
        return text + data
    parsed = json.loads(text[8:])
    for key, value in changed.items():
        if value is None:
            del parsed["__metadata__"][key]
        else:
            parsed["__metadata__"][key] = value
    if header.HEADER_SUM in parsed["__metadata__"] and header.HEADER_SUM not in changed:
        crc = header.content(parsed["__metadata__"], [(name, code, shape) for name, code, shape, _ in entries])
        parsed["__metadata__"][header.HEADER_SUM] = f"{crc:08x}"
    return file_of(parsed, data)


def compact(data: bytes) -> bytes:
    """The same header without spaces, which is read by another way."""
    length = int.from_bytes(data[:8], "little")
    if length != len(data[8:8 + length]):
        return data
    return file_of(data[8:8 + length].replace(b'": ', b'":').replace(b", ", b","), data[8 + length:])
