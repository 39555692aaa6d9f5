"""What ranks of a communicator do together: they fail together, and compare what must be equal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np

from ..checks import shown

Found = TypeVar("Found")


class RankError(RuntimeError):
    """Another rank failed, or does something else than this one; the message says which, and what."""


def check_communicator(comm: Any) -> Any:
    if not (hasattr(comm, "rank") and hasattr(comm, "size") and hasattr(comm, "allgather")):
        raise TypeError(f"`comm` must be a communicator of mpi4py, such as MPI.COMM_WORLD, or one of "
                        f"optimlite.mpi.simulate, got {shown(comm)}")
    return comm


def agree(comm: Any, fault: BaseException | None, flags: Sequence[bool] = (), more: bytes = b"") -> np.ndarray:
    """Raises on all ranks if there is a fault on one; else returns everybody's flags and other bytes, a row each."""
    mine = np.frombuffer(bytes([fault is not None]) + np.array(flags, bool).tobytes() + more, np.uint8)
    found = np.zeros((comm.size, mine.size), np.uint8)
    comm.Allgather(mine, found)
    if not found[:, 0].any():
        return found[:, 1:]
    each(comm, fault)
    raise AssertionError                         # one of them has raised


def each(comm: Any, fault: BaseException | None, value: Any = None) -> list[Any]:
    """Everybody's value; raises on all ranks if there is a fault on one."""
    found = comm.allgather((None if fault is None else f"{type(fault).__name__}: {fault}", value))
    if fault is not None:
        raise fault
    for rank, (text, _) in enumerate(found):
        if text is not None:
            raise RankError(f"rank {rank} failed, and all with it: {text}")
    return [value for _, value in found]


def asked(comm: Any, find: Callable[[], Found]) -> list[Found]:
    """What a function returns on each rank; where it raises on one, all raise."""
    fault, value = None, None
    try:
        value = find()
    except BaseException as caught:
        fault = caught
    return each(comm, fault, value)


def together(comm: Any, find: Callable[[], Found]) -> Found:
    """What a function returns; where it raises on one rank, all raise."""
    fault: BaseException | None = None
    try:
        found = find()
    except BaseException as caught:
        fault = caught
    agree(comm, fault)
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
    said = "; ".join(f"{name} is {value} on rank{'s' * (len(where) > 1)} {', '.join(map(str, where))}"
                     for (name, value), where in ranks.items())
    raise RankError(f"ranks must agree, but {said}; {cure}")


def digest(entry: Entry) -> int:
    name, value = entry
    data = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
    return int.from_bytes(hashlib.blake2b(name.encode() + b"\0" + data, digest_size=8).digest(), "little")


def told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
