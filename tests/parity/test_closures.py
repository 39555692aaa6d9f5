# L-BFGS and torch's side by side: the golden comparison live, with random data, and float32.
import importlib

import numpy as np
import pytest

import optimlite as ol
from support.closures import CASES, Logistic, iterates

torch = pytest.importorskip("torch")
torch_side = importlib.import_module("support.golden.make_lbfgs")      # only now: it imports torch


@pytest.mark.parametrize("name", CASES)
def test_the_iterates_are_torchs(name: str) -> None:
    ours, theirs = (iterates(CASES[name], make) for make in (ol.LBFGS, torch_side.TorchLBFGS))
    error = abs(ours - theirs).max(axis=1) / abs(theirs).max(axis=1)
    assert error.max() <= 1e-6


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_evaluations_and_losses_are_torchs(search: str | None) -> None:
    ours, theirs = Logistic(), Logistic()
    mine = ol.LBFGS(ours.params, line_search_fn=search)
    other = torch_side.TorchLBFGS(theirs.params, line_search_fn=search)
    for _ in range(5):
        assert mine.step(ours) == pytest.approx(other.step(theirs), rel=1e-12)
    state = other.optimizer.state[other.params[0]]
    assert int(mine.state[ours.params[0]]["n_iter"]) == state["n_iter"]
    assert int(mine.state[ours.params[0]]["func_evals"]) == state["func_evals"]


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_float32_follows_torch_for_a_while(search: str | None) -> None:
    ours, theirs = Logistic(np.float32), Logistic(np.float32)
    mine = ol.LBFGS(ours.params, line_search_fn=search, max_iter=1)
    other = torch_side.TorchLBFGS(theirs.params, line_search_fn=search, max_iter=1)
    for _ in range(10):
        mine.step(ours)
        other.step(theirs)
        for p, q in zip(ours.params, theirs.params, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-3, atol=1e-4)


def test_the_options_are_torchs() -> None:
    import inspect

    ours, theirs = (inspect.signature(cls).parameters for cls in (ol.LBFGS, torch.optim.LBFGS))
    assert {name: ours[name].default for name in theirs} == {name: p.default for name, p in theirs.items()}
