"""Checkpoints: safetensors files that are written whole or not at all, checked by sums, and read into live buffers."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..late_imports import imported
from .error import CheckpointError
from .rotation import Checkpoints

if TYPE_CHECKING:
    from .background import Saving
    from .restoring import Restored

# What the calls need is imported by the first of them: json and its like would double the cost of `import optimlite`.

__all__ = ["CheckpointError", "Checkpoints", "load", "restore", "save"]


P = ParamSpec("P")
R = TypeVar("R")


def by_name(function: Callable[P, R]) -> Callable[P, R]:
    """Refuses parts without a name, and shows how to write the call; Python's message would only count arguments."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if len(args) > 1:
            raise TypeError(f"{function.__name__} takes a path, and everything else by name, got {len(args) - 1} more: "
                            f"ol.{function.__name__}('run.safetensors', model=params, optimizer=opt)")
        return function(*args, **kwargs)

    return wrapper


@by_name
def save(path: str | os.PathLike[str], /, *, fsync: bool = True, background: bool = False,
         progress: Callable[[int, int], None] | None = None, **parts: Any) -> Saving:
    """Writes parts of a training to one safetensors file: whole, or not at all.

    path: the file.    fsync, background, progress: see below.
    parts: what to save, by name: `ol.save(path, model=params, optimizer=opt, scheduler=sched, epoch=3)`.

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

        >>> params = {"W": np.ones(2)}
        >>> opt = ol.Adam(params)
        >>> saving = ol.save("run.safetensors", model=params, optimizer=opt, epoch=3)
        >>> sorted(ol.load("run.safetensors"))
        ['epoch', 'model', 'optimizer']
    """
    imported(f"{__name__}.background")
    from .background import save as run

    return run(path, parts, fsync=fsync, background=background, progress=progress)


def load(path: str | os.PathLike[str], /, *, mmap: bool = False, verify: bool = True) -> dict[str, Any]:
    """The parts of a checkpoint as plain values, dicts, lists, tuples and arrays; of any other safetensors file, a dict
    of its arrays by name.

    path: the file.    mmap, verify: see below.

    `mmap=True` maps the file instead of reading it: the arrays are read-only, and only the header is verified.  While
    they are used, the file must not be changed in place (a new save replaces it, which does no harm).
    `verify=False` skips the arrays' checksums.  Raises CheckpointError for a damaged file.

        >>> saving = ol.save("values.safetensors", W=np.ones(2), epoch=3)
        >>> ol.load("values.safetensors")
        {'W': array([1., 1.]), 'epoch': 3}
    """
    imported(f"{__name__}.background")
    imported(f"{__name__}.reader")
    from .background import settle
    from .reader import File

    settle()
    with File(path) as file:
        return file.load(mmap, verify)


@by_name
def restore(path: str | os.PathLike[str], /, *, strict: bool = True, verify: bool = True, **parts: Any) -> Restored:
    """Puts a checkpoint back into live objects, in place, and returns its plain values by part.

    path: the file.    strict, verify: see below.
    parts: the live objects, by the names they were saved under.

    Arrays and Parameters receive the file's values in their memory, and are matched by their path in the nesting;
    optimizers and schedulers as by `load_state_dict`.  Types are cast where no value is lost.

    Everything is checked before anything is changed: raises CheckpointError for a damaged file, and ValueError for one
    that doesn't fit, with every missing, unexpected and misshapen key.  `strict=False` restores what fits; the
    result's `missing`, `unexpected` and `misshapen` list what doesn't.  `verify=False` reads once instead of twice, so
    a damaged array goes unnoticed.

        >>> params = {"W": np.ones(2)}
        >>> saving = ol.save("run.safetensors", model=params, epoch=3)
        >>> params["W"][:] = 0
        >>> ol.restore("run.safetensors", model=params)["epoch"], params["W"]
        (3, array([1., 1.]))
    """
    imported(f"{__name__}.background")
    imported(f"{__name__}.restoring")
    from .background import check_options, settle
    from .restoring import restore as run

    check_options(strict=strict, verify=verify)
    settle()
    return run(path, parts, strict, verify)
