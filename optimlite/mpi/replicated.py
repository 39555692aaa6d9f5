"""For those who keep the whole optimizer on every rank: equal parameters at the start, and averaged gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import one_of
from ..engine import nesting, ranks
from ..engine.halves import gradient_of
from ..engine.optimizer import Optimizer
from ..engine.parameter import Parameter, check_still_writeable, laid_out
from ..engine.parts import BLOCK, check_plain
from . import safety
from .reduction import check_order, flat, put_back, sent, sum_arrays

AVERAGE = "`average_gradients`"


def found_in(params: Any) -> tuple[list[Parameter], list[str]]:
    """The parameters of an optimizer, or of a nesting, and what they are called."""
    if isinstance(params, Optimizer):
        parameters = [parameter for group in params.param_groups for parameter in group["params"]]
        return parameters, [parameter.name or str(at) for at, parameter in enumerate(parameters)]
    parameters, names, _ = nesting.as_parameters(nesting.read(params))
    return parameters, names


def broadcast(params: Any, comm: Any = None, root: int = 0) -> None:
    """Gives all ranks the values that the parameters have on rank `root`, in place.

    params: a nesting of arrays and Parameters, or an optimizer.    comm: mpi4py's communicator, by default COMM_WORLD.

    Raises RankError, on all ranks, where the parameters have other names, shapes, types or layouts; nothing is changed
    then.

        >>> def train(comm):
        ...     params = {"w": np.full(2, float(comm.rank))}
        ...     mpi.broadcast(params, comm, root=1)
        ...     return params["w"].tolist()
        >>> mpi.simulate(2, train)
        [[1.0, 1.0], [1.0, 1.0]]
    """
    comm = safety.communicator(comm)

    def find() -> tuple[list[Parameter], list[str]]:
        if not (isinstance(root, int) and 0 <= root < comm.size):
            raise ValueError(f"`root` must be a rank, from 0 to {comm.size - 1}, got {root!r}")
        parameters, names = found_in(params)
        for parameter, name in zip(parameters, names, strict=True):
            check_still_writeable(parameter.data, name)
        return parameters, names

    parameters, names = ranks.together(comm, "`broadcast`", find)
    ranks.compare(comm, safety.of_layout(parameters, names), "make the same model on each")
    for parameter in parameters:
        elements = flat(sent(parameter.data), parameter.data)
        for start in range(0, elements.size, 256 * BLOCK):           # an old library counts bytes in 31 bits
            comm.Bcast(elements[start:start + 256 * BLOCK], root)
        put_back(parameter, elements)


def average_gradients(params: Any, comm: Any = None, reduce: str = "mean", order: str = "rank") -> None:
    """Puts the mean, or the sum, of all ranks' gradients into every `p.grad`; for optimizers that aren't sharded.

    params: an optimizer, or a nesting of Parameters.    comm: mpi4py's communicator, by default COMM_WORLD.
    reduce: "mean" or "sum".    order: "rank", "fast", or "leaves:K" with one leaf for each rank; see `Sharded`.

    A gradient that is None on some ranks counts as zeros there, and becomes an array; one that is None on all stays
    None.  The arrays that came as gradients aren't written to.  Where one rank raises, the others raise
    RankError.

        >>> def train(comm):
        ...     w = ol.Parameter(np.zeros(2))
        ...     w.grad = np.full(2, float(comm.rank))
        ...     mpi.average_gradients([w], comm)
        ...     return w.grad.tolist()
        >>> mpi.simulate(2, train)
        [[0.5, 0.5], [0.5, 0.5]]
    """
    comm = safety.communicator(comm)

    def find() -> tuple[list[Parameter], list[str]]:
        one_of("mean", "sum")("reduce", reduce)
        if check_order(order, comm.size) not in (0, comm.size):
            raise ValueError(f"`order` must have one leaf for each of {comm.size} ranks here, got {order!r}; "
                             f"Sharded.leaf takes more")
        parameters, names = found_in(params)
        for parameter, name in zip(parameters, names, strict=True):
            check_plain(parameter, name)
        return parameters, names

    parameters, _ = ranks.together(comm, AVERAGE, find)
    doing = f"{AVERAGE} of {len(parameters)} parameters"
    flags = np.asarray(ranks.agree(comm, doing, None, [p.grad is not None for p in parameters]).any(axis=0))
    if comm.size == 1:
        return
    present = [p for p, flag in zip(parameters, flags, strict=True) if flag]
    made = [laid_out(p.data, dtype=p.float_type) for p in present]
    sum_arrays(comm, list(map(gradient_of, present)), made, order, comm.size if reduce == "mean" else 1)
    for parameter, array in zip(present, made, strict=True):
        parameter.grad = array
