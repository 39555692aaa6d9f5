"""L-BFGS on mini-batches: pairs whose gradients belong to one batch, where torch's mix two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.closures import interrupted

Array = np.ndarray
ENDS: dict[str, dict[str, Any]] = {
    "fixed": {"lr": 0.1}, "several": {"lr": 0.1, "max_iter": 3}, "wolfe": {"line_search_fn": "strong_wolfe"},
    "zhang": {"line_search_fn": "hager_zhang", "max_iter": 2},
    "bounds": {"line_search_fn": "backtracking", "bounds": (-0.2, 0.2)},
    "halves": {"lr": 0.1, "history_dtype": "bfloat16"}}


class Regression:
    """A logistic regression of ten classes on mini-batches of noisy prototypes."""

    def __init__(self, seed: int, dtype: Any = np.float64) -> None:
        rng = np.random.default_rng(0)
        labels = rng.integers(10, size=1000)
        self.X = rng.normal(size=(10, 20))[labels] + 1.5 * rng.normal(size=(1000, 20))
        self.T = np.eye(10)[labels]
        self.rng, self.W = np.random.default_rng(seed), np.zeros((20, 10), dtype)

    def loss(self, rows: Any) -> tuple[float, list[Array]]:
        x, t, W = self.X[rows], self.T[rows], self.W.astype(np.float64)
        z = x @ W
        q = np.exp(z - z.max(axis=1, keepdims=True))
        q /= q.sum(axis=1, keepdims=True)
        return (float(-np.log((q * t).sum(axis=1) + 1e-300).mean() + 5e-4 * (W * W).sum()),
                [(x.T @ (q - t) / len(x) + 1e-3 * W).astype(self.W.dtype)])

    def batch(self, size: int) -> Callable[[], tuple[float, list[Array]]]:
        rows = self.rng.choice(1000, size, replace=False)
        return lambda: self.loss(rows)


def trained(seed: int, steps: int, size: int, **options: Any) -> tuple[float, int]:
    """The loss over all samples, and the evaluations of batches."""
    problem, evaluations = Regression(seed), 0
    opt = ol.LBFGS([problem.W], max_iter=1, history_size=10, **options)
    for _ in range(steps):
        opt.step(problem.batch(size))
        evaluations += opt.result.evaluations
    return problem.loss(slice(None))[0], evaluations


def test_it_learns_where_pairs_of_two_batches_lead_astray() -> None:
    """As many evaluations of batches of 32: near the minimum, where the plain way has stalled far above or diverged."""
    problem = Regression(0)
    ol.LBFGS([problem.W], max_iter=500, line_search_fn="nocedal_wright").step(lambda: problem.loss(slice(None)))
    least = problem.loss(slice(None))[0]
    mixed = [trained(seed, 160, 32, lr=0.1) for seed in range(4)]
    same = [trained(seed, 80, 32, lr=0.1, same_batch=True) for seed in range(4)]
    assert {evaluations for _, evaluations in (*mixed, *same)} == {160}
    assert max(loss for loss, _ in same) < least + 0.1
    assert np.mean([loss - least for loss, _ in mixed]) > 0.2
    assert min(mixed) > max(same)


@pytest.mark.parametrize("row", ENDS)
def test_each_y_is_of_one_batch(row: str) -> None:
    """With the squares of two batches, whose Hessians are 1 and 100: y = s or y = 100 s, and nothing between."""
    w = np.array([0.1, -0.1])
    opt = ol.LBFGS([w], same_batch=True, **{"max_iter": 1, **ENDS[row]})
    for step in range(8):
        h, center = (1.0, 100.0)[step % 2], (3.0, -3.0)[step // 2 % 2]
        opt.step(lambda h=h, c=center: (h * ((w - c) ** 2).sum() / 2, [h * (w - c)]))
    state = opt.state[w]
    numbers = [key[2:] for key in state if key.startswith("s_")]
    assert "prev_grad" not in state
    assert len(numbers) >= 4 or row == "bounds"
    for number in numbers:
        s, y = (np.float32(0) + (state[f"{name}_{number}"].astype(np.uint32) << 16).view(np.float32)
                if row == "halves" else state[f"{name}_{number}"] for name in "sy")
        ratios = (y / s)[s != 0]
        assert all(ratio == pytest.approx(1, rel=0.01) or ratio == pytest.approx(100, rel=0.01) for ratio in ratios)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row", ["fixed", "several", "wolfe"])
def test_resume_is_exact(row: str, dtype: Any) -> None:
    problem, other = Regression(1, dtype), Regression(1, dtype)
    opt = ol.LBFGS([problem.W], same_batch=True, **{"max_iter": 1, **ENDS[row]})
    for _ in range(4):
        opt.step(problem.batch(50))
        other.batch(50)
    other.W[...] = problem.W
    resumed = ol.LBFGS([other.W])
    resumed.load_state_dict(opt.state_dict())
    for _ in range(4):
        opt.step(problem.batch(50))
        resumed.step(other.batch(50))
    assert same_bits(problem.W, other.W)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_max_eval_holds_and_no_pair_is_made_of_a_point_that_was_not_evaluated(limit: int) -> None:
    problem = Regression(2)
    opt = ol.LBFGS([problem.W], lr=0.1, max_iter=2, max_eval=limit, same_batch=True)
    for _ in range(3):
        opt.step(problem.batch(50))
        assert opt.result.evaluations <= limit
        assert "prev_grad" not in opt.state[problem.W]
    assert any(key.startswith("s_") for key in opt.state[problem.W]) == (limit > 1)


@pytest.mark.parametrize("at", range(1, 7))
def test_an_exception_loses_no_more_than_a_pair(at: int) -> None:
    problem = Regression(3)
    opt = ol.LBFGS([problem.W], lr=0.1, max_iter=2, same_batch=True)

    raising = interrupted(lambda: problem.loss(slice(None)), at)
    for _ in range((at - 1) // 3):               # whole steps, of three evaluations each
        opt.step(raising)
    with pytest.raises(KeyboardInterrupt):
        opt.step(raising)
    loss = problem.loss(slice(None))[0]
    assert "prev_grad" not in opt.state.get(problem.W, {})
    opt.step(lambda: problem.loss(slice(None)))
    assert problem.loss(slice(None))[0] < loss


def test_it_is_a_flag() -> None:
    with pytest.raises(TypeError, match=r"^`same_batch` must be True or False, got 1$"):
        ol.LBFGS([np.ones(2)], same_batch=1)
