"""What POSIX and Windows do differently with files.

Windows has no reads and writes at an offset, and can't flush a folder. Nobody can rename or remove a file that is open
there: so a new file needs no lock to be kept, and is closed before it takes its place.
"""

from __future__ import annotations

import errno
import os
from _thread import RLock
from io import FileIO
from typing import Any

try:
    import fcntl
except ImportError:
    fcntl = None                                 # type: ignore[assignment]

POSIX = os.name == "posix"
BINARY = getattr(os, "O_BINARY", 0)              # else Windows translates ends of lines
NO_WAIT = getattr(os, "O_NONBLOCK", 0)           # for a pipe that is put where a file was
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}

_turn = RLock()                                  # reentrant: signal handlers save, too, to a file of their own


def read_at(fd: int, buffers: list[Any], offset: int) -> int:
    """Reads into some of the buffers, or a part of them; returns how many bytes."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, buffers, offset)
    with _turn:                                  # a file has one position, and threads share it
        os.lseek(fd, offset, os.SEEK_SET)
        return FileIO(fd, closefd=False).readinto(buffers[0])


def write_at(fd: int, buffers: list[Any], offset: int) -> int:
    if hasattr(os, "pwritev"):
        return os.pwritev(fd, buffers, offset)
    with _turn:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, buffers[0])


def lock(fd: int, wait: bool = True) -> None:
    """Locks; where the file system has no locks, nobody can take a temporary for litter either."""
    if fcntl is None:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        if not wait or fault.errno not in NO_LOCKS:
            raise
