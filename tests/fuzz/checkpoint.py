"""Fuzzing of the checkpoint reader: any bytes give a checkpoint or a CheckpointError. `make fuzz` runs it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zlib
from typing import Any

import numpy as np
from frame import header, main, ol, run

X = np.zeros((2, 1, 2))
AVERAGE = ol.Average([X[0]])
FD = os.memfd_create("checkpoint")
PATH = f"/proc/self/fd/{FD}"


def put(data: bytes) -> None:
    os.ftruncate(FD, len(data))
    os.pwrite(FD, data, 0)


def one(data: bytes) -> None:
    """The bytes as they are; or, after a leading 'T', a tree in a file of ours whose sums are valid."""
    if data[:1] == b"T":
        array = bytes(16)
        text = data[1:].decode("utf-8", "replace")
        try:
            made = header.build([("x", "F64", (1, 2), 16)], text, {"x": zlib.crc32(array)})
        except ValueError:
            return
        put(made + array)
    elif data[:1] == b"H":                       # a header without the eight bytes before it, and data as it demands
        put(len(data[1:]).to_bytes(8, "little") + data[1:] + bytes(64))
    else:
        put(data)
    try:
        parts = ol.load(PATH)
    except ol.CheckpointError as fault:
        if not str(fault).startswith(PATH):
            raise RuntimeError("a fault that doesn't name the file") from fault
        return
    mapped = ol.load(PATH, mmap=True)
    assert shape(parts) == shape(mapped)
    with contextlib.suppress(ValueError):
        ol.restore(PATH, x=None)
    with contextlib.suppress(ValueError):
        ol.restore(PATH, strict=False, x={"a": {"b": X[0]}, "a.b": X[1]}, o=X)
    with contextlib.suppress(ValueError, TypeError):
        ol.restore(PATH, strict=False, x=AVERAGE)
    for command in ("inspect", "verify"):
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            main([command, PATH])
        if not told.getvalue().replace("\n", "").isprintable():
            raise RuntimeError("a file that moves the terminal")


def shape(node: Any) -> Any:
    if hasattr(node, "dtype"):
        return node.shape, node.dtype.str
    if isinstance(node, dict):
        return [(key if isinstance(key, str) else repr(key), shape(value)) for key, value in node.items()]
    return [shape(item) for item in node] if isinstance(node, (list, tuple)) else json.dumps(node)


if __name__ == "__main__":
    run(one, "-max_len=65536")
