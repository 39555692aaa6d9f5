"""Steps of state in files: buckets are read, stepped and written, each while others are under way."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np

from ..native.parameters import byte_bounds
from . import parts as of_parts
from .formats import SHARING
from .group_plan import Created, GroupPlan
from .method import Group
from .offload import Folder, file_of, in_pages
from .parameter import Parameter
from .parts import Part
from .sparse_grad import SparseGrad
from .state import State, StateMap
from .storage import places, scales_of
from .threads import Crew, Flag

CHUNK = 1 << 21                  # elements of a bucket; a multiple of SHARING * PAGE, so that it cuts scales at pages
BUFFERS = 4                      # buckets in memory: one is stepped, the others are written and read

RuleOptimizer = Any              # the class itself imports this
Piece = tuple[int, Parameter, int, int]          # the number of a group, and elements [start, stop) of a parameter


class Bucket:
    """Parts of parameters, and an optimizer over them whose state comes into a buffer to be stepped."""

    def __init__(self, optimizer: RuleOptimizer, pieces: list[Piece], buffer: int) -> None:
        lists: list[list[Part]] = [[] for _ in optimizer.param_groups]
        for number, parameter, start, stop in pieces:
            lists[number].append(Part(parameter, optimizer.state.name_of(parameter), start, stop))
        self.made, self.buffer = of_parts.over_parts(optimizer, lists), buffer
        self.members: list[tuple[Group, Part]] = [(group, part) for group in self.made.param_groups
                                                  for part in group["params"]]
        self.lying = [one for group, part in self.members for one in self.taken(group, part, optimizer.state)]
        self.size = sum(in_pages(values.nbytes) for _, _, values in self.lying)
        self.moves: list[tuple[int, int, memoryview]] = []       # a file, where in it, and where in memory

    def taken(self, group: Group, part: Part, states: StateMap) -> Iterator[tuple[State, str, np.ndarray]]:
        """Gives a part what it has of the state of the whole, but for what is in files, which it yields."""
        state, entries = self.made.state[part], states[part.whole]
        found, scalars = places(self.made, group, part), self.made.scalars_of(group)
        if not all(key in entries for key in (*found, *scalars)):        # the whole hasn't stepped
            return
        for key, place in found.items():
            values = entries[key]
            if part.partial:
                scaled = values.dtype == np.int8 and key.endswith(scales_of(""))
                start = part.start // (SHARING if scaled else 1)
                values = values.reshape(-1)[start:start + place.shape[0]]
            if file_of(values) is None or part.data.size > CHUNK:
                state[key] = values
            else:
                yield state, key, values
        for key in scalars:
            state[key] = entries[key].copy()

    def lie_in(self, memory: np.ndarray) -> None:
        """Puts state that is in files there."""
        at = 0
        for state, key, values in self.lying:
            file: Any = file_of(values)
            pages = memory[at:at + in_pages(values.nbytes)]
            state[key] = np.ndarray(values.shape, values.dtype, pages, order="F" if values.flags.fnc else "C")
            self.moves.append((file.fd, byte_bounds(values)[0] - file.begin,
                               memoryview(pages)))       # type: ignore[arg-type]
            at += len(pages)

    def prepare(self, optimizer: RuleOptimizer, gradients: dict[Parameter, Any], fresh: set[Parameter]) -> bool:
        """Gives the parts their gradients, and says whether there are any; what can be refused is refused here."""
        if all(gradients[part.whole] is None for _, part in self.members):
            return False
        of_parts.follow(self.made, optimizer)
        self.made.follower = None                # it is asked once, before any bucket is stepped
        for _, part in self.members:
            gradient = gradients[part.whole]
            if gradient is not None and part.partial:
                gradient = gradient.reshape(-1)[part.start:part.start + part.data.size]
            part.grad = gradient
        for mine, whole in self.scalars(optimizer):
            mine[...] = whole
        for group in self.made._plans if fresh else ():
            for plan in group.plans:
                for at, part in enumerate(plan.parameters):
                    if part.whole in fresh:
                        group.attach(plan, at, self.made.state[part], group.scalars, False)
        return True

    def scalars(self, optimizer: RuleOptimizer) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Those of parts, and of the parameters that they are of."""
        for group, part in self.members:
            mine, whole = self.made.state[part], optimizer.state[part.whole]
            yield from ((mine[key], whole[key]) for key in self.made.scalars_of(group) if key in mine)

    def finish(self, optimizer: RuleOptimizer) -> None:
        for mine, whole in self.scalars(optimizer):
            whole[...] = mine
        for _, part in self.members:
            part.grad = None

    def read(self) -> None:
        for _, part in self.members:
            for array in (part.data, part.grad):
                read_ahead(array)
        for fd, at, memory in self.moves:
            transfer(os.preadv, fd, at, memory)

    def write(self) -> None:
        for fd, at, memory in self.moves:
            transfer(os.pwritev, fd, at, memory)


