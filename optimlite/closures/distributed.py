"""Closure methods over many ranks, each of which has unknowns of its own: losses and products are those of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..engine.parameter import Parameter
from ..engine.ranks import Entry, asked, compare, together
from ..native import dispatch
from .descent import real_loss
from .preconditioner import Apply, Arrays, InnerSpace
from .vectors import NONE, Vector, VectorSpace


def added(parts: Sequence[Sequence[float]], maxima: int = 0) -> list[float]:
    """The sums of all ranks' numbers, one rank after the other; of the last `maxima` the largest, NaN if one is."""
    total = list(parts[0])
    sums = len(total) - maxima
    for part in parts[1:]:
        for at, value in enumerate(part):
            if at < sums:
                total[at] += value
            elif value > total[at] or value != value:
                total[at] = value
    return total


class DistributedSpace(VectorSpace):
    """The vectors over all ranks' unknowns, of which this one has a part."""

    def __init__(self, parameters: Sequence[Parameter], comm: Any, *more: Any) -> None:
        super().__init__(parameters, *more)
        self.comm = comm
        sizes, resolutions = zip(*comm.allgather((self.size, self.eps)), strict=True)
        self.size, self.eps = sum(sizes), max(resolutions)       # by which all decide

    def _run(self, name: str, vectors: list[Vector], coefficients: Any = NONE, backwards: bool = False) -> list[float]:
        found = super()._run(name, vectors, coefficients, backwards)
        if not found:
            return found
        return added(self.comm.allgather(found), dispatch.vector_kernel(name, 8, dispatch.level).maxima)


class DistributedInnerSpace(DistributedSpace, InnerSpace):
    """The same with the user's inner product, which is given this rank's part of two vectors and returns a part of it.
    """

    def dot(self, a: Vector, b: Vector) -> float:
        return added(asked(self.comm, lambda: [InnerSpace.dot(self, a, b)]))[0]


def space_over(comm: Any, parameters: Sequence[Parameter], inner: Callable[[Arrays, Arrays], Any] | None,
               ) -> VectorSpace:
    return (DistributedSpace(parameters, comm) if inner is None
            else DistributedInnerSpace(parameters, comm, inner))


class Over:
    """What a step asks of the user, asked on all ranks: they raise together, and get the same answer.

    `beside`: what all ranks, or none, must have.
    """

    def __init__(self, comm: Any, **beside: Any) -> None:
        self.comm, self.beside = comm, beside

    def options(self, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        options = together(self.comm, "a step of a closure method", find)
        entries: list[Entry] = [(f"`{key}`", getattr(value, "__qualname__", value)) for key, value in options.items()
                                if key not in ("params", "param_names")]
        entries += [(f"whether there is `{key}`", value is not None) for key, value in self.beside.items()]
        compare(self.comm, entries, "make the same optimizer on each")
        return options

    def model(self, model: Callable[[], Any], parameters: Sequence[Parameter]) -> Callable[[], float]:
        """The sum of the ranks' losses; each has the gradient by its own unknowns."""
        def loss() -> float:
            found = asked(self.comm, lambda: (real_loss(model()), any(p.grad is not None for p in parameters)))
            if not found[self.comm.rank][1] and any(has for _, has in found):
                parameters[0].grad = np.zeros_like(parameters[0].data)       # else it would stop here alone
            return added([[part] for part, _ in found])[0]

        return loss

    def callback(self, callback: Callable[[Any], Any]) -> Callable[[Any], bool]:
        """Asks all to stop where one rank's does."""
        def answered(result: Any) -> bool:
            try:
                answer = callback(result)
            except StopIteration:
                return True
            return isinstance(answer, (bool, np.bool_)) and bool(answer)

        return lambda result: any(asked(self.comm, lambda: answered(result)))

    def h0(self, h0: Apply) -> Apply:
        return lambda out, v: together(self.comm, "`h0`", lambda: h0(out, v))
