"""Writes checkpoints: at once, or from a snapshot in a thread whose failure reaches the next call.

Signal handlers may save, too, at any moment of what is done here: they find everything in a state that they can go on
from, and nobody holds a lock that they would wait for.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from _thread import get_ident
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from ..checks import shown
from ..engine.threads import Crew
from . import header, transfer
from .atomic import replacement
from .files import path_of
from .header import Tensor, code_of
from .system import write_at
from .tree import Encoded, encode

Progress = Callable[[int, int], None]


class Saving:
    """A save under way, or done: `written` of `total` bytes of arrays."""

    def __init__(self, path: str, encoded: Encoded, fsync: bool, progress: Progress | None,
                 after: Callable[[], None] | None) -> None:
        self.path, self.written, self.total = path, 0, sum(array.nbytes for array in encoded.arrays.values())
        self._encoded, self._fsync, self._progress, self._after = encoded, fsync, progress, after
        self._fault: BaseException | None = None
        self._crew = Crew()
        self._writer = 0                         # the thread that writes, in the background

    @property
    def done(self) -> bool:
        return self._crew.done

    def wait(self) -> None:
        """Returns when the file is written; raises what made that fail, once."""
        if self._writer == get_ident():
            raise RuntimeError("a save can't wait for itself: this is its own `progress`")
        self._crew.wait()
        fault = self._fault
        if fault is not None:
            self._fault = None                   # no interrupt comes between this and the next line
            raise fault

    def _report(self, nbytes: int) -> None:
        self.written += nbytes
        if self._progress is not None:
            self._progress(self.written, self.total)

    def _run(self) -> None:
        try:
            write(self.path, self._encoded, self._fsync, self._report)
            if self._after is not None:
                self._after()
        finally:
            self._encoded = Encoded()            # lets go of the arrays

    def _run_in_thread(self) -> None:
        self._writer = get_ident()
        try:
            self._run()
        except BaseException as fault:
            self._fault = told(fault, self.path).with_traceback(None)      # whose frames would keep the snapshot
        finally:
            self._writer = 0


def told(fault: BaseException, path: str) -> BaseException:
    """A failure of a background save, with its file: it is raised by another call."""
    about = f"the background save of '{path}' failed"
    if type(fault).__module__ == "builtins" and isinstance(fault, OSError) and fault.errno is not None:
        return OSError(fault.errno, f"{about}: {fault.strerror}", fault.filename)
    fault.add_note(about)
    return fault


_pending: list[Saving] = []
_ended = False                                   # the program has: saves that begin now are not waited for


def save(path: str | os.PathLike[str], parts: Mapping[str, Any], *, fsync: bool = True, background: bool = False,
         progress: Progress | None = None, after: Callable[[], None] | None = None) -> Saving:
    """`ol.save` for parts in a dict; `after` runs when the file is in its place."""
    path = os.path.abspath(path_of(path))
    check_options(fsync=fsync, background=background, progress=progress)
    check_names(parts)
    if not parts:
        raise TypeError("there is nothing to save: give parts by name, as in ol.save(path, model=params, epoch=3)")
    settle()
    saving = Saving(path, encode(parts), fsync, progress, after)
    if background and not _ended:
        saving._encoded.arrays = snapshot(saving._encoded.arrays)
        _pending.append(saving)                  # first, so that nobody finds it neither here nor done
        try:
            if saving._crew.start(saving._run_in_thread):
                return saving
        finally:
            if not saving._crew.started:
                _pending.remove(saving)
    saving._run()                                # at once; also at the end of a program, where no thread can be started
    return saving


def check_options(**options: Any) -> None:
    """Refuses a part that has the name of an option, as which it would be lost."""
    for name, value in options.items():
        if name == "progress":
            fits = value is None or (callable(value) and not hasattr(value, "state_dict"))
        else:
            fits = isinstance(value, (bool, np.bool_))
        if not fits:
            raise TypeError(f"`{name}` must be {'a function or None' if name == 'progress' else 'True or False'}, "
                            f"got {shown(value)}; it is an option, so give a part another name")


def check_names(parts: Mapping[str, Any]) -> None:
    """Refuses a part to which `restore` could not be told where to read it."""
    for name in ("strict", "verify"):
        if name in parts:
            raise TypeError(f"`{name}` is an option of ol.restore, so give a part another name")


def snapshot(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies, made by as many threads as a transfer has: most of the time goes into new pages of memory."""
    copies = {name: np.empty_like(array, subok=False) for name, array in arrays.items()}
    nbytes = sum(array.nbytes for array in arrays.values())
    jobs = [(target, source) for name, array in arrays.items()
            for target, source in zip(transfer.rows(copies[name], array.itemsize, transfer.PIECE),
                                      transfer.rows(array, array.itemsize, transfer.PIECE), strict=True)]
    transfer.each(iter(jobs), lambda job, _: np.copyto(job[0], job[1]), nbytes)
    return copies