def transfer(call: Callable[..., int], fd: int, at: int, memory: memoryview) -> None:
    while memory:
        done = call(fd, [memory], at)
        if not done:
            raise OSError("a file of state has become shorter")
        at, memory = at + done, memory[done:]


def read_ahead(array: Any) -> None:
    """Tells the kernel that what lies in a user's file is wanted soon."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and array.size:
        begin, end = (bound - byte_bounds(np.frombuffer(base, np.uint8))[0] for bound in byte_bounds(array))
        base.madvise(mmap.MADV_WILLNEED, begin := begin - begin % mmap.PAGESIZE, end - begin)


class Stream:
    """The buckets of an optimizer, as its groups are and its state lies."""

    def __init__(self, optimizer: RuleOptimizer, made_of: Any) -> None:
        self.made_of = made_of
        self.buckets = [Bucket(optimizer, pieces, number % BUFFERS) for number, pieces in enumerate(packed(optimizer))]
        size = max((bucket.size for bucket in self.buckets), default=0)
        buffers = [np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
                   for _ in self.buckets[:BUFFERS]] if size else []
        for bucket in self.buckets:
            if bucket.lying:
                bucket.lie_in(buffers[bucket.buffer])

    def run(self, buckets: list[Bucket], step: Callable[[Bucket], None]) -> None:
        """Steps buckets in their order.  In each buffer, one is written and then the next is read."""
        queues = [queue for at in range(BUFFERS) if (queue := [bucket for bucket in buckets if bucket.buffer == at])]
        following = dict(pair for queue in queues for pair in pairwise([*queue, None]))
        todo, crew = SimpleQueue[Turn | None](), Crew()

        def work() -> None:
            for turn in iter(todo.get, None):
                turn.run()

        # As many threads as there are to be had, before anything is stepped; without one, all is done in this one.
        started = [queue for queue in queues if crew.start(work)]

        def begun(done: Bucket | None, following: Bucket | None) -> Turn:
            turn = Turn(done, following)
            todo.put(turn) if started else turn.run()
            return turn

        try:
            turns = {queue[0].buffer: begun(None, queue[0]) for queue in queues}
            for bucket in buckets:
                turns[bucket.buffer].wait()
                step(bucket)
                turns[bucket.buffer] = begun(bucket, following[bucket])
            for turn in turns.values():
                turn.wait()
        finally:
            for _ in started:
                todo.put(None)
            crew.wait()


class Turn:
    """Between two steps in a buffer: one bucket is written, and then the next is read."""

    def __init__(self, done: Bucket | None, following: Bucket | None) -> None:
        self.done, self.following = done, following
        self.ended, self.fault = Flag(), list[BaseException]()

    def run(self) -> None:
        try:
            if self.done is not None:
                self.done.write()
            if self.following is not None:
                self.following.read()
        except BaseException as fault:
            self.fault.append(fault)
        finally:
            self.ended.set()

    def wait(self) -> None:
        self.ended.wait()
        if self.fault:
            raise self.fault.pop()


def packed(optimizer: RuleOptimizer) -> Iterator[list[Piece]]:
    """What goes into each bucket: as much of the next parameters as it takes; what can't be cut, whole."""
    bucket: list[Piece] = []
    room = CHUNK
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            size, name = parameter.data.size, optimizer.state.name_of(parameter)
            cuts = size > CHUNK and of_parts.divisible(optimizer, group, parameter, name)
            for start in range(0, size, CHUNK) if cuts else [0]:
                stop = min(size, start + CHUNK) if cuts else size
                if bucket and stop - start > room:
                    yield bucket
                    bucket, room = [], CHUNK
                bucket.append((number, parameter, start, stop))
                room -= stop - start
    if bucket:
        yield bucket


def streamable(optimizer: RuleOptimizer, groups: list[GroupPlan]) -> bool:
    """Whether parts may be stepped one after the other: else the step is one of all, in memory that is mapped."""
    return not ((optimizer.follower is not None and optimizer.follower.moves) or any(group.totals for group in groups)
                or any(map(optimizer.whole, optimizer.param_groups))
                or any(isinstance(parameter.grad, SparseGrad) for parameter in optimizer._parameters()))


