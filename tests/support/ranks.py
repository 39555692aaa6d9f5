"""Models, gradients and runs of many ranks: what tests of optimlite.mpi share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import optimlite as ol
from optimlite import mpi

Params = dict[str, np.ndarray]
SHAPES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "W": (np.float32, (220, 90)), "b": (np.float32, (7,)), "C": (np.float64, (3, 5)),
    "v": (np.float32, (16_384 + 5_000,))}


def model(fit: Callable[[Any], tuple[int, ...]] = tuple) -> Params:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(fit(shape)).astype(dtype) for name, (dtype, shape) in SHAPES.items()}


def copied(params: Params) -> Params:
    return {name: array.copy() for name, array in params.items()}


def gradients(params: Params, rank: int, step: int) -> dict[str, np.ndarray | None]:
    """Of one rank in one step; now and then one has none, and nobody has one of "b" in step 1."""
    rng = np.random.default_rng((rank, step))
    made: dict[str, Any] = {name: rng.standard_normal(array.shape).astype(array.dtype)
                            for name, array in params.items()}
    if rank == 1:
        made["C"] = None
    if step == 1:
        made["b"] = None
    return made


def summed(params: Params, ranks: int, step: int) -> dict[str, np.ndarray | None]:
    """What all ranks' gradients are together, one added after the other."""
    total: dict[str, Any] = {}
    for name, array in params.items():
        parts = [gradients(params, rank, step)[name] for rank in range(ranks)]
        if any(part is not None for part in parts):
            total[name] = sum((np.zeros_like(array) if part is None else part for part in parts[1:]),
                              np.zeros_like(array) if parts[0] is None else parts[0])
    return {name: total.get(name) for name in params}


def alone(make: Callable[[Params], ol.Optimizer], ranks: int, steps: int, fit: Any = tuple, **options: Any,
          ) -> tuple[Params, ol.Optimizer]:
    """The run of one process that has the gradients of all."""
    params = model(fit)
    optimizer = make(params)
    for step in range(steps):
        optimizer.step(grads=summed(params, ranks, step), grad_scale=1 / ranks, **options)
    return params, optimizer


def spread(make: Callable[[Params], ol.Optimizer], ranks: int, steps: int, fit: Any = tuple, order: str = "rank",
           folder: Any = None, **options: Any) -> list[tuple[Params, mpi.Sharded]]:
    """The same run by so many ranks, with state in files of a folder, perhaps."""
    def train(comm: Any) -> tuple[Params, mpi.Sharded]:
        params = model(fit)
        optimizer = mpi.Sharded(make(params), comm, order=order)
        if folder:
            optimizer.offload(folder)
        for step in range(steps):
            optimizer.step(grads=gradients(params, comm.rank, step), **options)
        return params, optimizer

    return mpi.simulate(ranks, train)


def by_leaves(comm: Any, make: Callable[..., ol.Optimizer] = ol.Adam, form: str | None = None) -> Params:
    """The run of ranks that share eight micro-batches; the last one of each rank comes with the step."""
    params = model()
    opt = mpi.Sharded(make(params, state_dtype=form), comm, order="leaves:8")
    each = 8 // comm.size
    for step in range(2):
        *leaves, last = (gradients(params, comm.rank * each + leaf, step) for leaf in range(each))
        for leaf in leaves:
            opt.leaf(leaf)
        opt.step(grads=last, max_grad_norm=1.0)
    return params


def adam(params: Params) -> ol.Optimizer:
    return ol.Adam(params, lr=0.01)


def each_raises(ranks: int, train: Callable[[Any], Any]) -> list[str]:
    """What each rank's exception says; all must raise."""
    def run(comm: Any) -> str:
        try:
            train(comm)
        except Exception as fault:
            return f"{type(fault).__name__}: {fault}"
        raise AssertionError(f"rank {comm.rank} raised nothing")

    return mpi.simulate(ranks, run)


def same_bits(ours: Params, theirs: Params) -> bool:
    return all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


def after_two_steps(comm: Any, folder: Any = None, **options: Any) -> tuple[Params, mpi.Sharded]:
    """A model, and Adam over it, on this rank; `folder`: where its state is."""
    params = model()
    opt = mpi.Sharded(adam(params), comm, **options)
    if folder is not None:
        opt.offload(folder)
    for step in range(2):
        opt.step(grads=gradients(params, comm.rank, step))
    return params, opt
