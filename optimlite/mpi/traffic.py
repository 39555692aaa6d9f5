"""What a step sends between ranks: gradients to whose share they are of, squares for the norm, parameters to all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..engine.parameter import Parameter, laid_out
from ..engine.parts import BLOCK, Part
from ..native import dispatch
from ..native.vectors import Blocks, Vector
from .reduction import Buffers, Exchange, Flat, flat, order_of, put_back, sent
from .shares import Range


class Traffic:
    """For all parameters and the parts of this rank, by their numbers; `flags` say which have a gradient anywhere."""

    def __init__(self, comm: Any, parameters: Sequence[Parameter], shares: Sequence[Sequence[Range]],
                 mine: Mapping[int, Part]) -> None:
        self.comm, self.parameters, self.shares, self.mine = comm, parameters, shares, mine
        self._sums: dict[int, np.ndarray] = {}
        self._exchanges: dict[bytes, tuple[list[Exchange], ...]] = {}
        self._buffers = Buffers()

    def exchanges(self, flags: np.ndarray) -> tuple[list[Exchange], ...]:
        """One for each type that gradients are summed in; and one for each that parameters are sent in."""
        key = flags.tobytes()
        if key not in self._exchanges:
            if len(self._exchanges) == 8:        # a GAN's two halves take turns; more is chance
                self._exchanges.clear()
            summed, given = [p.float_type for p in self.parameters], [sent(p.data).dtype for p in self.parameters]
            made = self._made(flags, summed)
            self._exchanges[key] = made, made if given == summed else self._made(flags, given)
        return self._exchanges[key]

    def _made(self, flags: np.ndarray, types: list[np.dtype]) -> list[Exchange]:
        return [Exchange(self.comm, [[one for one in share if flags[one.parameter] and types[one.parameter] == dtype]
                                     for share in self.shares], dtype, self._buffers)
                for dtype in dict.fromkeys(itertools.compress(types, flags))]

    def reserve(self, flags: np.ndarray) -> None:
        """Takes the memory for a step."""
        for at, part in self.mine.items():
            if flags[at] and at not in self._sums:
                self._sums[at] = laid_out(part.data, dtype=part.float_type)
        for exchange in itertools.chain(*self.exchanges(flags)):
            exchange.reserve()

    def sum(self, gradients: Sequence[Flat | None], flags: np.ndarray, order: str) -> None:
        """Gives the parts of this rank the sum of all ranks' gradients."""
        mine = {at: part for at, part in self.mine.items() if flags[at]}
        if self.comm.size == 1:
            for at, part in mine.items():
                elements, data = gradients[at], self.parameters[at].data
                part.grad = None if elements is None else elements.reshape(data.shape, order=order_of(data))
            return
        for at, part in mine.items():
            part.grad = self._sums[at]
        sums = [flat(self._sums[at], self._sums[at]) if at in mine else None for at in range(len(self.parameters))]
        for exchange in self.exchanges(flags)[0]:
            exchange.reduce(gradients, sums, order)

    def norm(self, order: Sequence[int]) -> float:
        """The norm of the sums: by blocks, which are added in the order of a process that has them all."""
        blocks: list[np.ndarray] = []
        counts: list[tuple[int, int]] = []
        for at, part in self.mine.items():
            if part.grad is not None:
                g = np.require(flat(part.grad, part.data), requirements="A")         # type: ignore[arg-type]
                blocks += [g[start:start + BLOCK] for start in range(0, g.size, BLOCK)]
                counts.append((at, -(-g.size // BLOCK)))
        squares = Blocks([b.size for b in blocks], [b.itemsize for b in blocks]).run(
            dispatch.vector_kernels("sum_squares", dispatch.level), [Vector(blocks)], np.array([[0.0]]), by_array=True)
        of_parameter: dict[int, list[float]] = {}
        for theirs, found in self.comm.allgather((counts, squares)):
            for at, count in theirs:
                of_parameter.setdefault(at, []).extend(found[:count])
                del found[:count]
        ordered = [square for at in order for square in of_parameter.get(at, ())]
        return math.sqrt(np.cumsum(ordered)[-1]) if ordered else 0.0         # one after the other

    def spread(self, flags: np.ndarray) -> None:
        """Gives all ranks the parameters that others have."""
        if self.comm.size == 1:
            return
        values = [flat(sent(p.data), p.data) if flag else None for p, flag in zip(self.parameters, flags, strict=True)]
        for exchange in self.exchanges(flags)[1]:
            exchange.spread(values)
        for parameter, elements in zip(self.parameters, values, strict=True):
            if elements is not None:
                put_back(parameter, elements)
