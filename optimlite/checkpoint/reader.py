"""An open checkpoint: its header checked, its arrays read where they are wanted."""

from __future__ import annotations

import contextlib
import mmap as mapping
import os
import stat
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import header, transfer
from .error import CheckpointError
from .files import opened, path_of
from .foreign import kind
from .header import Tensor
from .system import NO_WAIT, read_at
from .tree import decode, replaced


class File:
    """A safetensors file. `parts` has a Tensor for each array; of a file that isn't ours, it is a dict of them by name.

    Raises CheckpointError if the header is damaged, and OSError if the file can't be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path_of(path)
        with self.named():
            # Looked at first, since a folder must not be opened, and opened so that a pipe put there can't halt it.
            self._check(os.stat(self.path))
            self.file = opened(self.path, os.O_RDONLY | NO_WAIT)
            self.fd = self.file.fileno()
            self._read_header()

    def _check(self, about: os.stat_result) -> None:
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("a checkpoint must be a regular file")
        self.size = about.st_size

    def _read_header(self) -> None:
        self._check(os.fstat(self.fd))
        if self.size < 8:
            raise ValueError(f"the file is cut short: it has {self.size} bytes, and the header's length takes 8")
        length = int.from_bytes(self._bytes(8, 0), "little")
        if length > header.MAX_HEADER and (other := kind(self._bytes(min(self.size, 64), 0))):
            raise ValueError(other)
        if length > self.size - 8:
            raise ValueError(f"the file is cut short, or no checkpoint: it has {self.size} bytes, and its header would "
                             f"take {length}")
        if length > header.MAX_HEADER:
            raise ValueError(f"the header must have at most {header.MAX_HEADER} bytes, got {length}")
        self.header_bytes = length
        self.metadata, tensors = header.parse(self._bytes(length, 8), 8 + length, self.size)
        self.ours = header.marked(self.metadata)
        if self.ours:
            tensors = header.checked(self.metadata, tensors)
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.parts: dict[str, Any] = (decode(self.metadata[header.TREE], self.tensors) if self.ours
                                      else dict(self.tensors))

    def _bytes(self, count: int, offset: int) -> bytes:
        found = np.empty(count, np.uint8)
        transfer.full(read_at, self.fd, [found] if count else [], offset)
        return found.tobytes()

    def verify(self, tensors: list[Tensor] | None = None) -> None:
        """Reads every array, or some, and compares the checksums."""
        with self.named():
            transfer.read(self.fd, [(t, None) for t in self._ordered(tensors or list(self.tensors.values()))], True)

    def read(self, jobs: list[tuple[Tensor, np.ndarray]], verify: bool) -> None:
        """Reads tensors into arrays of their shape and dtype."""
        with self.named():
            transfer.read(self.fd, sorted(jobs, key=lambda job: job[0].begin), verify)      # type: ignore[arg-type]

    def fresh(self, tensors: list[Tensor], verify: bool) -> dict[str, np.ndarray]:
        """New arrays of tensors, by name."""
        with self.named():
            arrays = {tensor.name: np.empty(tensor.shape, tensor.dtype) for tensor in self._ordered(tensors)}
        self.read([(tensor, arrays[tensor.name]) for tensor in tensors], verify)
        return arrays

    def _ordered(self, tensors: list[Tensor]) -> list[Tensor]:
        return sorted(tensors, key=lambda tensor: tensor.begin)

    def load(self, mmap: bool, verify: bool) -> dict[str, Any]:
        tensors: list[Tensor] = []
        replaced(self.parts, tensors.append)
        if not mmap:
            arrays = self.fresh(tensors, verify)
        else:
            with self.named():
                mapped = mapping.mmap(self.fd, 0, access=mapping.ACCESS_READ)
                arrays = {tensor.name: np.ndarray(tensor.shape, tensor.dtype, mapped, tensor.begin)
                          for tensor in tensors}
        loaded: dict[str, Any] = replaced(self.parts, lambda tensor: arrays[tensor.name])
        return loaded

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Faults of the content, as errors that name the file."""
        try:
            yield
        except CheckpointError:
            raise
        except ValueError as fault:
            raise CheckpointError(f"{self.path}: {fault}") from None

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
