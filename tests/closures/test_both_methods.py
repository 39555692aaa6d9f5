"""What L-BFGS and conjugate gradients promise alike: limits, exceptions, callbacks, odd starts, exact resume."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.closures.conjugate_gradient import BETAS
from support.bits import same_bits
from support.closures import SEARCHES, LogBarrier, Logistic, Rosenbrock, interrupted

SEARCHING = [*((ol.LBFGS, search) for search in SEARCHES),
             *((ol.ConjugateGradient, search) for search in SEARCHES if search != "nocedal_wright")]
with_any_search = pytest.mark.parametrize(("make", "search"), SEARCHING)
also_without = pytest.mark.parametrize(("make", "search"), [(ol.LBFGS, None), *SEARCHING])


@also_without
@pytest.mark.parametrize("limit", range(1, 12))
def test_max_eval_is_never_exceeded(make: Any, search: str | None, limit: int) -> None:
    """pytorch#91581; also when it is hit inside the line search, which then keeps the best point."""
    problem = Rosenbrock()
    losses: list[float] = []

    def closure() -> Any:
        losses.append(problem()[0])
        return problem()

    opt = make(problem.params, max_iter=100, max_eval=limit, line_search_fn=search, lr=1 if search else 1e-3)
    opt.step(closure)
    assert len(losses) <= limit
    if search:
        assert problem()[0] == opt.result.loss == min(losses)


@also_without
@pytest.mark.parametrize("at", range(1, 9))
def test_an_exception_leaves_the_last_accepted_point(make: Any, search: str | None, at: int) -> None:
    problem, accepted = Rosenbrock(), []
    start = problem.params[0].copy()
    opt = make(problem.params, max_iter=50, line_search_fn=search, lr=1 if search else 1e-3,
               callback=lambda result: accepted.append((problem.params[0].copy(), result.loss)) or False)
    with pytest.raises(KeyboardInterrupt):
        opt.step(interrupted(problem, at))
    last, loss = accepted[-1] if accepted else (start, opt.result.loss)
    assert same_bits(problem.params[0], last)
    assert opt.result.loss == loss or math.isnan(loss)
    assert "KeyboardInterrupt" in opt.result.reason
    opt.step(problem)                            # and it goes on from there
    assert opt.result.loss < 24.2


@pytest.mark.parametrize("make", [ol.LBFGS, ol.ConjugateGradient])
@pytest.mark.parametrize("stop", [True, StopIteration])
def test_callback_stops(make: Any, stop: Any) -> None:
    problem, seen = Rosenbrock(), []

    def callback(result: Any) -> bool:
        seen.append((result.iterations, result.loss == problem()[0]))
        if len(seen) == 3 and stop is not True:
            raise stop
        return len(seen) == 3

    opt = make(problem.params, max_iter=50, line_search_fn="strong_wolfe", callback=callback)
    opt.step(problem)
    assert seen == [(1, True), (2, True), (3, True)]
    assert opt.result.reason == "the callback asked to stop"


@also_without
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_start_that_is_not_finite(make: Any, search: str | None, value: float) -> None:
    """pytorch#5953: nothing moves, and the reason is told."""
    x = np.ones(3)
    opt = make([x], line_search_fn=search)
    for closure in (lambda: (value, [np.ones(3)]), lambda: (1.0, [np.array([1.0, value, 1.0])])):
        opt.step(closure)
        assert (x == 1).all()
        assert "isn't finite at the start" in opt.result.reason
        assert not opt.result.converged
        assert opt.result.evaluations == 1


@also_without
def test_immediate_convergence(make: Any, search: str | None) -> None:
    """pytorch#1039: the first gradient meets the tolerance; also when it is zero, or the function flat."""
    x = np.ones(3)
    opt = make([x], line_search_fn=search)
    for _ in range(2):
        assert opt.step(lambda: (5.0, [np.zeros(3)])) == 5.0
        assert opt.result.converged
        assert (opt.result.iterations, opt.result.evaluations) == (0, 1)
    assert (x == 1).all()
    opt.load_state_dict(opt.state_dict())
    opt = make([x], line_search_fn=search, tolerance_grad=0)
    opt.step(lambda: (float((x - 1) @ (x - 1)), [2 * (x - 1)]))
    assert opt.result.converged
    assert (x == 1).all()


