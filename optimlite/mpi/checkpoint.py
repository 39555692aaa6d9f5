"""One safetensors file of all ranks: each writes its bytes of it, and each reads its part, however many there are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..checkpoint import transfer
from ..checkpoint.atomic import replacement
from ..checkpoint.background import Jobs, check_names, check_options, laid_out, settle, write_header
from ..checkpoint.files import opened, path_of
from ..checkpoint.header import NUMPY, Tensor, code_of
from ..checkpoint.reader import File
from ..checkpoint.restoring import Plan, Restored
from ..checkpoint.restoring import restore as restore_parts
from ..checkpoint.sums import Sums
from ..checkpoint.tree import Encoded, encode
from ..engine import ranks
from ..engine import state_dict as state_dicts
from ..engine.formats import BFLOAT16
from ..engine.parts import of_share
from . import safety
from .sharded import Sharded

SAVE, RESTORE = "`mpi.save`", "`mpi.restore`"


class Entry(NamedTuple):
    """An array of state of which a rank has a part: elements [start, stop) of the whole."""

    parameter: int
    key: str
    shape: tuple[int, ...]
    code: str
    start: int
    stop: int


def entries_of(opt: Sharded) -> list[tuple[Entry, np.ndarray]]:
    found = []
    if opt.state.folder is not None:
        opt.state.folder.check_whole()
    for at, part in opt.mine.items():
        for key, array in opt.state[part].items():
            shape, start, stop = part.extent(key, array)
            code = code_of(array.dtype)
            assert code is not None              # states are floats, counts and codes
            found.append((Entry(at, key, shape, code, start, stop), array))
    return found


class Spread:
    """A state dict whose arrays are on several ranks: in their places stand others that take no memory."""

    def __init__(self, opt: Sharded, doing: str) -> None:
        self.opt = opt
        self.mine, self.state_dict = ranks.together(opt.comm, doing, lambda: (
            {(one.parameter, one.key): (one, array) for one, array in entries_of(opt)},
            state_dicts.save(opt.optimizer, False, False)))
        self.places: dict[int, tuple[int, str]] = {}         # parameter and key of each stand-in, by its id
        for theirs in opt.comm.allgather([one for one, _ in self.mine.values()]):
            for one in theirs:
                state = self.state_dict["state"].setdefault(one.parameter, {})
                if one.key not in state:
                    dtype = BFLOAT16 if one.code == "BF16" else np.dtype(NUMPY[one.code])
                    state[one.key] = np.ndarray(one.shape, dtype, np.zeros(dtype.itemsize, np.uint8), 0,
                                                (0,) * len(one.shape))
                    self.places[id(state[one.key])] = one.parameter, one.key
        self.state_dict["state"] = dict(sorted(self.state_dict["state"].items()))

    def pieces(self, tensor: Tensor, array: np.ndarray) -> Jobs | None:
        """What this rank writes of a tensor of the file; None if it isn't one of these."""
        if id(array) not in self.places:
            return None
        if (found := self.mine.get(self.places[id(array)])) is None:
            return []
        one, own = found
        if not own.ndim and self.opt.mine[one.parameter].offset:     # a count, which the first part has, too
            return []
        return [piece(tensor, own, one.start, one.stop)]


