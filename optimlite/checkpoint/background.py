"""Writes checkpoints: at once, or from a snapshot in a thread whose failure reaches the next call."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from . import header, transfer
from .atomic import replacement
from .header import Tensor, code_of
from .tree import Encoded, encode

Progress = Callable[[int, int], None]


class Saving:
    """A save under way, or done: `written` of `total` bytes of arrays."""

    def __init__(self, path: str, encoded: Encoded, fsync: bool, progress: Progress | None,
                 after: Callable[[], None] | None) -> None:
        self.path, self.written, self.total = path, 0, sum(array.nbytes for array in encoded.arrays.values())
        self._encoded, self._fsync, self._progress, self._after = encoded, fsync, progress, after
        self._fault: BaseException | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def done(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def wait(self) -> None:
        """Returns when the file is written; raises what made that fail, once."""
        if self._thread is not None:
            self._thread.join()
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _report(self, nbytes: int) -> None:
        with self._lock:
            self.written += nbytes
            if self._progress is not None:
                self._progress(self.written, self.total)

    def _run(self) -> None:
        write(self.path, self._encoded, self._fsync, self._report)
        self._encoded = Encoded()                # lets go of the snapshot
        if self._after is not None:
            self._after()

    def _run_in_thread(self) -> None:
        try:
            self._run()
        except BaseException as fault:
            self._encoded = Encoded()
            self._fault = fault.with_traceback(None)      # whose frames would keep the snapshot


_pending: Saving | None = None
_gate = threading.Lock()


def save(path: str | os.PathLike[str], parts: Mapping[str, Any], *, fsync: bool = True, background: bool = False,
         progress: Progress | None = None, after: Callable[[], None] | None = None) -> Saving:
    """`ol.save` for parts in a dict; `after` runs when the file is in its place."""
    global _pending
    settle()
    saving = Saving(os.path.abspath(path), encode(parts), fsync, progress, after)
    if not background:
        saving._run()
        return saving
    with _gate:                                  # a second Python thread that saves waits here for the first
        if _pending is not None:
            _pending.wait()
        saving._encoded.arrays = snapshot(saving._encoded.arrays)
        saving._thread = threading.Thread(target=saving._run_in_thread, name="optimlite save")
        saving._thread.start()
        _pending = saving
    return saving


def snapshot(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies, made by as many threads as a transfer has: most of the time goes into new pages of memory."""
    copies = {name: np.empty_like(array, subok=False) for name, array in arrays.items()}
    nbytes = sum(array.nbytes for array in arrays.values())
    jobs = [(target, source) for name, array in arrays.items()
            for target, source in zip(transfer.pieces(copies[name], array.itemsize, transfer.PIECE),
                                      transfer.pieces(array, array.itemsize, transfer.PIECE), strict=True)]
    transfer.each(iter(jobs), lambda job, _: np.copyto(job[0], job[1]), nbytes)
    return copies


def settle() -> None:
    """Waits for the background save, and raises its failure."""
    global _pending
    with _gate:
        pending, _pending = _pending, None
        if pending is not None:
            pending.wait()


def _forget() -> None:
    """A forked child has neither the thread nor its failure."""
    global _pending, _gate
    _pending, _gate = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
atexit.register(settle)                          # the interpreter has joined the thread; this raises its failure


def write(path: str, encoded: Encoded, fsync: bool, report: Callable[[int], None]) -> None:
    """Writes the arrays, then the header with their checksums, and puts the file in its place."""
    # The widest elements first, so that each array is aligned to its own.
    arrays = sorted(encoded.arrays.items(), key=lambda item: -item[1].itemsize)
    names: list[tuple[str, str, tuple[int, ...], int]] = []
    for name, array in arrays:
        code = code_of(array.dtype)
        assert code is not None                  # `encode` refuses others
        names.append((name, code, array.shape, header.SIZES[code] * prod(array.shape)))
    begin = len(header.build(names, encoded.json, dict.fromkeys(encoded.arrays, 0)))
    jobs = []
    for (name, code, shape, nbytes), (_, array) in zip(names, arrays, strict=True):
        jobs.append((Tensor(name, code, shape, begin, begin + nbytes), array))
        begin += nbytes
    with replacement(path, fsync) as fd:
        sums = transfer.write(fd, jobs, report)
        crcs = {tensor.name: crc for (tensor, _), crc in zip(jobs, sums, strict=True)}
        text = header.build(names, encoded.json, crcs)
        transfer.full(os.pwritev, fd, [np.frombuffer(text, np.uint8)], 0)
