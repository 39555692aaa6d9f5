"""Modules that are imported by the first call that needs them, which may be a signal handler's."""

from __future__ import annotations

import _imp
import contextlib
import importlib
import sys
from _thread import allocate_lock, start_new_thread
from types import ModuleType

MODULES: dict[str, str] = {}              # of the package's public names; it fills this in


def imported(name: str) -> ModuleType:
    """The module, imported by another thread where it isn't there yet.

    Signal handlers run in the main thread, in the middle of what it does.  One that comes while that imports a module
    would find half of it; while another thread imports it, it waits until it is whole, as every thread does.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    if _importing():                             # the other thread could wait for this one, and for ever
        return importlib.import_module(name)
    # An import that was interrupted may have left this thread with the lock of all imports; others would wait for it.
    with contextlib.suppress(RuntimeError):      # raised when the lock isn't this thread's
        while True:
            _imp.release_lock()
    faults: list[BaseException] = []
    ended = allocate_lock()
    ended.acquire()

    def run() -> None:
        try:
            importlib.import_module(name)
        except BaseException as fault:
            faults.append(fault)
        finally:
            ended.release()

    try:
        start_new_thread(run, ())
    except RuntimeError:                         # at the end of a program there are no more threads
        return importlib.import_module(name)
    ended.acquire()
    if faults:
        raise faults.pop()
    return sys.modules[name]


def _importing() -> bool:
    """Whether the calling thread is in the middle of an import."""
    frame = sys._getframe()
    while frame := frame.f_back:                 # type: ignore[assignment]
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
    return False
