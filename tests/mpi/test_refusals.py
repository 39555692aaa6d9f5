"""What can't be spread over ranks, and what a spread optimizer doesn't have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from support.ranks import adam, each_raises, gradients, model


@pytest.mark.parametrize(("options", "message"), [
    ({"order": "leaves:3"}, "a power of two"), ({"order": "tree"}, "`order` must be"),
    ({"order": "leaves:2"}, "that the ranks divide"), ({"reduce": "max"}, "`reduce` must be"),
    ({"check_every": 0}, "`check_every`")])
def test_what_options_can_not_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mpi.simulate(4, lambda comm: mpi.Sharded(adam(model()), comm, **options))


@pytest.mark.parametrize(("make", "message"), [
    (ol.SparseAdam, "use Adam"),
    (lambda params: params, r"use one such as Sharded\(ol.Adam\(params\)\)"),
    (lambda params: ol.SAM(ol.SGD(params, lr=0.1)), "can't be a SAM"), (ol.LBFGS, "compiled rule")])
def test_what_can_not_be_spread(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        mpi.simulate(2, lambda comm: mpi.Sharded(make(model()), comm))


def test_complex_parameters_are_refused() -> None:
    message = "must be of real numbers to be stepped by many ranks, got complex64; use a.real and a.imag"
    for call in (mpi.Sharded, mpi.average_gradients):
        with pytest.raises(TypeError, match=message):
            mpi.simulate(2, lambda comm, call=call: call(ol.SGD({"p": np.zeros(3, np.complex64)}), comm))


def test_a_sparse_gradient_is_refused_on_all_ranks() -> None:
    def train(comm: Any) -> None:
        opt = mpi.Sharded(ol.SGD({"p": np.zeros((9, 2))}), comm)
        opt.step(grads=[ol.SparseGrad([comm.rank], np.ones((1, 2))) if comm.rank else np.ones((9, 2))])

    said = each_raises(3, train)
    assert "rank 1 failed" in said[0]
    assert all("the gradient of 'p' is sparse, which can't be summed over ranks; make it dense" in one for one in said)


def test_an_option_that_needs_whole_tensors_comes_too_late() -> None:
    def train(comm: Any) -> None:
        params = model()
        opt = mpi.Sharded(adam(params), comm)
        opt.param_groups[0]["cautious"] = True
        opt.step(grads=gradients(params, 0, 0))

    assert any("'W' is spread over ranks" in said for said in each_raises(3, train))


def test_what_sharded_has_not() -> None:
    opt = mpi.simulate(1, lambda comm: mpi.Sharded(adam(model()), comm))[0]
    for call in (lambda: opt.add_param_group({"params": [np.ones(2)]}), lambda: opt.remove("b"), opt.watch,
                 lambda: opt.replace("b", np.ones(3, np.float32)), lambda: opt.step_parameter("b", np.ones(7))):
        with pytest.raises(TypeError, match="before Sharded"):
            call()
    with pytest.raises(TypeError, match="`comm` must be a communicator"):
        mpi.Sharded(adam(model()), "world")
    with pytest.warns(UserWarning, match="no parameter has a gradient on any rank"):
        opt.step()
    opt.step()                                   # warns once
