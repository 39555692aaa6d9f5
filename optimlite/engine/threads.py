"""Threads that signal handlers may wait for.

A handler runs in the middle of whatever the main thread does, and may save there.  `threading` holds plain locks for a
moment when it starts and joins threads: a handler that came in that moment, and needed one of them, would wait for the
very code that it interrupted.  So threads are started and awaited here without a lock that anybody holds.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable

Task = Callable[[], object]


class Flag:
    """An event; every thread that waits has a lock of its own."""

    def __init__(self) -> None:
        self.up = False
        self._waiting: list[LockType] = []

    def set(self) -> None:
        self.up = True
        while self._waiting:
            self._waiting.pop().release()

    def wait(self) -> None:
        lock = allocate_lock()
        lock.acquire()
        self._waiting.append(lock)
        if not self.up:                          # else it may have been raised before the lock was in the list
            lock.acquire()


class Crew:
    """Threads that run a task each; `wait` waits for all, and may be called again after an interrupt."""

    def __init__(self) -> None:
        self._started: list[int] = []
        self._ended: list[Flag] = []

    def start(self, task: Task) -> bool:
        """False where there are no more threads to be had, as at the end of a program since CPython 3.12."""
        ended = Flag()

        def run() -> None:
            try:
                task()
            finally:
                ended.set()

        del self._ended[len(self._started):]
        self._ended.append(ended)
        try:
            # Started and noted in one call of C: an interrupt comes before both or after both.
            self._started.extend(map(start_new_thread, [run], [()]))
        except RuntimeError:
            return False
        return True

    @property
    def started(self) -> bool:
        return bool(self._started)

    @property
    def done(self) -> bool:
        return all(flag.up for flag in self._ended[:len(self._started)])

    def wait(self) -> None:
        for flag in self._ended[:len(self._started)]:
            flag.wait()

    def forget(self) -> None:
        """In a forked child there are no such threads."""
        for flag in self._ended:
            flag.set()
