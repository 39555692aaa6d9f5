"""Checkpoints: safetensors files that are written whole or not at all, checked by sums, and read into live buffers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..late_imports import imported
from .rotation import Checkpoints

if TYPE_CHECKING:
    from .background import Saving
    from .restoring import Restored

# What does the work is imported by the first call: json and its like would double the cost of `import optimlite`.

__all__ = ["CheckpointError", "Checkpoints", "load", "restore", "save"]


class CheckpointError(ValueError):
    """A file that is damaged, cut short or no checkpoint at all; the message names the file and the fault."""


def save(path: str | os.PathLike[str], /, *, fsync: bool = True, background: bool = False,
         progress: Callable[[int, int], None] | None = None, **parts: Any) -> Saving:
    """Writes parts of a training to one safetensors file: whole, or not at all.

    A part is an optimizer, a scheduler or anything else with a `state_dict`, an array, a Parameter, a plain value
    (number, string, bool, None), or a nesting of dicts, lists and tuples of arrays, Parameters and plain values.  An
    optimizer's part holds its state and hyper-parameters; the parameters are a part of their own.

        ol.save("run.safetensors", model=params, optimizer=opt, scheduler=sched, epoch=3)

    The bytes go to a temporary file in the same folder, which then takes the place of `path` (of a symlink: of its
    target), with the mode of the file that was there.  `fsync=False` returns before the disk has it: then a power cut
    may lose it, a killed process still can't.  `progress(done, total)` is told the bytes of arrays written so far, by
    the thread that saves.  Signal handlers may save at any moment.

    `background=True` copies the arrays, returns, and writes in a thread.  The next save, load or restore, and the end
    of the program, wait for it; a failure is raised there, or by `.wait()` of what is returned.  At the end it makes
    the program's exit status 1.

    While an average is swapped in, parameters are saved with their own values.

    Raises TypeError for what can't be stored and for a save of nothing (before anything is written), and OSError if
    writing fails; the old file is intact then.
    """
    imported(f"{__name__}.background")
    from .background import save as run

    return run(path, parts, fsync=fsync, background=background, progress=progress)


def load(path: str | os.PathLike[str], /, *, mmap: bool = False, verify: bool = True) -> dict[str, Any]:
    """The parts of a checkpoint as plain values, dicts, lists, tuples and arrays; of any other safetensors file, a dict
    of its arrays by name.

    `mmap=True` maps the file instead of reading it: the arrays are read-only, and only the header is verified.  While
    they are used, the file must not be changed in place (a new save replaces it, which does no harm).
    `verify=False` skips the arrays' checksums.  Raises CheckpointError for a damaged file.
    """
    imported(f"{__name__}.background")
    imported(f"{__name__}.reader")
    from .background import settle
    from .reader import File

    settle()
    with File(path) as file:
        return file.load(mmap, verify)


def restore(path: str | os.PathLike[str], /, *, strict: bool = True, verify: bool = True, **parts: Any) -> Restored:
    """Puts a checkpoint back into live objects, in place, and returns its plain values by part.

        values = ol.restore("run.safetensors", model=params, optimizer=opt, scheduler=sched)
        start = values["epoch"]

    Arrays and Parameters receive the file's values in their memory, and are matched by their path in the nesting;
    optimizers and schedulers as by `load_state_dict`.  Types are cast where no value is lost.

    Everything is checked before anything is changed: raises CheckpointError for a damaged file, and ValueError for one
    that doesn't fit, with every missing, unexpected and misshapen key.  `strict=False` restores what fits; the
    result's `missing`, `unexpected` and `misshapen` list what doesn't.  `verify=False` reads once instead of twice, so
    a damaged array goes unnoticed.
    """
    imported(f"{__name__}.background")
    imported(f"{__name__}.restoring")
    from .background import check_options, settle
    from .restoring import restore as run

    check_options(strict=strict, verify=verify)
    settle()
    return run(path, parts, strict, verify)
