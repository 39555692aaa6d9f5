"""L-BFGS: a run goes on from its state as if it had not stopped, whatever the parameters' shapes, types and groups."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.closures import SEARCHES, Logistic, Rosenbrock, quadratic


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("search", [None, *SEARCHES])
@pytest.mark.parametrize("history", [1, 3, 100])
def test_resume_is_exact(search: str | None, history: int, dtype: type) -> None:
    """Saved in the middle of a run and loaded into fresh objects: the same bits from there on."""
    problem = Logistic(dtype)
    options = {"history_size": history, "line_search_fn": search, "max_iter": 4, "lr": 0.5, "tolerance_change": 0}
    opt = ol.LBFGS(problem.params, **options)
    for _ in range(2):
        opt.step(problem)
    other = Logistic(dtype, [p.copy() for p in problem.params])
    resumed = ol.LBFGS(other.params, **{**options, "history_size": 7, "lr": 3})
    resumed.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    assert resumed.param_groups[0]["history_size"] == history
    third = Logistic(dtype, [p.copy() for p in problem.params])
    copied = pickle.loads(pickle.dumps(opt))
    for p, q in zip(copied._parameters(), third.params, strict=True):
        p.data = q
    third.params = [p.data for p in copied._parameters()]
    for _ in range(3):
        for one, closure in ((opt, problem), (resumed, other), (copied, third)):
            one.step(closure)
    for same in (other, third):
        assert all(same_bits(p, q) for p, q in zip(problem.params, same.params, strict=True))
    for p, q in zip(problem.params, other.params, strict=True):
        assert list(opt.state[p]) == list(resumed.state[q])
        assert all(same_bits(opt.state[p][key], resumed.state[q][key]) for key in opt.state[p])


def test_a_snapshot_can_be_loaded_back_into_the_same_optimizer() -> None:
    problem = Rosenbrock()
    opt = ol.LBFGS(problem.params, line_search_fn="strong_wolfe", max_iter=5)
    opt.step(problem)
    saved, x = copy.deepcopy(opt.state_dict()), problem.params[0].copy()
    opt.step(problem)
    end = problem.params[0].copy()
    problem.params[0][...] = x
    opt.load_state_dict(saved)
    opt.step(problem)
    assert same_bits(problem.params[0], end)


def test_a_checkpoint_restored_into_a_used_optimizer(tmp_path: Path) -> None:
    """Values are put into live arrays: products kept of the old ones must not survive."""
    problem = Logistic()
    opt = ol.LBFGS(problem.params, line_search_fn="strong_wolfe", max_iter=4, history_size=3)
    opt.step(problem)
    opt.step(problem)
    ol.save(tmp_path / "run.safetensors", model=problem.params, opt=opt)
    opt.step(problem)
    end = [p.copy() for p in problem.params]
    opt.step(problem)
    ol.restore(tmp_path / "run.safetensors", model=problem.params, opt=opt)
    opt.step(problem)
    assert all(same_bits(p, q) for p, q in zip(problem.params, end, strict=True))


def test_saved_in_a_callback() -> None:
    """One long step, saved in its middle: going on costs one evaluation more, and gives the same point."""
    problem, saved = Rosenbrock(), {}

    def callback(result: Any) -> None:
        if result.iterations == 10:
            saved.update(x=problem.params[0].copy(), state=opt.state_dict())

    opt = ol.LBFGS(problem.params, line_search_fn="nocedal_wright", max_iter=100, callback=callback)
    opt.step(problem)
    other = Rosenbrock([saved["x"]])
    resumed = ol.LBFGS(other.params, line_search_fn="nocedal_wright")
    resumed.load_state_dict(saved["state"])
    resumed.step(other)
    assert same_bits(problem.params[0], other.params[0])
    assert resumed.result.iterations == opt.result.iterations - 10
    assert resumed.result.evaluations < opt.result.evaluations


def test_state_that_does_not_belong_together_is_refused() -> None:
    problem = Logistic()
    opt = ol.LBFGS(problem.params, line_search_fn="strong_wolfe", max_iter=3)
    opt.step(problem)
    broken = opt.state_dict()
    del broken["state"][0]["prev_grad"]
    before = [p.copy() for p in problem.params]
    with pytest.raises(ValueError, match="belong together"):
        opt.load_state_dict(broken)
    wrong = opt.state_dict()
    for entries in wrong["state"].values():
        entries["momentum_buffer"] = np.zeros(3)
    with pytest.raises(ValueError, match="unexpected"):
        opt.load_state_dict(wrong)
    assert all(same_bits(p, q) for p, q in zip(problem.params, before, strict=True))


def test_memory_is_that_of_the_history() -> None:
    """2 * (history + 1) vectors and five more, and they are the state's own arrays."""
    x = np.zeros(100_000, np.float32)
    opt = ol.LBFGS([x], history_size=4, line_search_fn="nocedal_wright", max_iter=20, tolerance_change=0)
    opt.step(quadratic(x, np.linspace(1, 100, x.size).astype(np.float32)))
    work, history = opt._method.work, opt._method.history
    vectors = [*(v for pair in history.pairs for v in pair), work.x, work.d, work.g, work.previous, work.spare]
    assert len(vectors) == 2 * 5 + 5
    held = {id(v.arrays[0]) for v in vectors}
    assert all(id(a) in held for key, a in opt.state[x].items() if a.ndim)
