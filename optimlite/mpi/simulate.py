"""Ranks as threads of one process: for tests and notebooks without MPI."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any

import numpy as np

from ..checks import count
from ..engine.ranks import RankError


def simulate(ranks: int, fn: Callable[..., Any], *args: Any) -> list[Any]:
    """Calls `fn(comm, *args)` in so many threads, each with a communicator of its own; returns the results by rank.

    ranks: how many.    fn: a function of a communicator, and of what else there is.    args: these.

    The communicators have `rank`, `size` and those methods of mpi4py's that optimlite.mpi uses.  Each thread makes its
    own model: arrays that two of them write to aren't copied for them.  Raises what the first rank that failed has
    raised, RankError where a rank waits for one that has ended, and ValueError or TypeError for `ranks` that isn't a
    number of at least 1.

        >>> mpi.simulate(3, lambda comm, word: f"{word} {comm.rank} of {comm.size}", "rank")
        ['rank 0 of 3', 'rank 1 of 3', 'rank 2 of 3']
    """
    world = World(count("ranks", ranks))
    results: list[Any] = [None] * ranks

    def run(rank: int) -> None:
        try:
            results[rank] = fn(Communicator(world, rank), *args)
        except BaseException as fault:
            fault.add_note(f"raised by rank {rank} of {ranks}")
            world.faults.append(fault)
        finally:
            world.end()

    threads: list[Thread] = []
    try:
        for rank in range(ranks):
            thread = Thread(target=run, args=(rank,))
            thread.start()
            threads.append(thread)
    except BaseException:                        # there are no more threads to be had
        world.end()                              # and none waits for the missing ones
        raise
    finally:
        for thread in threads: thread.join()
    if world.faults:
        raise next((fault for fault in world.faults if not isinstance(fault, RankError)), world.faults[0])
    return results


class World:
    """What the threads have in common: where they meet, and what they show each other there."""

    def __init__(self, size: int) -> None:
        self.size, self.shown = size, list[Any]([None] * size)
        self.faults: list[BaseException] = []
        self._changed = Condition()
        self._here = self._meetings = self._ended = 0

    def meet(self) -> None:
        with self._changed:
            meeting = self._meetings
            self._here += 1
            if self._here == self.size:
                self._here = 0
                self._meetings += 1
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._meetings != meeting or self._ended)
            if self._meetings == meeting:
                raise RankError("another rank has ended, and this one waits for it")

    def end(self) -> None:
        with self._changed:
            self._ended += 1
            self._changed.notify_all()


class Done:
    """A request that was fulfilled when it was made."""

    def Wait(self) -> None: pass                 # noqa: N802 - mpi4py's name


class Communicator:
    """One rank's side, with mpi4py's names."""

    def __init__(self, world: World, rank: int) -> None:
        self.world, self.rank, self.size = world, rank, world.size

    def _exchanged(self, mine: Any, use: Callable[[list[Any]], Any]) -> Any:
        """What `use` makes of what all ranks show, which stands still meanwhile."""
        self.world.shown[self.rank] = mine
        self.world.meet()
        try:
            return use(self.world.shown)
        finally:
            self.world.meet()

    def allgather(self, value: Any) -> list[Any]:
        found: list[Any] = self._exchanged(pickle.dumps(value), lambda shown: [pickle.loads(one) for one in shown])
        return found

    def bcast(self, value: Any, root: int = 0) -> Any:
        return self._exchanged(pickle.dumps(value), lambda shown: pickle.loads(shown[root]))

    def Barrier(self) -> None:                   # noqa: N802
        self.world.meet()

    def Bcast(self, array: np.ndarray, root: int = 0) -> None:       # noqa: N802
        self._exchanged(array, lambda shown: None if self.rank == root else np.copyto(array, shown[root]))

    def Allgather(self, mine: np.ndarray, found: np.ndarray) -> None:        # noqa: N802
        self._exchanged(mine, lambda shown: np.stack(shown, out=found.reshape(self.size, *mine.shape)))

    def Iallgatherv(self, mine: np.ndarray, to: Any) -> Done:        # noqa: N802
        found, (counts, places) = to

        def use(shown: list[np.ndarray]) -> None:
            for one, n, at in zip(shown, counts, places, strict=True):
                found[at:at + n] = one

        self._exchanged(mine, use)
        return Done()

    def Ialltoallv(self, mine: Any, to: Any) -> Done:                # noqa: N802
        found, (counts, places) = to

        def use(shown: list[Any]) -> None:
            for (one, (theirs, starts)), n, at in zip(shown, counts, places, strict=True):
                found[at:at + n] = one[starts[self.rank]:starts[self.rank] + theirs[self.rank]]

        self._exchanged(mine, use)
        return Done()

    def Ireduce_scatter(self, mine: np.ndarray, found: np.ndarray, counts: list[int]) -> Done:       # noqa: N802
        at = sum(counts[:self.rank])

        def use(shown: list[np.ndarray]) -> None:
            found[:] = sum(one[at:at + found.size] for one in shown[1:] + shown[:1])     # in no order to rely on

        self._exchanged(mine, use)
        return Done()