@pytest.mark.parametrize(("make", "search"), SEARCHING[:-1])         # conjugate steps that only shrink take too long
def test_unbounded_functions_end(make: Any, search: str) -> None:
    x = np.zeros(2)
    opt = make([x], line_search_fn=search, max_iter=200, max_eval=500)
    with np.errstate(all="ignore"):
        opt.step(lambda: (-float(np.sum(x ** 3 + x)), [-(3 * x ** 2 + 1)]))
    assert np.isfinite(x).all()
    assert opt.result.loss < -1e6


@with_any_search
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bracket_whose_one_end_is_not_finite(make: Any, search: str, value: float) -> None:
    barrier, lbfgs = LogBarrier(value), make is ol.LBFGS
    opt = make(barrier.params, line_search_fn=search, lr=100,
               **({"max_iter": 200, "max_eval": 2000} if lbfgs else
                  {"max_iter": 500, "max_eval": 5000, "tolerance_change": 0}))
    opt.step(barrier)
    np.testing.assert_allclose(barrier.params[0], 1, rtol=1e-4 if lbfgs else 1e-3)


@pytest.mark.parametrize(("make", "options"), [
    (ol.LBFGS, {"line_search_fn": "strong_wolfe", "history_size": 5}),
    (ol.LBFGS, {"line_search_fn": "hager_zhang", "history_size": 5}), (ol.ConjugateGradient, {})])
def test_the_same_bits_for_any_threads_and_level(make: Any, options: dict[str, Any], level: str, threads: None,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for count, name in ((1, "baseline"), (1, level), (2, level), (3, level)):
        ol.set_num_threads(count)
        monkeypatch.setattr(ol.native.dispatch, "level", name)
        x = np.linspace(0, 2, 100_003, dtype=np.float32)
        opt = make([x[:40_000], x[40_000:]], max_iter=12, **options)
        spectrum = np.linspace(1, 50, x.size, dtype=np.float32)

        def closure(x: np.ndarray = x, spectrum: np.ndarray = spectrum) -> Any:
            g = spectrum * (x - 1)
            return float(np.sum(g * (x - 1), dtype=np.float64)), [g[:40_000], g[40_000:]]

        opt.step(closure)
        ends.append(x)
    assert all(same_bits(ends[0], end) for end in ends[1:])


RUNS = [*((ol.LBFGS, {"history_size": history, "line_search_fn": search, "max_iter": 4, "lr": 0.5})
          for search in (None, *SEARCHES) for history in (1, 3, 100)),
        *((ol.ConjugateGradient, {"beta": beta, "max_iter": 3}) for beta in BETAS)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("make", "options"), RUNS)
def test_resume_is_exact(make: Any, options: dict[str, Any], dtype: type) -> None:
    """Saved in the middle of a run and loaded into fresh objects, or pickled: the same bits from there on."""
    problem = Logistic(dtype)
    opt = make(problem.params, tolerance_change=0, **options)
    for _ in range(3):
        opt.step(problem)
    other = Logistic(dtype, [p.copy() for p in problem.params])
    resumed = make(other.params)
    resumed.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    assert {key: resumed.param_groups[0][key] for key in options} == options
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


@pytest.mark.parametrize(("make", "options"), [(ol.LBFGS, {"line_search_fn": "nocedal_wright"}),
                                               *((ol.ConjugateGradient, {"beta": beta}) for beta in BETAS)])
def test_saved_in_a_callback(make: Any, options: dict[str, Any]) -> None:
    """One long step, saved in its middle: going on costs one evaluation more, and gives the same point."""
    problem, saved = Rosenbrock(), {}

    def callback(result: Any) -> None:
        if result.iterations == 7:
            saved.update(x=problem.params[0].copy(), state=opt.state_dict(), evaluations=result.evaluations)

    opt = make(problem.params, max_iter=20, max_eval=100, tolerance_change=0, callback=callback, **options)
    opt.step(problem)
    other = Rosenbrock([saved["x"]])
    resumed = make(other.params)
    resumed.load_state_dict(saved["state"])
    resumed.param_groups[0]["max_iter"] = 13
    resumed.step(other)
    assert same_bits(problem.params[0], other.params[0])
    assert (opt.result.iterations, resumed.result.iterations) == (20, 13)
    assert resumed.result.evaluations == opt.result.evaluations - saved["evaluations"] + 1
