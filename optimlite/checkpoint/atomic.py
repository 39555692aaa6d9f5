"""Replaces a file whole or not at all: a locked temporary beside it, fsync, rename, fsync of the folder.

The lock says that a temporary is in use. The system drops it when its process ends, however that happens, so a
temporary that can be locked is litter, and the next save in the folder sweeps it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator

from . import system
from .files import Descriptor, opened

TEMPORARY = re.compile(r"\.optimlite-[0-9a-f]{16}\.tmp")
FRESH = 3600                     # seconds for which a temporary isn't swept, where no lock tells whether it is in use


@contextlib.contextmanager
def replacement(path: str, fsync: bool) -> Iterator[Descriptor]:
    """A new file that takes the place of `path` when the block ends well."""
    target = os.path.realpath(path)                       # a symlink stays, and what it points to is replaced
    mode = mode_of(target)
    folder = os.path.dirname(target)
    sweep(folder)
    folders: list[int] = []
    try:
        # Opened before anything is written: after the rename nothing is left that can fail but its own fsync.
        # One call of C opens it and puts it into the list: no interrupt comes in between.
        if system.POSIX:
            folders.extend(map(os.open, [folder], [os.O_RDONLY | os.O_DIRECTORY]))
        with create(folder) as file:                      # closing it drops the lock
            try:
                if mode is not None and system.POSIX:
                    os.fchmod(file.fileno(), mode)
                yield file
                if fsync:
                    os.fsync(file.fileno())
                if not system.POSIX:
                    file.close()
                os.replace(file.path, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    file.close()
                with contextlib.suppress(OSError):
                    os.unlink(file.path)
                raise
        for fd in folders if fsync else ():
            os.fsync(fd)
    finally:
        for fd in folders:
            os.close(fd)


def mode_of(target: str) -> int | None:
    """The mode of the file that is there, if there is one."""
    try:
        found = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, "a checkpoint is a file, and this is a folder", target)
    if not stat.S_ISREG(found):
        raise OSError(errno.EINVAL, "a checkpoint must be a regular file", target)
    return stat.S_IMODE(found)


def create(folder: str) -> Descriptor:
    while True:
        path = os.path.join(folder, f".optimlite-{os.urandom(8).hex()}.tmp")
        file = opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            file.path = path
            system.lock(file.fileno())
            if os.fstat(file.fileno()).st_nlink:
                return file
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        file.close()                                      # another process swept it before it was locked


def sweep(folder: str) -> None:
    """Removes the temporaries that nobody holds. A save doesn't fail because that fails."""
    try:
        found = [os.path.join(folder, name) for name in os.listdir(folder) if TEMPORARY.fullmatch(name)]
    except OSError:                                       # a folder that one may write to but not list
        return
    for path in found:
        with contextlib.suppress(OSError):
            about = os.lstat(path)
            if not stat.S_ISREG(about.st_mode):
                continue
            if not system.POSIX:
                if time.time() - about.st_mtime > FRESH:
                    os.unlink(path)                       # which fails if somebody has it open
                continue
            with opened(path, os.O_RDONLY | system.NO_LINK | system.NO_WAIT) as file:
                system.lock(file.fileno(), wait=False)
                os.unlink(path)