def step(optimizer: RuleOptimizer, folder: Folder, groups: list[GroupPlan], factor: float, max_abs: float | None,
         probe: Any) -> int | None:
    """A step by the gradients that are bound; counts buckets, or is None where they can't be made.

    Interrupts are seen when it is whole.
    """
    folder.check()
    if probe is not None or not streamable(optimizer, groups):
        return None
    created: list[Created] = []
    whole = Whole(optimizer, folder)
    try:
        for group in groups:
            group.create_states(optimizer, created)
        if created:
            optimizer.state.invalidate()
        stream = stream_of(optimizer, folder, groups)
        gradients, fresh = gradients_of(groups), fresh_of(optimizer, groups, created)
        buckets = [bucket for bucket in stream.buckets if bucket.prepare(optimizer, gradients, fresh)]
        for group in groups:                     # refuses what a step of all at once would
            group.launches(optimizer, [], factor, math.inf if max_abs is None else max_abs)
        whole.step(stream, buckets, created, lambda bucket: of_parts.step(bucket.made, factor, max_abs))
    except BaseException:
        whole.wait()
        if not whole.begun:
            for state, key in created:
                state.pop(key, None)
        raise
    return len(buckets)


class Whole:
    """A step in a thread, where no interrupt comes.

    It stands ready before ranks agree: an interrupt behind that can't keep this one from its step.
    """

    def __init__(self, optimizer: RuleOptimizer, folder: Folder) -> None:
        self.optimizer, self.folder = optimizer, folder
        self.commit: Any = optimizer.follower    # of many ranks, which go on together once they agree
        self.crew, self.go = Crew(), Flag()
        self.left: Callable[[], None] | None = None          # what no thread has taken
        self.begun, self.faults = list[Bucket](), list[BaseException]()

    @property
    def agreed(self) -> bool:
        return self.commit is not None and bool(self.commit.agreed)

    def step(self, stream: Stream, buckets: list[Bucket], created: list[Created], act: Callable[[Bucket], None],
             ) -> None:
        def step_one(bucket: Bucket) -> None:
            self.begun.append(bucket)
            try:
                act(bucket)
            except Exception:                    # before anything moved
                self.begun.pop()
                raise

        def run() -> None:
            try:
                self.left = None
                self.go.wait()
                if self.commit is None or self.agreed:
                    stream.run(buckets, step_one)
                    for bucket in buckets:
                        bucket.finish(self.optimizer)
            except BaseException as fault:
                self.faults.append(fault)
                self.folder.torn = repr(fault) if self.begun or self.agreed else ""

        if not self.crew.start(run):
            self.left = run
        if self.commit is not None:
            self.commit.follow(self.optimizer.param_groups, self.optimizer.state, created)
        self.go.set()
        if self.left is not None:
            self.left()
        self.crew.wait()
        if self.faults:
            self.folder.check()
            raise self.faults[0]

    def wait(self) -> None:
        """Until nothing is under way or left to do any more, whatever is raised meanwhile."""
        while self.left is not None or not self.crew.done:
            with suppress(BaseException):
                self.go.set()
                if self.left is not None:
                    self.left()
                self.crew.wait()


def stream_of(optimizer: RuleOptimizer, folder: Folder, groups: list[GroupPlan]) -> Stream:
    """The one that there is, unless parameters, state or what the groups' values choose have changed."""
    made_of = optimizer.state.version, [(group.params, group.made_of) for group in groups]
    if folder.stream is None or folder.stream.made_of != made_of:
        folder.stream = None                     # and its buffers
        folder.stream = Stream(optimizer, made_of)
    stream: Stream = folder.stream
    return stream


def gradients_of(groups: list[GroupPlan]) -> dict[Parameter, Any]:
    """As kernels read them: a copy where they lie otherwise, or in memory that the step writes to."""
    return {parameter: plan.gradient(at) for group in groups for plan in group.plans
            for at, parameter in enumerate(plan.parameters)}


def fresh_of(optimizer: RuleOptimizer, groups: list[GroupPlan], created: list[Created]) -> set[Parameter]:
    """The parameters that step for the first time."""
    new = {(id(state), key) for state, key in created}
    return {parameter for group in groups for plan in group.plans for parameter in plan.parameters if new
            and all((id(optimizer.state[parameter]), key) in new for key in (*plan.slots, *group.scalars))}
