"""A folder of numbered checkpoints: the newest few and the best are kept, and found again after a restart."""

from __future__ import annotations

import contextlib
import math
import os
import re
import warnings
from typing import TYPE_CHECKING, Any

from ..checks import checked, one_of, shown
from ..late_imports import imported
from .error import CheckpointError
from .files import path_of

if TYPE_CHECKING:
    from .background import Saving
    from .restoring import Restored

NAME = re.compile(r"checkpoint-([0-9]{6,})\.safetensors")


class Checkpoints:
    """Rotating checkpoints in a folder, which is made if need be.

    folder: where they are; "~" is the home folder.    keep: how many of the newest are kept.
    best: a part, a number; the checkpoint where it is the lowest is kept, too (NaN never).    mode: "max": the highest.

    One program at a time may save to a folder.  Raises ValueError for a `keep` below 1 and another `mode`, TypeError
    for a `best` that isn't a name, and OSError where the folder can't be made.  `save` and `restore` raise what
    `ol.save` and `ol.restore` do, and `save` ValueError where the part that `best` names isn't a number.

        >>> params = {"W": np.ones(2)}
        >>> checkpoints = ol.Checkpoints("run", keep=3, best="loss")
        >>> values = checkpoints.restore(model=params)                       # None if there is none yet
        >>> for epoch in range(values["epoch"] + 1 if values else 0, 5):
        ...     path = checkpoints.save(model=params, epoch=epoch, loss=1 / (1 + epoch))
        >>> [path[-18:] for path in checkpoints.paths]
        ['000003.safetensors', '000004.safetensors', '000005.safetensors']
    """

    @checked
    def __init__(self, folder: str | os.PathLike[str], keep: int = 3, best: str | None = None, *,
                 mode: str = "min") -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValueError(f"`keep` must be an integer >= 1, got {shown(keep)}")
        self.mode = one_of("min", "max")("mode", mode)
        if best is not None and not isinstance(best, str):
            raise TypeError(f"`best` must be the name of a part, got {shown(best)}")
        self.folder, self.keep, self.metric = os.path.abspath(path_of(folder)), keep, best
        os.makedirs(self.folder, exist_ok=True)
        self._last = 0                                    # the number of the last save of this object
        self._values: dict[str, float | None] = {}        # of the metric, by path: a header is read once

    def save(self, *, fsync: bool = True, background: bool = False, progress: Any = None, **parts: Any) -> Saving:
        """Writes the next checkpoint as `ol.save` does, and then removes those that are no longer kept."""
        imported(f"{__package__}.background")
        from .background import save, settle

        settle()
        path = self._next(parts)
        return save(path, parts, fsync=fsync, background=background, progress=progress, after=self._rotate)

    def _next(self, parts: dict[str, Any]) -> str:
        """Where the next checkpoint is to be; the metric among the parts becomes a number."""
        if self.metric is not None:
            value = parts.get(self.metric)
            try:
                number = float(value)                     # type: ignore[arg-type]
            except (TypeError, ValueError):
                raise ValueError(f"`{self.metric}` must be given as a number: the best checkpoint is chosen by it, "
                                 f"got {shown(value)}") from None
            parts[self.metric] = number
        found = self._numbered()
        last = found[-1][0] if found else 0
        # A signal handler that saves, too, gets another number: no call, in which it could come, between these two.
        next_ = last + 1 if last > self._last else self._last + 1
        self._last = next_
        path = os.path.join(self.folder, f"checkpoint-{next_:06d}.safetensors")
        self._values.pop(path, None)
        return path

    def restore(self, *, strict: bool = True, best: bool = False, verify: bool = True,
                **parts: Any) -> Restored | None:
        """Restores the newest checkpoint, or the best one, as `ol.restore` does; returns None if none is there.

        A damaged one is skipped with a warning.
        """
        imported(f"{__package__}.background")
        imported(f"{__package__}.restoring")
        from .background import check_options, settle
        from .restoring import restore

        check_options(strict=strict, best=best, verify=verify)
        settle()
        for path in self._candidates(best):
            try:
                return restore(path, parts, strict, verify)
            except CheckpointError as fault:
                warnings.warn(f"skipped a damaged checkpoint: {fault}", stacklevel=2)
            except FileNotFoundError:                     # removed since the folder was listed
                continue
        return None

    def _candidates(self, best: bool) -> list[str]:
        """The newest first, or the best."""
        paths = list(reversed(self.paths))
        return sorted((path for path in paths if self._rank(path) < math.inf), key=self._rank) if best else paths

    def _numbered(self) -> list[tuple[int, os.DirEntry[str]]]:
        """What has a checkpoint's name, whatever it is, by its number."""
        with os.scandir(self.folder) as entries:
            found = [(int(match[1]), entry) for entry in entries if (match := NAME.fullmatch(entry.name))]
        return sorted(found, key=lambda item: (item[0], item[1].name))

    @property
    def paths(self) -> list[str]:
        """All checkpoints that are on the disk, the oldest first; one that is saved in the background, when it is."""
        return [entry.path for _, entry in self._numbered() if is_file(entry)]

    @property
    def latest(self) -> str | None:
        """The newest checkpoint that isn't damaged."""
        imported(f"{__package__}.reader")
        from .reader import File

        for path in reversed(self.paths):
            try:
                with File(path) as file:
                    file.verify()
                return path
            except CheckpointError as fault:
                warnings.warn(f"skipped a damaged checkpoint: {fault}", stacklevel=2)
            except FileNotFoundError:
                continue
        return None

    @property
    def best(self) -> str | None:
        """The checkpoint with the best value of the metric, the newest of equals; None without a metric."""
        return self._best(self.paths)

    def _best(self, paths: list[str]) -> str | None:
        ranked = [(self._rank(path), -index, path) for index, path in enumerate(paths)]
        return min((item for item in ranked if item[0] < math.inf), default=(0, 0, None))[2]

    def _rank(self, path: str) -> float:
        """The lower the better; infinite for a checkpoint that can't be the best."""
        if self.metric is None:
            return math.inf
        imported(f"{__package__}.reader")
        from .reader import File

        if path not in self._values:
            value = None
            with contextlib.suppress(CheckpointError, OSError), File(path) as file:
                value = file.parts.get(self.metric)
            self._values[path] = float(value) if isinstance(value, (int, float)) else None
        value = self._values[path]
        return math.inf if value is None or math.isnan(value) else value if self.mode == "min" else -value

    def _rotate(self) -> None:
        paths = self.paths
        old, best = paths[:-self.keep], self._best(paths)
        for path in old:
            if path != best:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                self._values.pop(path, None)

    def __repr__(self) -> str:
        return f"Checkpoints({self.folder!r}, keep={self.keep}, best={self.metric!r})"

    def _repr_html_(self) -> str:
        """For notebooks: a row for each checkpoint."""
        from ..engine.html import table

        paths, metric = self.paths, [] if self.metric is None else [self.metric]
        best = self._best(paths) if metric else None
        rows = [(f"{os.path.basename(path)}{' (best)' if path == best else ''}", f"{os.path.getsize(path):,}",
                 *(self._values.get(path, "") for _ in metric)) for path in paths]
        return table(f"{len(paths)} checkpoints in {self.folder}", ("file", "bytes", *metric), rows)


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it can be a checkpoint; a link that leads nowhere, or to itself, can't."""
    try:
        return entry.is_file()
    except OSError:
        return False
