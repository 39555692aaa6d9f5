"""State in files, of optimizers that are larger than memory: where it lies, and how it gets there and back."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from fcntl import F_GETFL, F_SETFL, fcntl
from typing import Any

import numpy as np

from ..checks import path_of
from ..native.parameters import byte_bounds
from .method import Group, Method
from .state import Place, empty
from .storage import places

PAGE = 4096                      # bytes: files are read and written in multiples of it, past the page cache
LEAST = 1 << 20                  # bytes: smaller arrays stay in memory
MOST = 1 << 30                   # bytes of a file for arrays that come later, unless one of them has more


class Scratch(mmap.mmap):
    """A file without a name, mapped into memory: it is gone with the last array in it, and with the process."""

    # Its descriptor, where it lies in memory, the bytes that arrays have of it, and those that the disk has given.
    fd, begin, used, taken = -1, 0, 0, 0

    def take(self, size: int) -> None:
        """Has the disk give all bytes up to there."""
        if size > self.taken:
            # posix_fallocate may write a byte to each block, which O_DIRECT refuses.
            flags = fcntl(self.fd, F_GETFL)
            fcntl(self.fd, F_SETFL, flags & ~os.O_DIRECT)
            try:
                os.posix_fallocate(self.fd, self.taken, size - self.taken)
                self.taken = size
            finally:
                with suppress(OSError):          # not every file system can
                    fcntl(self.fd, F_SETFL, flags | os.O_DIRECT)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def scratch(folder: str, size: int) -> Scratch:
    """A file of zeros for `size` bytes, of which the disk has given none yet."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        os.ftruncate(file.fileno(), size)
        made = Scratch(file.fileno(), size)
        made.fd = os.dup(file.fileno())
    made.begin = byte_bounds(np.frombuffer(made, np.uint8))[0]
    return made


def in_pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


class Folder:
    """Where arrays of state lie."""

    def __init__(self, path: Any, size: int) -> None:
        self.path = os.path.abspath(path_of(path, "folder", "; None takes state back into memory"))
        if not os.path.isdir(self.path):
            raise NotADirectoryError(f"`folder` must be a folder that exists, got '{self.path}'; make it before")
        self.process = os.getpid()
        self.torn = ""                           # what ended a step in its middle
        self.stream: Any = None                  # what steps in buckets are made with
        self.file: Scratch | None = None
        self._have(max(size, PAGE))

    def _have(self, size: int) -> Scratch:
        """A file that has room for so many more bytes."""
        file = self.file
        try:
            if file is None:
                file = scratch(self.path, size)
            elif file.used + size > len(file):
                file = self._another(size, min(2 * len(file), MOST))
            file.take(file.used + size)
        except OSError as fault:
            raise OSError(fault.errno, f"`folder` must take {size:,} bytes of state, got '{fault.strerror}' in "
                                       f"'{self.path}'; make room, give another folder, or keep state in fewer bytes "
                                       f"(state_dtype=)") from None
        self.file = file
        return file

    def _another(self, size: int, more: int) -> Scratch:
        """For state that nobody knew of before: there may come more, if the disk takes files that are mostly empty."""
        try:
            return scratch(self.path, max(size, more))
        except OSError:
            return scratch(self.path, size)

    def empty(self, place: Place) -> np.ndarray:
        """An array of zeros in a file, or a small one in memory."""
        if (size := bytes_of(place)) < LEAST:
            small = empty(place)
            small.fill(0)
            return small
        self.check_process()
        file = self._have(in_pages(size))
        order: Any = "F" if place.like is not None and place.like.flags.fnc else "C"
        array: np.ndarray = np.ndarray(place.shape, place.dtype, file, file.used, order=order)
        file.used += in_pages(size)
        return array

    @staticmethod
    def has(array: np.ndarray) -> bool:
        return file_of(array) is not None

    def check(self) -> None:
        """Raises RuntimeError where a step would spoil what is in the files."""
        self.check_whole()
        self.check_process()

    def check_process(self) -> None:
        """Raises RuntimeError in a forked child, whose writes would reach its parent."""
        if os.getpid() != self.process:
            raise RuntimeError(f"the state of this optimizer is in files of process {self.process}, which a forked "
                               f"child would change, too; call opt.offload(None) in the child first")

    def check_whole(self) -> None:
        if self.torn:
            raise RuntimeError(f"a step broke off in its middle ({self.torn}), and parameters and state don't fit each "
                               f"other any more; make the optimizer anew and restore a checkpoint")


def bytes_of(place: Place) -> int:
    return int(np.prod(place.shape, dtype=np.int64)) * place.dtype.itemsize


def file_of(array: np.ndarray) -> Scratch | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, Scratch) else None


def needed(optimizer: Method, groups: list[Group]) -> int:
    """The bytes in files of all state, that to come among it."""
    total = 0
    for group in groups:
        for parameter in group["params"]:
            sizes = {key: bytes_of(place) for key, place in places(optimizer, group, parameter).items()}
            sizes |= {key: array.nbytes for key, array in optimizer.state[parameter].items()}
            total += sum(in_pages(size) for size in sizes.values() if size >= LEAST)
    return total


def offload(optimizer: Any, path: Any, agreed: Callable[[], object] = lambda: None) -> None:
    """Moves the state there; `agreed` is called when nothing can fail any more, before anything changes."""
    if not hasattr(optimizer, "rule"):
        raise TypeError(f"{type(optimizer).__name__} has no state that files could keep, for it evaluates the model "
                        f"several times in a step, or has no compiled rule; leave it in memory")
    with optimizer._stepping:
        states = optimizer._state
        if states.folder is not None:
            states.folder.check_whole()
        folder = None if path is None else Folder(path, needed(optimizer, optimizer.param_groups))
        moved = []
        for state in states.values():
            for key, array in state.items():
                if array.nbytes >= LEAST and (folder is not None or file_of(array) is not None):
                    place = Place(array.shape, array.dtype, array)
                    there = empty(place) if folder is None else folder.empty(place)
                    np.copyto(there, array)
                    moved.append((state, key, there))
        agreed()
        states.folder = folder
        for state, key, there in moved:          # after an interrupt, only some have moved; all values are the same
            state[key] = there
        optimizer._rearranged()                  # plans keep what they point to
