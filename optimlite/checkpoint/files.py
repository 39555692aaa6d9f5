"""Open files that no interrupt leaves open, and paths as users write them."""

from __future__ import annotations

import os
from io import FileIO
from typing import Any

from .. import checks
from .system import BINARY


class Descriptor(FileIO):
    """An open file that is closed with its last reference."""

    path: str
    __del__ = FileIO.close                       # quietly: FileIO's own would warn


def opened(path: str, flags: int) -> Descriptor:
    """Opens a file that isn't a folder; a new one with the mode that the umask leaves."""
    mode = "r+b" if flags & os.O_RDWR else "rb"
    # In one call of C: an interrupt between the system's number and the object that owns it would lose it.
    [file] = map(Descriptor, map(os.open, [path], [flags | BINARY], [0o666]), [mode])
    return file


def path_of(path: Any) -> str:
    return checks.path_of(path, cure="; parts come after it, by name: ol.save('run.safetensors', model=params)")


def quoted(text: str) -> str:
    """A string of a file as messages show it: in one line, not too long, without control characters."""
    return repr(text if len(text) <= 100 else f"{text[:97]}...")


def printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
