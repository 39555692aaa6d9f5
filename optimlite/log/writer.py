"""What all logs share: a file that is opened once, numbers that are checked, and a line at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from ..checks import path_of, shown


class Writer:
    """A log that is being written; `with` closes it."""

    def __init__(self, file: IO[Any]) -> None:
        self._file = file

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends a row: numbers by name, such as `{"loss": loss} | opt.metrics()`.  It is in the file at once.

        Raises TypeError for a value that isn't a number and for a name that isn't plain text, and ValueError for a log
        that is closed; nothing is written then.
        """
        if self._file.closed:
            raise ValueError("the log is closed; write within its `with` block")
        self._write(int(step), {checked_name(name): as_number(name, value) for name, value in metrics.items()})
        self._file.flush()

    def _write(self, step: int, metrics: dict[str, float]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Closes the file; the end of a `with` block does."""
        self._file.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def opened(path: str | os.PathLike[str], append: bool) -> IO[str]:
    """A new text file; one that exists is appended to, or refused."""
    path = path_of(path)
    try:
        return open(path, "a+" if append else "x+", encoding="utf-8", newline="")
    except FileExistsError:
        raise FileExistsError(f"{path} exists already, and a log isn't overwritten; use append=True, "
                              f"or another name") from None


def checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name or any(ord(sign) < 32 for sign in name):
        raise TypeError(f"names of metrics must be plain str, got {shown(name)}")
    return name


def as_number(name: str, value: Any) -> float | int:
    """A Python number of a number, an array of one element, or of what converts itself by `item()`."""
    if hasattr(value, "item") and getattr(value, "size", 1) != 0:
        try:
            value = value.item()                 # NumPy's, and other libraries'
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"metric `{name}` must be one number, got an array of shape {np.shape(value)}") from None
    if not isinstance(value, (int, float)):
        raise TypeError(f"metric `{name}` must be a number, got {shown(value)}")
    return int(value) if isinstance(value, bool) else value
