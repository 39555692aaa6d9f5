"""A folder of numbered checkpoints of all ranks: the first one looks after it, and all write and read."""

from __future__ import annotations

import os
import warnings
from typing import Any

from .. import checkpoint
from ..checkpoint import rotation
from ..checkpoint.background import check_options
from ..checkpoint.restoring import Restored
from ..engine import ranks
from . import safety
from .checkpoint import restore, save

DAMAGED = (checkpoint.CheckpointError, FileNotFoundError)


class Checkpoints(rotation.Checkpoints):
    """Rotating checkpoints of all ranks, as `ol.Checkpoints`; every rank makes one, and calls its methods.

    folder: where they are, on a file system that all ranks see.    comm: by default MPI.COMM_WORLD.
    keep, best, mode: see `ol.Checkpoints`; the number that `best` names is rank 0's.

    Where one rank fails, the others raise RankError.

        >>> def train(comm):
        ...     w = np.ones(2)
        ...     opt = mpi.Sharded(ol.Adam([w]), comm)
        ...     checkpoints = mpi.Checkpoints("run", comm, keep=2)
        ...     for epoch in range(3):
        ...         opt.step(grads=[2 * w])
        ...         checkpoints.save(model=[w], optimizer=opt, epoch=epoch)
        ...     return len(checkpoints.paths), checkpoints.restore(model=[w], optimizer=opt)["epoch"]
        >>> mpi.simulate(2, train)
        [(2, 2), (2, 2)]
    """

    def __init__(self, folder: str | os.PathLike[str], comm: Any = None, keep: int = 3, best: str | None = None, *,
                 mode: str = "min") -> None:
        self.comm = safety.communicator(comm)
        self._together(lambda: super(Checkpoints, self).__init__(folder, keep, best, mode=mode))

    def save(self, *, fsync: bool = True, **parts: Any) -> str:          # type: ignore[override]
        """Writes the next checkpoint as `mpi.save` does, then removes those that are no longer kept; its path."""
        path: str = self._first(lambda: self._next(parts))
        if self.comm.rank and self.metric is not None:
            parts[self.metric] = None            # plain values are rank 0's
        save(path, self.comm, fsync=fsync, **parts)
        self._first(self._rotate)
        return path

    def restore(self, *, strict: bool = True, best: bool = False, verify: bool = True,
                **parts: Any) -> Restored | None:
        """Restores the newest checkpoint, or the best one, as `mpi.restore` does; None if there is none.

        One that is damaged is skipped on all ranks, with a warning.
        """
        self._together(lambda: check_options(strict=strict, best=best, verify=verify))
        for path in self._first(lambda: self._candidates(best)):
            try:
                return restore(path, self.comm, strict=strict, verify=verify, **parts)
            except Exception as fault:           # on all ranks, of which some may have another reason
                kind = 0 if isinstance(fault, ranks.RankError) else 1 if isinstance(fault, DAMAGED) else 2
                if max(self.comm.allgather(kind)) != 1:
                    raise
                warnings.warn(f"skipped a damaged checkpoint: {fault}", stacklevel=2)
        return None

    def _together(self, find: Any) -> Any:
        return ranks.together(self.comm, "`Checkpoints`", find)

    def _first(self, find: Any) -> Any:
        """What rank 0 finds."""
        return self.comm.bcast(self._together(lambda: find() if self.comm.rank == 0 else None))
