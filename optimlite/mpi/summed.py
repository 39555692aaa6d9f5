"""A function of all ranks: what each of them returns, added up, for methods that every rank runs alike."""

from __future__ import annotations

import functools
import numbers
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..checks import one_of, shown
from ..closures.unknowns import refilled
from ..engine import ranks
from . import safety
from .reduction import sum_arrays
from .replicated import average_gradients

FLOATS = {np.dtype(kind) for kind in (np.float32, np.float64, np.complex64, np.complex128)}
STOP, NONE = "it raised StopIteration", "NoneType"


def summed(fun: Callable[..., Any], comm: Any = None, reduce: str = "sum", *, params: Any = None) -> Callable[..., Any]:
    """A function whose result is the sum of what `fun` returns on each rank, in the order of ranks, on every rank.

    With it, L-BFGS, `minimize` and whatever evaluates a function go the same way on all ranks, each of which has all
    unknowns and a part of the data.

    fun: a closure, a loss with its gradient, a product with a Hessian, a callback: it returns numbers and arrays of
        float32, float64 or complex type, in any nesting of dicts, lists and tuples.  A None counts as zeros, and is
        None where all are.  Of True and False it is whether one of them is True.
    comm: mpi4py's communicator, by default COMM_WORLD.    reduce: "sum", or "mean".
    params: an optimizer, or Parameters, whose `.grad` are to be summed, too, as `fun` leaves them there.

    Where `fun` raises on one rank, the others raise RankError; StopIteration is raised on all.  Raises RankError where
    ranks return other shapes or types, and TypeError for what can't be added.

        >>> def train(comm):
        ...     w, target = np.zeros(1), 3.0 * comm.rank             # other data on each rank
        ...     loss = mpi.summed(lambda: ((w - target) @ (w - target), [2 * (w - target)]), comm, "mean")
        ...     ol.LBFGS([w], line_search_fn="strong_wolfe").step(loss)
        ...     return w.round(6).tolist()
        >>> mpi.simulate(3, train)
        [[3.0], [3.0], [3.0]]
    """
    comm = safety.communicator(comm)
    one_of("sum", "mean")("reduce", reduce)
    if not callable(fun):
        raise TypeError(f"`fun` must be a function, got {shown(fun)}")
    parts = comm.size if reduce == "mean" else 1

    @functools.wraps(fun)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves: list[Any] = []
        fault: BaseException | None = None
        told: Any = None
        try:
            form = opened(fun(*args, **kwargs), leaves)
            told = repr(form), [kind_of(leaf) for leaf in leaves], [None if is_array(leaf) else leaf for leaf in leaves]
        except StopIteration:
            told = STOP
        except BaseException as caught:
            fault = caught
        ranks.agree(comm, "a function that is summed", fault)
        found = comm.allgather(told)
        if STOP in found:
            raise StopIteration
        kinds = kinds_of(found)
        sums = [total_of(kind, given, parts) for kind, *given
                in zip(kinds, *(values for _, _, values in found), strict=True)]
        where = [at for at, total in enumerate(sums) if is_array(total)]
        sum_arrays(comm, [leaves[at] for at in where], [sums[at] for at in where], divisor=parts)
        if params is not None:
            average_gradients(params, comm, reduce)
        return closed(form, iter(sums))

    return call


def opened(node: Any, leaves: list[Any]) -> Any:
    """The nesting, with ... in the place of its leaves."""
    if isinstance(node, Mapping):
        return {key: opened(child, leaves) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return refilled(node, [opened(child, leaves) for child in node])
    if isinstance(node, np.ndarray) and not node.ndim:
        node = node[()]
    if is_array(node) and node.dtype not in FLOATS:
        raise TypeError(f"what is summed over ranks must be of float32, float64, complex64 or complex128, got an array "
                        f"of {node.dtype}; use array.astype(float)")
    number = is_array(node) or isinstance(node, (numbers.Real, np.bool_))
    if not (node is None or number):
        raise TypeError(f"what is summed over ranks must be real numbers, or arrays, in dicts, lists and tuples, got "
                        f"{shown(node)}; give a complex number as an array with one axis")
    leaves.append(node if node is None or is_array(node) else
                  bool(node) if isinstance(node, (bool, np.bool_)) else float(node))
    return ...


def closed(form: Any, leaves: Iterator[Any]) -> Any:
    if form is ...:
        return next(leaves)
    if isinstance(form, dict):
        return {key: closed(child, leaves) for key, child in form.items()}
    return refilled(form, [closed(child, leaves) for child in form])


def is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and leaf.ndim > 0


def kind_of(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype.str) if is_array(leaf) else type(leaf).__name__


def kinds_of(found: list[Any]) -> list[Any]:
    """What each leaf is, None apart; raises where ranks differ."""
    for rank, (form, _, _) in enumerate(found):
        if form != found[0][0]:
            raise ranks.RankError(f"ranks must return the same nesting to be summed, but it is {form} on rank {rank}, "
                                  f"and {found[0][0]} on rank 0")
    kinds = []
    for column in zip(*(kinds for _, kinds, _ in found), strict=True):
        present = {kind for kind in column if kind != NONE}
        if len(present) > 1:
            raise ranks.RankError("ranks must return the same to be summed, but it is " + ", ".join(
                f"{kind} on rank {rank}" for rank, kind in enumerate(column)))
        kinds.append(present.pop() if present else NONE)
    return kinds


def total_of(kind: Any, given: list[Any], parts: int) -> Any:
    """The sum of what ranks have of a leaf; of arrays, where it is to be."""
    if isinstance(kind, tuple):
        return np.empty(*kind)
    present = [one for one in given if one is not None]
    if kind in (NONE, "bool"):
        return any(present) if present else None
    return functools.reduce(operator.add, present) / parts
