"""A folder of numbered checkpoints: the newest few and the best are kept, and found again after a restart."""

from __future__ import annotations

import contextlib
import math
import os
import re
import warnings
from typing import TYPE_CHECKING, Any

from ..checks import shown

if TYPE_CHECKING:
    from .background import Saving
    from .restoring import Restored

NAME = r"checkpoint-([0-9]{6,})\.safetensors"


class Checkpoints:
    """Rotating checkpoints in a folder, which is made if need be.

        checkpoints = ol.Checkpoints("run", keep=3, best="loss")
        values = checkpoints.restore(model=params, optimizer=opt)        # None if there is none yet
        for epoch in range(values["epoch"] + 1 if values else 0, epochs):
            ...
            checkpoints.save(model=params, optimizer=opt, epoch=epoch, loss=loss)

    The newest `keep` are kept, and beside them the one whose part `best`, a number, is the lowest (`mode="max"`: the
    highest; NaN is never best).  One program at a time may save to a folder.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3, best: str | None = None, *,
                 mode: str = "min") -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValueError(f"`keep` must be an integer >= 1, got {shown(keep)}")
        if not (isinstance(mode, str) and mode in ("min", "max")):
            raise ValueError(f"`mode` must be 'min' or 'max', got {shown(mode)}")
        self.folder, self.keep, self.metric, self.mode = os.path.abspath(folder), keep, best, mode
        os.makedirs(self.folder, exist_ok=True)
        self._values: dict[str, float | None] = {}        # of the metric, by path: a header is read once

    def save(self, *, fsync: bool = True, background: bool = False, progress: Any = None, **parts: Any) -> Saving:
        """Writes the next checkpoint as `ol.save` does, and then removes those that are no longer kept."""
        from .background import save, settle

        settle()
        if self.metric is not None:
            value = parts.get(self.metric)
            try:
                number = float(value)                     # type: ignore[arg-type]
            except (TypeError, ValueError):
                raise ValueError(f"`{self.metric}` must be given as a number: the best checkpoint is chosen by it, "
                                 f"got {shown(value)}") from None
            parts[self.metric] = number
        paths = self.paths
        last = int(re.fullmatch(NAME, os.path.basename(paths[-1]))[1]) if paths else 0      # type: ignore[index]
        path = os.path.join(self.folder, f"checkpoint-{last + 1:06d}.safetensors")
        return save(path, parts, fsync=fsync, background=background, progress=progress, after=self._rotate)

    def restore(self, *, strict: bool = True, best: bool = False, **parts: Any) -> Restored | None:
        """Restores the newest checkpoint, or the best one, as `ol.restore` does; returns None if none is there.

        A damaged one is skipped with a warning.
        """
        from . import CheckpointError, restore

        paths = list(reversed(self.paths))
        if best:
            paths = sorted((path for path in paths if self._rank(path) < math.inf), key=self._rank)
        for path in paths:
            try:
                return restore(path, strict=strict, **parts)
            except CheckpointError as fault:
                warnings.warn(f"skipped a damaged checkpoint: {fault}", stacklevel=2)
        return None

    @property
    def paths(self) -> list[str]:
        """All checkpoints, the oldest first."""
        found = [(int(match[1]), name) for name in os.listdir(self.folder) if (match := re.fullmatch(NAME, name))]
        return [os.path.join(self.folder, name) for _, name in sorted(found)]

    @property
    def latest(self) -> str | None:
        """The newest checkpoint that isn't damaged."""
        from . import CheckpointError
        from .reader import File

        for path in reversed(self.paths):
            try:
                with File(path) as file:
                    file.verify()
                return path
            except CheckpointError as fault:
                warnings.warn(f"skipped a damaged checkpoint: {fault}", stacklevel=2)
        return None

    @property
    def best(self) -> str | None:
        """The checkpoint with the best value of the metric, the newest of equals; None without a metric."""
        ranked = [(self._rank(path), -index, path) for index, path in enumerate(self.paths)]
        return min((item for item in ranked if item[0] < math.inf), default=(0, 0, None))[2]

    def _rank(self, path: str) -> float:
        """The lower the better; infinite for a checkpoint that can't be the best."""
        from . import CheckpointError
        from .reader import File

        if self.metric is None:
            return math.inf
        if path not in self._values:
            value = None
            with contextlib.suppress(CheckpointError, OSError), File(path) as file:
                value = file.parts.get(self.metric)
            self._values[path] = float(value) if isinstance(value, (int, float)) else None
        value = self._values[path]
        return math.inf if value is None or math.isnan(value) else value if self.mode == "min" else -value

    def _rotate(self) -> None:
        paths = self.paths
        for path in paths[:-self.keep]:
            if path != self.best:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                self._values.pop(path, None)

    def __repr__(self) -> str:
        return f"Checkpoints({self.folder!r}, keep={self.keep}, best={self.metric!r})"