def piece(tensor: Tensor, array: np.ndarray, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
    size = array.dtype.itemsize
    return tensor._replace(shape=array.shape, begin=tensor.begin + start * size, end=tensor.begin + stop * size), array


def divided(tensor: Tensor, array: np.ndarray, at: int, comm: Any) -> Jobs:
    """This rank's part of an array that all have."""
    if not array.flags.c_contiguous or array.size < 1 << 16:
        return [(tensor, array)] if at % comm.size == comm.rank else []
    start, stop = (array.size * rank // comm.size for rank in (comm.rank, comm.rank + 1))
    return [piece(tensor, array.reshape(-1)[start:stop], start, stop)]


def save(path: str | os.PathLike[str], /, comm: Any = None, *, fsync: bool = True, **parts: Any) -> None:
    """Writes parts of a training to one file, as `ol.save` does; every rank calls it, and writes its bytes.

    path: the file, on a file system that all ranks see.    comm: by default that of the first Sharded among the parts.
    fsync, parts: see `ol.save`.  What isn't sharded is alike on all ranks; of plain values, those of rank 0 are saved.

    The file is whole or not there, has checksums, and is what one process would have written: `ol.load` and
    `ol.restore` read it.  Where one rank fails, the others raise RankError; the old file is intact then.

        >>> def train(comm):
        ...     w = np.array([1.0, -2.0])
        ...     opt = mpi.Sharded(ol.SGD([w], lr=0.25, momentum=0.9), comm)
        ...     opt.step(grads=[2 * w])
        ...     mpi.save("run.safetensors", model=[w], optimizer=opt, epoch=1)
        >>> _ = mpi.simulate(2, train)
        >>> ol.load("run.safetensors")["model"]
        [array([ 0.5, -1. ])]
    """
    comm = comm_of(comm, parts)
    together = partial(ranks.together, comm, SAVE)

    def begin() -> None:
        check_options(fsync=fsync)
        check_names(parts)
        settle()
        if not parts:
            raise TypeError("there is nothing to save: give parts by name, as in mpi.save(path, model=params)")

    together(begin)
    spread = {name: Spread(part, SAVE) for name, part in parts.items() if isinstance(part, Sharded)}
    encoded: Encoded = together(lambda: encode({
        name: spread[name].state_dict if name in spread else part for name, part in parts.items()}))
    encoded.json = comm.bcast(encoded.json)
    names, jobs = together(lambda: laid_out(encoded))
    ranks.compare(comm, [("the arrays of the checkpoint", names)], "save the same parts on each")
    mine: list[tuple[int, tuple[Tensor, np.ndarray]]] = []
    for at, (tensor, array) in enumerate(jobs):
        found = next((found for one in spread.values() if (found := one.pieces(tensor, array)) is not None), None)
        mine += [(at, job) for job in (divided(tensor, array, at, comm) if found is None else found)]
    with ExitStack() as stack:
        file = together(lambda: stack.enter_context(replacement(os.path.abspath(path_of(path)), fsync))
                        if comm.rank == 0 else None)
        temporary = comm.bcast(file and file.path)

        def write() -> list[int]:
            own = file or stack.enter_context(opened(temporary, os.O_RDWR))
            sums = transfer.write(own.fileno(), [job for _, job in mine], lambda nbytes: None)
            if fsync:
                os.fsync(own.fileno())
            return sums

        crcs = together(write)
        sums = Sums(len(jobs))
        for theirs in comm.allgather([(at, tensor.begin, crc, tensor.end - tensor.begin)
                                      for (at, (tensor, _)), crc in zip(mine, crcs, strict=True)]):
            for at, *piece_of in theirs:
                sums.found[at].append(tuple(piece_of))

        def end() -> None:
            if file is not None:
                write_header(file.fileno(), names, encoded.json, sums.results())
            stack.close()                        # on rank 0: the file takes its place

        together(end)


def comm_of(comm: Any, parts: Mapping[str, Any]) -> Any:
    return safety.communicator(next((part.comm for part in parts.values() if isinstance(part, Sharded)), None)
                               if comm is None else comm)


class SharedPlan(Plan):
    """A plan of which each rank reads its part, and verifies some of the arrays for all."""

    def __init__(self, file: File, verify: bool, comm: Any) -> None:
        super().__init__(file, False)
        self.comm, self.asked, self.all = comm, False, verify

    def add(self, name: str, live: Any, saved: Any) -> None:
        if not isinstance(live, Sharded):
            super().add(name, live, saved)
            return
        fit = self._fit(name, live.optimizer, saved)
        self.commits.append(lambda: state_dicts.commit(live.optimizer, fit._replace(states=[])))
        self._place(live.share, of_share(live.share, live.optimizer, fit))

    def carry_out(self) -> None:
        if self.all:
            tensors = sorted(self.file.tensors.values(), key=lambda one: (one.begin - one.end, one.name))
            if mine := tensors[self.comm.rank::self.comm.size]:
                self.file.verify(mine)
        self.ask(None)
        ranks.together(self.comm, RESTORE, super().carry_out)     # a disk may fail yet, and all hear of it

    def ask(self, fault: BaseException | None) -> None:
        self.asked = True
        ranks.agree(self.comm, RESTORE, fault)


def restore(path: str | os.PathLike[str], /, comm: Any = None, *, strict: bool = True, verify: bool = True,
            **parts: Any) -> Restored:
    """Puts a checkpoint back into live objects, as `ol.restore` does; every rank calls it, and reads its part.

    path, strict, verify, parts: see `ol.restore`.    comm: by default that of the first Sharded among the parts.

    The file may be of any number of ranks, or of a process without MPI.  Each rank verifies the checksums of some
    arrays.  Where one rank fails, the others raise RankError, before anything is changed.

        >>> def train(comm, first):
        ...     w = np.array([1.0, -2.0])
        ...     opt = mpi.Sharded(ol.SGD([w], lr=0.25, momentum=0.9), comm)
        ...     if first:
        ...         opt.step(grads=[2 * w])
        ...         mpi.save("run.safetensors", model=[w], optimizer=opt, epoch=1)
        ...     else:
        ...         values = mpi.restore("run.safetensors", model=[w], optimizer=opt)
        ...         return w.tolist(), values["epoch"]
        >>> _ = mpi.simulate(2, train, True)
        >>> mpi.simulate(3, train, False)                    # in as many ranks as you like
        [([0.5, -1.0], 1), ([0.5, -1.0], 1), ([0.5, -1.0], 1)]
    """
    comm = comm_of(comm, parts)
    plans: list[SharedPlan] = []

    def planned(file: File, verify: bool) -> SharedPlan:
        plans.append(SharedPlan(file, verify, comm))
        return plans[0]

    try:
        check_options(strict=strict, verify=verify)
        settle()
        return restore_parts(path, parts, strict, verify, planned)
    except BaseException as fault:
        if not (plans and plans[0].asked):
            ranks.agree(comm, RESTORE, fault)
        raise


def gathered(opt: Sharded) -> dict[str, Any]:
    """A state dict of the whole optimizer, on every rank, in memory; every rank calls it.

    opt: a Sharded.

    The state dict is that of an optimizer that isn't sharded, and loads into one.  Raises RankError where another rank
    fails.

        >>> def train(comm):
        ...     w = np.array([1.0, -2.0])
        ...     opt = mpi.Sharded(ol.SGD([w], lr=0.25, momentum=0.9), comm)
        ...     opt.step(grads=[2 * w])
        ...     return mpi.gathered(opt)
        >>> state_dict = mpi.simulate(2, train)[0]
        >>> state_dict["state"][0]["momentum_buffer"]
        array([ 2., -4.])
    """
    found = Spread(opt, "`gathered`")
    state: dict[int, dict[str, np.ndarray]] = found.state_dict["state"]
    for entries in state.values():
        entries.update({key: np.zeros(array.shape, array.dtype) for key, array in entries.items()})
    for theirs in opt.comm.allgather(list(found.mine.values())):
        for one, array in theirs:
            state[one.parameter][one.key].reshape(-1)[one.start:one.stop] = array.reshape(-1)
    return found.state_dict
