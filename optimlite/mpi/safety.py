"""That all ranks do the same: they agree before each step, and compare what must be equal now and then."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from ..checkpoint.sums import crc32
from ..checks import shown
from ..engine.follower import NOTHING, Follower, Sequel
from ..engine.group_plan import Created
from ..engine.method import Group
from ..engine.parameter import Parameter
from ..engine.state import StateMap


class RankError(RuntimeError):
    """Another rank failed, or does something else than this one; the message says which, and what."""


def communicator(comm: Any) -> Any:
    """The communicator, by default that of all ranks."""
    if comm is not None:
        if not (hasattr(comm, "rank") and hasattr(comm, "size") and hasattr(comm, "allgather")):
            raise TypeError(f"`comm` must be a communicator of mpi4py, such as MPI.COMM_WORLD, or one of "
                            f"optimlite.mpi.simulate, got {shown(comm)}")
        return comm
    try:
        from mpi4py import MPI
    except ImportError as fault:
        raise ImportError(f"optimlite.mpi needs mpi4py; install it with `pip install \"optimlite[mpi]\"`, or give a "
                          f"communicator as `comm` ({fault})") from None
    except RuntimeError as fault:
        raise ImportError(f"mpi4py finds no MPI library; install one, with `pip install mpich` or as your cluster has "
                          f"it ({fault})") from None
    return MPI.COMM_WORLD


def agree(comm: Any, fault: BaseException | None, flags: Sequence[bool] = (), more: bytes = b"") -> np.ndarray:
    """Raises on all ranks if there is a fault on one; else returns everybody's flags and other bytes, a row each."""
    mine = np.frombuffer(bytes([fault is not None]) + np.array(flags, bool).tobytes() + more, np.uint8)
    found = np.zeros((comm.size, mine.size), np.uint8)
    comm.Allgather(mine, found)
    if not found[:, 0].any():
        return found[:, 1:]
    said = comm.allgather(None if fault is None else f"{type(fault).__name__}: {fault}")
    if fault is not None:
        raise fault
    rank, text = next((rank, text) for rank, text in enumerate(said) if text is not None)
    raise RankError(f"rank {rank} failed, so that nothing was changed on any: {text}")


def together(comm: Any, find: Callable[[], Any]) -> Any:
    """What a function returns; where it raises on one rank, all raise."""
    fault, found = None, None
    try:
        found = find()
    except BaseException as caught:
        fault = caught
    agree(comm, fault)
    return found


class Commit:
    """Stands where a step is prepared and not yet done: the last moment in which a rank can fail, and all ask."""

    def __init__(self, comm: Any) -> None:
        self.comm, self.asked = comm, False
        self.follower: Follower | None = None    # the optimizer's own

    def follow(self, groups: list[Group], state: StateMap, created: list[Created]) -> Sequel:
        sequel = NOTHING if self.follower is None else self.follower.follow(groups, state, created)
        self.ask(None)
        return sequel

    def ask(self, fault: BaseException | None) -> None:
        self.asked = True
        agree(self.comm, fault)

    def step(self, run: Callable[[], None], follower: Follower | None) -> None:
        """Runs a step that ends with this one's `follow`; it is done on all ranks or on none."""
        self.follower, self.asked = follower, False
        try:
            run()
        except BaseException as fault:
            if not self.asked:
                self.ask(fault)
            raise


# Comparing -----------------------------------------------------------------------------------------------------------

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


def of_groups(groups: Sequence[Mapping[str, Any]]) -> Iterator[Entry]:
    for number, group in enumerate(groups):
        for key in sorted(group):
            if key not in ("params", "param_names"):
                yield f"`{key}` of group {number}", group[key]


def of_layout(parameters: Sequence[Parameter], names: Sequence[str]) -> Iterator[Entry]:
    for parameter, name in zip(parameters, names, strict=True):
        flags = parameter.data.flags
        yield f"parameter '{name}'", (parameter.shape, str(parameter.dtype),
                                      "F" if flags.fnc else "C" if flags.c_contiguous else "strided")


def of_values(parameters: Sequence[Parameter], names: Sequence[str]) -> Iterator[Entry]:
    for parameter, name in zip(parameters, names, strict=True):
        data = np.ascontiguousarray(parameter.data)
        yield f"the checksum of '{name}'", f"{crc32(data.reshape(-1).view(np.uint8)):08x}"
