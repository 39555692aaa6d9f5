"""A file's bytes where the system has them in memory: reading them there takes half the time of reading a copy.

Who touches a mapped page ends with a signal if the file was cut short meanwhile, or if the disk fails.  So this is only
used under a lease (Linux), for which the system makes everybody wait who would write to the file, while the part in
question is in memory, and where the pages are large, since 4 kB at a time are faster copied.  Else `read` as always.
"""

from __future__ import annotations

import contextlib
import mmap
import signal
from typing import Any

import numpy as np

def resident(data): return False


try:
    import fcntl
    from fcntl import F_GETLEASE, F_RDLCK, F_SETLEASE, F_SETSIG, F_UNLCK
    from resource import RUSAGE_THREAD, getrusage  # type: ignore[attr-defined, unused-ignore]
except ImportError:                              # not on Linux
    fcntl = None                                 # type: ignore[assignment]

LEAST = 1 << 20                      # bytes of a batch that pay for finding out whether it is in memory
WORTH = 1 << 16                      # bytes of each array in it, on average: smaller ones are read together
A_FAULT = 1 << 17                    # bytes that one page fault brings, at least, where pages are large
MORE_FAULTS = 16                     # than that: at the ends, and of what it is copied to
LARGEST = 1 << 21                    # bytes of a page


class Mapped:
    """The whole of an open file, leased until `close`; `Mapped.of(fd)` is None where that can't be."""

    def __init__(self, fd: int) -> None:
        self.fd, self.pays = fd, True
        fcntl.fcntl(fd, F_SETSIG, signal.SIGURG)                 # who is to give up a lease gets SIGIO, which is fatal
        fcntl.fcntl(fd, F_SETLEASE, F_RDLCK)
        try:
            self.map = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
            self.bytes = np.frombuffer(self.map, np.uint8)
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, fd: int) -> Mapped | None:
        if not fcntl:
            return None
        try:
            return cls(fd)
        except (OSError, ValueError):            # another's file, one that somebody writes to, a system without leases
            return None

    def read(self, batch: list[Any], use: Any) -> bool:
        """Calls use(piece, its bytes) for the pieces of a batch, which follow each other; False if it must be read."""
        begin, end = batch[0].offset, batch[-1].offset + batch[-1].nbytes
        if not self.pays or end - begin < max(LEAST, WORTH * len(batch)):
            return False
        if end > len(self.bytes) or fcntl.fcntl(self.fd, F_GETLEASE) != F_RDLCK or not resident(self.bytes[begin:end]):
            return False
        faults = getrusage(RUSAGE_THREAD).ru_minflt
        for piece in batch:
            use(piece, self.bytes[piece.offset:piece.offset + piece.nbytes])
        if getrusage(RUSAGE_THREAD).ru_minflt - faults > MORE_FAULTS + (end - begin) // A_FAULT:
            self.pays = False
        start = begin - begin % LARGEST          # a large page at either end has come whole
        self.map.madvise(mmap.MADV_DONTNEED, start, end + LARGEST - start)       # else all counts as ours in the end
        return True

    def close(self) -> None:                     # the mapping ends with the last array of it
        with contextlib.suppress(OSError):       # who has waited 45 s has taken the lease away
            fcntl.fcntl(self.fd, F_SETLEASE, F_UNLCK)
