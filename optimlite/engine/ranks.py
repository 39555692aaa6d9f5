"""What ranks of a communicator do together: they fail together, and compare what must be equal."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, NoReturn, TypeVar

import numpy as np

from ..checks import shown

Found = TypeVar("Found")


class RankError(RuntimeError):
    """Another rank failed, or does something else than this one; the message says which, and what.

        >>> def train(comm):
        ...     mpi.broadcast({"w": np.zeros(2 + comm.rank)}, comm)              # another shape on each rank
        >>> try:
        ...     mpi.simulate(2, train)
        ... except mpi.RankError:
        ...     print("the ranks differ")
        the ranks differ
    """


def check_communicator(comm: Any) -> Any:
    if not (hasattr(comm, "rank") and hasattr(comm, "size") and hasattr(comm, "allgather")):
        raise TypeError(f"`comm` must be a communicator of mpi4py, such as MPI.COMM_WORLD, or one of "
                        f"optimlite.mpi.simulate, got {shown(comm)}")
    return comm


END = "the end of its program"
_met: list[tuple[Any, int]] = []                 # communicators, and the process that has them
_left: list[Any] = []                            # those that a rank has left while others were at work
_aborts: list[Any] = []                          # why python -m mpi4py ends all ranks behind `leave`


def note(comm: Any) -> None:
    """Notes a communicator of MPI on which ranks have met: at their ends they meet there again."""
    if not hasattr(comm, "Get_size") or comm.size == 1 or any(comm is one for one, _ in _met):
        return
    if not _met:
        atexit.register(leave)
        if run := sys.modules.get("mpi4py.run"):
            run.set_abort_status = functools.partial(note_abort, run.set_abort_status)      # type: ignore[attr-defined]
    _met.append((comm, os.getpid()))


def note_abort(tell: Callable[[Any], None], fault: Any) -> None:
    """`fault`: 1, or a SystemExit, which may say that nothing has failed."""
    if getattr(fault, "code", 1) not in (None, 0):
        _aborts.append(fault)
    tell(fault)


def leave() -> None:
    """At the end of a program, however it comes: ranks that wait for this one are told, instead of waiting for ever."""
    if _aborts or sys.modules["mpi4py.MPI"].Is_finalized():          # by the program itself
        return
    for comm, process in _met:
        if process == os.getpid() and not any(comm is one for one in _left):
            with suppress(Exception):            # of a communicator that was freed, or of MPI that was finalized
                agree(comm, END, None)


TOLD_FIRST = 1 + 8 + 8           # bytes: whether a rank has failed, hashes of what it does and of what it tells


def agree(comm: Any, doing: str, fault: BaseException | None, flags: Sequence[bool] = (), more: bytes = b"",
          exchanged: np.ndarray | None = None) -> np.ndarray:
    """Everybody's flags and other bytes, a row each.

    Raises on all ranks if there is a fault on one, or if they aren't all doing the same.  Wherever ranks meet, this
    exchange comes first, and is of one length; a second one is of a length that follows from `doing`.  `exchanged`:
    zeros for the first, of which `agreed` can tell when an interrupt has struck here.
    """
    if any(comm is one for one in _left):
        raise RankError("another rank has ended its program; end this one, too")
    told = np.frombuffer(np.array(flags, bool).tobytes() + more, np.uint8)
    mine = np.frombuffer(bytes([fault is not None]) + hashed(doing.encode()) + hashed(told.tobytes()), np.uint8)
    found = np.zeros((comm.size, TOLD_FIRST), np.uint8) if exchanged is None else exchanged
    comm.Allgather(mine, found)
    note(comm)
    if not agreed(found, comm.rank):
        refuse(comm, doing, fault)
    if (found[:, 9:] == mine[9:]).all():
        return np.broadcast_to(told, (comm.size, told.size))
    rows = np.zeros((comm.size, told.size), np.uint8)
    comm.Allgather(told, rows)
    return rows


def agreed(exchanged: np.ndarray, rank: int) -> bool:
    """Whether all have met, none has failed, and all do the same."""
    done, failed, doing = exchanged[rank].any(), exchanged[:, 0].any(), exchanged[:, 1:9]
    return bool(done and not failed and (doing == doing[rank]).all())


def refuse(comm: Any, doing: str, fault: BaseException | None) -> NoReturn:
    """Raises what has kept ranks from going on together."""
    at: dict[str, list[int]] = {}
    found = comm.allgather((said(fault), doing))
    for rank, (_, what) in enumerate(found):
        at.setdefault(what, []).append(rank)
    if END in at:
        _left.append(comm)
    fail(fault, [text for text, _ in found])
    raise RankError("ranks must do the same, but " + ", ".join(
        f"{of_ranks(where)} {'is' if len(where) == 1 else 'are'} at {what}" for what, where in at.items())
        + "; every rank must make the same calls, in the same order")


def of_ranks(where: list[int]) -> str:
    return f"rank{'s' * (len(where) > 1)} {', '.join(map(str, where))}"


def each(comm: Any, fault: BaseException | None, value: Any = None) -> list[Any]:
    """Everybody's value; raises on all ranks if there is a fault on one."""
    found = comm.allgather((said(fault), value))
    fail(fault, [text for text, _ in found])
    return [value for _, value in found]


def said(fault: BaseException | None) -> str | None:
    return None if fault is None else f"{type(fault).__name__}: {fault}"


def fail(fault: BaseException | None, texts: Sequence[str | None]) -> None:
    """Raises this rank's fault, or tells of another's."""
    if fault is not None:
        raise fault
    for rank, text in enumerate(texts):
        if text is not None:
            raise RankError(f"rank {rank} failed, and all with it: {text}")


def asked(comm: Any, find: Callable[[], Found]) -> list[Found]:
    """What a function returns on each rank; where it raises on one, all raise."""
    fault, value = None, None
    try:
        value = find()
    except BaseException as caught:
        fault = caught
    return each(comm, fault, value)


def together(comm: Any, doing: str, find: Callable[[], Found]) -> Found:
    """What a function returns; where it raises on one rank, all raise."""
    fault: BaseException | None = None
    try:
        found = find()
    except BaseException as caught:
        fault = caught
    agree(comm, doing, fault)
    return found


Entry = tuple[str, Any]          # what it is called in a message, and its value


def compare(comm: Any, entries: Iterable[Entry], cure: str) -> None:
    """Raises RankError on all ranks unless all have equal values, which they show each other by their hashes."""
    listed = list(entries)
    found = comm.allgather([digest(entry) for entry in listed])
    if all(one == found[0] for one in found):
        return
    at = next(at for at, row in enumerate(zip_longest(*found)) if len(set(row)) > 1)
    ranks: dict[tuple[str, str], list[int]] = {}
    mine = (listed[at][0], told(listed[at][1])) if at < len(listed) else ("what follows", "missing")
    for rank, theirs in enumerate(comm.allgather(mine)):
        ranks.setdefault(theirs, []).append(rank)
    said = "; ".join(f"{name} is {value} on {of_ranks(where)}" for (name, value), where in ranks.items())
    raise RankError(f"ranks must agree, but {said}; {cure}")


def digest(entry: Entry) -> int:
    name, value = entry
    data = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
    return int.from_bytes(hashed(name.encode() + b"\0" + data), "little")


def hashed(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
