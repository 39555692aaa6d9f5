"""That all ranks do the same: what asks them before a step is done, and what must be equal on all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..checkpoint.sums import crc32
from ..engine.follower import Follower, Sequel
from ..engine.group_plan import Created
from ..engine.method import Group
from ..engine.parameter import Parameter
from ..engine.ranks import TOLD_FIRST, Entry, agree, agreed, check_communicator
from ..engine.state import StateMap


def communicator(comm: Any) -> Any:
    """The communicator, by default that of all ranks."""
    if comm is not None:
        return check_communicator(comm)
    try:
        from mpi4py import MPI
    except ModuleNotFoundError as fault:
        raise ImportError(f"optimlite.mpi needs mpi4py; install it with `pip install \"optimlite[mpi]\"`, or give a "
                          f"communicator as `comm` ({fault})") from None
    except (ImportError, RuntimeError) as fault:             # it is linked with one, or looks for one
        reason, _, _ = str(fault).partition("\n")            # where it has looked is told by the cause
        raise ImportError(f"mpi4py finds no MPI library; install one, with `pip install mpich` or as your cluster has "
                          f"it, or give a communicator as `comm` ({reason})") from fault
    return MPI.COMM_WORLD


class Commit:
    """Stands where a step is prepared and not yet done: the last moment in which a rank can fail, and all ask.

    It follows a step as the optimizer's own `follower` does, which it calls.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.doing = comm, ""
        self.follower: Follower | None = None
        self._exchanged = np.zeros((comm.size, TOLD_FIRST), np.uint8)         # what ranks have told each other
        self._late: BaseException | None = None

    @property
    def moves(self) -> bool:
        return self.follower is not None

    def follow(self, groups: list[Group], state: StateMap, created: list[Created]) -> Sequel:
        sequel: Sequel = ([], [], []) if self.follower is None else self.follower.follow(groups, state, created)
        self.meet()
        return sequel

    def meet(self) -> None:
        """Raises on all ranks what one can't go on with; else they go on."""
        try:
            self.ask(None)
        except BaseException as fault:           # an interrupt that came while this rank waited for the others,
            if not self.agreed:                  # which go on
                raise
            self._late = fault

    def ask(self, fault: BaseException | None) -> None:
        agree(self.comm, self.doing, fault, exchanged=self._exchanged)

    @property
    def agreed(self) -> bool:
        """Whether all go on, whatever is raised on this rank."""
        return agreed(self._exchanged, self.comm.rank)

    def run(self, doing: str, act: Callable[[], None]) -> BaseException | None:
        """Does what ends where ranks `meet`, on all of them or on none; returns what was raised behind that."""
        self.doing = f"the last check before {doing}"
        self._exchanged[...], self._late = 0, None
        try:
            act()
        except BaseException as fault:
            if not self._exchanged.any():            # the others don't know
                self.ask(fault)
            if not self.agreed:
                raise
            return fault
        return self._late


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
