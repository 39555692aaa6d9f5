"""For those who keep the whole optimizer on each rank: averaged gradients, and equal parameters at the start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from support.ranks import Params, each_raises, gradients, model, same_bits, summed


@pytest.mark.parametrize("order", ["rank", "leaves:4", "fast"])
def test_averaged_gradients_and_broadcast_parameters(order: str) -> None:
    def train(comm: Any) -> Params:
        params = {name: array + array.dtype.type(comm.rank) for name, array in model().items()}
        mpi.broadcast(params, comm, root=0)
        opt = ol.Prodigy(params)
        for step in range(2):
            grads = gradients(params, comm.rank, step)
            for group in opt.param_groups:
                for p in group["params"]:
                    p.grad = grads[p.name]
            mpi.average_gradients(opt, comm, order=order)
            opt.step()
        return params

    params = model()
    opt = ol.Prodigy(params)
    for step in range(2):
        total = summed(params, 4, step)
        opt.step(grads={name: None if g is None else g / g.dtype.type(4) for name, g in total.items()})
    for found in mpi.simulate(4, train):
        assert order != "rank" or same_bits(found, params)
        assert all(np.allclose(found[name], params[name], rtol=1e-4, atol=1e-6) for name in params)


def test_an_order_has_one_leaf_for_each_rank() -> None:
    def train(comm: Any) -> None:
        mpi.average_gradients(ol.SGD(model()), comm, order="leaves:4")

    assert set(each_raises(2, train)) == {
        "ValueError: `order` must have one leaf for each of 2 ranks here, got 'leaves:4'; Sharded.leaf takes more"}


def test_the_gradients_of_one_rank_are_their_mean() -> None:
    def train(comm: Any) -> None:
        w = ol.Parameter(np.zeros(2))
        w.grad = given = np.ones(2)
        mpi.average_gradients([w], comm)
        assert w.grad is given

    mpi.simulate(1, train)


def test_broadcast_names_what_differs() -> None:
    def train(comm: Any) -> None:
        mpi.broadcast({"w": np.zeros(2, np.float32 if comm.rank else np.float64)}, comm)

    assert all("parameter 'w'" in said and "float32" in said for said in each_raises(2, train))
    with pytest.raises(ValueError, match="`root` must be a rank, from 0 to 1"):
        mpi.simulate(2, lambda comm: mpi.broadcast([np.zeros(2)], comm, 2))