def settle() -> None:
    """Waits for the background saves, and raises the failure of the first that failed."""
    me = get_ident()
    if any(saving._writer == me for saving in _pending):
        return                                   # the `progress` of one of them, which would wait for itself
    for saving in list(_pending):
        if saving._crew.started:                 # else this is a signal handler, just before it starts
            saving.wait()                        # what fails here is found, and done with, by the next call
            with contextlib.suppress(ValueError):            # another thread, or a handler, was here meanwhile
                _pending.remove(saving)


def end() -> None:
    """At the end of the program: waits, and what failed makes the program fail."""
    global _ended
    _ended = True
    failed = False
    while _pending:
        try:
            settle()
        except KeyboardInterrupt:
            failed = True
            print(f"optimlite: interrupted before the background save of '{_pending[0].path}' was done",
                  file=sys.stderr)
            break
        except BaseException as fault:
            failed = True
            text = "".join([str(fault), *(f" ({note})" for note in getattr(fault, "__notes__", ()))])
            print(f"optimlite: {type(fault).__name__}: {text}", file=sys.stderr)
    if failed:
        sys.__dict__["_optimlite_failed"] = Failure()


class Failure:
    """Lets the program exit with status 1, by ending it when all else has ended: exit handlers have no other way."""

    def __del__(self, exit: Callable[[int], None] = os._exit) -> None:
        exit(1)


def _forget() -> None:
    """In a forked child, which has neither the threads nor their failures."""
    for saving in _pending:
        saving._crew.forget()
        saving._writer = 0
    _pending.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(end)


Names = list[tuple[str, str, tuple[int, ...], int]]      # as `header.build` takes them
Jobs = list[tuple[Tensor, np.ndarray]]


def laid_out(encoded: Encoded) -> tuple[Names, Jobs]:
    """The arrays of a file, and where each goes."""
    # The widest elements first, so that each array is aligned to its own.
    arrays = sorted(encoded.arrays.items(), key=lambda item: -item[1].itemsize)
    names: Names = []
    for name, array in arrays:
        code = code_of(array.dtype)
        assert code is not None                  # `encode` refuses others
        names.append((name, code, array.shape, header.SIZES[code] * prod(array.shape)))
    begin = len(header.build(names, encoded.json, dict.fromkeys(encoded.arrays, 0)))
    jobs: Jobs = []
    for (name, code, shape, nbytes), (_, array) in zip(names, arrays, strict=True):
        jobs.append((Tensor(name, code, shape, begin, begin + nbytes), array))
        begin += nbytes
    return names, jobs


def write_header(fd: int, names: Names, json: str, sums: list[int]) -> None:
    crcs = {name: crc for (name, *_), crc in zip(names, sums, strict=True)}
    transfer.full(write_at, fd, [np.frombuffer(header.build(names, json, crcs), np.uint8)], 0)


def write(path: str, encoded: Encoded, fsync: bool, report: Callable[[int], None]) -> None:
    """Writes the arrays, then the header with their checksums, and puts the file in its place."""
    names, jobs = laid_out(encoded)
    with replacement(path, fsync) as file:
        write_header(file.fileno(), names, encoded.json, transfer.write(file.fileno(), jobs, report))
