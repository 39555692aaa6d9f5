"""L-BFGS: what its state holds: snapshots, checkpoints, what does not belong together, how much memory."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.closures import Logistic, Rosenbrock, quadratic


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
