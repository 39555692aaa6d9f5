"""When a step with a closure ends, and what it says of it: at the bottom, at a limit, where nothing can move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bits import same_bits
from support.bounded_problems import BOUNDED
from support.closures import Rosenbrock, rosenbrock
from support.more_problems import MORE
from support.problems import PROBLEMS

SEARCHES = ["nocedal_wright", "hager_zhang", "backtracking"]


# At the bottom -------------------------------------------------------------------------------------------------------

def freudenstein_roth(z: np.ndarray) -> tuple[np.float32, np.ndarray]:
    """Extended, in float32; computed in double, so that the gradient is right to the last bit."""
    x = z.astype(np.float64)
    a, b, g = x[:-1], x[1:], np.zeros_like(x)
    r, s = -13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b
    g[:-1] += 2 * r + 2 * s
    g[1:] += 2 * r * (10 * b - 3 * b * b - 2) + 2 * s * (3 * b * b + 2 * b - 14)
    return np.float32((r * r + s * s).sum()), g.astype(np.float32)


def regression(w: np.ndarray) -> tuple[float, np.ndarray]:
    rng = np.random.RandomState(0)
    X = rng.randn(500, 20).astype(np.float32)
    y = X @ rng.randn(20).astype(np.float32) + .1 * rng.randn(500).astype(np.float32)
    r = X @ w - y
    return float(r @ r) / 2, X.T @ r


@pytest.mark.parametrize(("method", "search"), [*(("lbfgs", search) for search in SEARCHES),
                                                *(("cg", search) for search in SEARCHES[:2])])
@pytest.mark.parametrize(("fun", "start", "least"), [
    (freudenstein_roth, [.5, -2, -2, -2], 284.05), (regression, np.zeros(20), 2.3253)])
def test_a_run_ends_where_float32_resolves_no_more(
        fun: Any, start: Any, least: float, method: str, search: str) -> None:
    """Hager and Zhang's search accepts a rise of 1e-6 |f|: x wandered among neighbouring floats for ever."""
    result = ol.minimize(fun, np.array(start, np.float32), method=method, options={"line_search_fn": search})
    assert result.nfev <= 500
    assert result.fun <= least
    if method == "lbfgs" and search == "hager_zhang":
        assert result.success


@pytest.mark.parametrize("make", [ol.LBFGS, ol.ConjugateGradient])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_ends_when_two_trials_are_the_same_point(make: Any, search: str) -> None:
    """float32's neighbours of the minimum: bisecting between them evaluates one of them again and again."""
    seen: list[bytes] = []
    x = np.array([5, -3], np.float32)

    def closure() -> Any:
        seen.append(x.tobytes())
        r = x.astype(np.float64) - np.pi
        return 1e4 * float(r @ r), [(2e4 * r).astype(np.float32)]

    make([x], line_search_fn=search, max_iter=1000, max_eval=1000, tolerance_grad=0, tolerance_change=0).step(closure)
    assert len(seen) <= 2 * len(set(seen)) + 5


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
@pytest.mark.parametrize("problem", [*PROBLEMS, *MORE], ids=lambda problem: problem.name)
def test_float32_ends_soon_after_the_last_decrease_that_it_resolves(problem: Any, method: str) -> None:
    losses = []

    def fun(x: np.ndarray) -> tuple[np.float32, np.ndarray]:
        with np.errstate(all="ignore"):
            loss, gradient = problem(x.astype(np.float64))
            losses.append(np.float32(loss))
            return losses[-1], gradient.astype(np.float32)

    result = ol.minimize(fun, problem.start.astype(np.float32), method=method)
    assert result.nfev == len(losses)
    assert result.nfev - 1 - int(np.nanargmin(losses)) <= 30
    least = np.nanmin(losses)
    assert result.fun <= least + 1e-5 * abs(least) + 1e-9


POWELL = next(each for each in PROBLEMS if each.name == "Powell badly scaled")


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(("problem", "exponent"), [
    *((rosenbrock, exponent) for exponent in (-166, -1, 166)), *((POWELL, exponent) for exponent in (-166, -1, 66))])
def test_the_unit_of_the_loss_does_not_change_the_path(problem: Any, exponent: int, search: str, method: str) -> None:
    """A power of two rounds nothing.  (`gtol` is absolute, as scipy's, and `ftol` for losses below 1.)

    Powell's function is 5e256 at a trial of the backtracking search, where its slope, which has the unit squared,
    leaves room for no more than 2^80.
    """
    def path(unit: float) -> list[np.ndarray]:
        points: list[np.ndarray] = []

        def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
            points.append(x.copy())
            loss, gradient = problem(x)
            return unit * loss, unit * gradient

        options = {"gtol": 1e-5 * unit, "line_search_fn": search, "maxfun": 300}
        ol.minimize(fun, getattr(problem, "start", np.array([-1.2, 1.0])), method=method,
                    options=options | ({"ftol": 0} if method == "lbfgs" else {}))
        return points

    assert same_bits(np.array(path(1.0)), np.array(path(2.0**exponent)))


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
@pytest.mark.parametrize("exponent", [-166, 166])
def test_an_end_in_any_unit(exponent: int, method: str) -> None:
    """What a small loss is, `ftol` measures by 1 or by the first loss: the end may be some evaluations elsewhere."""
    unit = 2.0**exponent
    result = ol.minimize(lambda x: tuple(unit * part for part in rosenbrock(x)), np.array([-1.2, 1.0]), method=method,
                         options={"gtol": 1e-5 * unit})
    assert result.success
    np.testing.assert_allclose(result.x, 1, atol=1e-5)


def test_a_run_ends_by_the_relative_change_of_the_loss() -> None:
    """scipy's ftol, by default; 0 turns it off."""
    problem = next(problem for problem in MORE if problem.name == "Poisson regression 40")
    ours, forever = (ol.minimize(problem, problem.start, options=options) for options in ({}, {"ftol": 0}))
    assert ours.success
    assert "the loss fell little enough" in ours.message
    assert 1.3 * ours.nfev < forever.nfev
    assert ours.fun == pytest.approx(forever.fun, rel=1e-6)


WOOD = next(problem for problem in PROBLEMS if problem.name == "Wood")
BOXES = {problem.name: problem for problem in BOUNDED}


@pytest.mark.parametrize(("problem", "least"), [(WOOD, 0.0), (BOXES["HS38"], 0.0), (BOXES["Wood in a box"], 1.5567008)],
                         ids=["wood", "hs38", "wood_in_a_box"])
def test_a_saddle_point_is_left_though_the_loss_falls_little_there(problem: Any, least: float) -> None:
    # all three pass one at 7.877, where an iteration lowers the loss by 1e-9 of itself while the gradient grows
    bounds = np.c_[problem.low, problem.high] if problem is not WOOD else None

    def rows(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        losses, gradients = zip(*map(problem, X), strict=True)
        return np.array(losses), np.array(gradients)

    assert abs(ol.minimize(problem, problem.start, bounds=bounds).fun - least) < 1e-6
    assert abs(ol.minimize_batch(rows, problem.start[None], bounds=bounds).fun[0] - least) < 1e-6


def test_another_function_in_the_next_step_is_judged_by_itself() -> None:
    """A lower loss that was seen in the last step says nothing of this one."""
    x = np.full(3, 5.0)
    opt = ol.LBFGS([x], line_search_fn="hager_zhang", max_iter=100)
    opt.step(lambda: (float((x - 1) @ (x - 1)), [2 * (x - 1)]))
    for target in range(2, 9):
        opt.step(lambda target=target: (1e3 * target + float((x - target)**2 @ (x - target)**2),
                                        [4 * (x - target)**3]))
        assert opt.result.loss - 1e3 * target < 1e-3


# Limits --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [ol.LBFGS, ol.ConjugateGradient])
@pytest.mark.parametrize("search", SEARCHES)
def test_max_eval_is_told_as_the_reason_within_a_search_too(make: Any, search: str) -> None:
    problem = Rosenbrock()
    opt = make(problem.params, max_eval=2, line_search_fn=search, lr=100)
    opt.step(problem)
    assert opt.result.reason.startswith("max_eval 2 is reached")
    assert opt.result.evaluations == 2


@pytest.mark.parametrize("make", [ol.LBFGS, ol.ConjugateGradient])
@pytest.mark.parametrize("search", SEARCHES)
def test_one_iteration_a_step_gets_on(make: Any, search: str) -> None:
    """The default `max_eval` lets a search come to its end: cut short, the next step would begin the same one."""
    problem = Rosenbrock()
    opt = make(problem.params, max_iter=1, line_search_fn=search)
    for _ in range(60):
        opt.step(problem)
        assert opt.result.iterations <= 1
    assert opt.result.loss < 4                   # from 24.2, where it stood still


def test_a_search_of_torchs_keeps_torchs_limits() -> None:
    problem = Rosenbrock()
    opt = ol.LBFGS(problem.params, max_iter=1, line_search_fn="strong_wolfe")
    opt.step(problem)
    assert opt.result.evaluations == 2


def test_torchs_search_has_its_own_tolerance() -> None:
    """torch passes no `tolerance_change` on: its search's 1e-9 stands (580 evaluations instead of 97)."""
    x, count = np.full(10, -1.2), 0

    def closure() -> Any:
        nonlocal count
        count += 1
        loss, gradient = rosenbrock(x)
        return loss, [gradient]

    ol.LBFGS([x], max_iter=500, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe").step(closure)
    assert count <= 120
    np.testing.assert_allclose(x, 1, atol=1e-6)


@pytest.mark.parametrize("make", [ol.LBFGS, ol.ConjugateGradient])
@pytest.mark.parametrize("search", ["strong_wolfe", *SEARCHES])
def test_a_rate_of_zero_moves_nothing_and_leaves_the_first_step_to_come(make: Any, search: str) -> None:
    """A warm-up begins there.  torch's search then took steps of `lr` along -g, far too long, for ever."""
    warmed, twin = Rosenbrock(), Rosenbrock()
    opt = make(warmed.params, lr=0.0, line_search_fn=search)
    for _ in range(3):
        opt.step(warmed)
        assert opt.result.reason == "`lr` is 0 in every group, so that nothing moves"
        assert opt.result.evaluations == 1
        assert not opt.result.converged
    opt.param_groups[0]["lr"] = 0.5
    other = make(twin.params, lr=0.5, line_search_fn=search)
    opt.step(warmed)
    other.step(twin)
    assert (warmed.params[0] == twin.params[0]).all()


# Searches of one's own -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("step", "message"), [
    (0.5, r"^a line search must return a step that it evaluated, got 0\.5; call phi\(0\.5\) before, or return one of"),
    (None, "^a line search must return a Found with the step, got Found"), ("0.5", "got Found"), (True, "got Found")])
def test_a_step_that_a_search_never_evaluated_is_refused(step: Any, message: str) -> None:
    def search(phi: Any, loss: float, slope: float, step_: float, max_evals: int) -> ol.line_search.Found:
        return ol.line_search.Found(step, *phi(0.25), True, 1)

    problem = Rosenbrock()
    with pytest.raises((TypeError, ValueError), match=message):
        ol.LBFGS(problem.params, line_search_fn=search).step(problem)
    assert problem.params[0].tolist() == [-1.2, 1.0]


def test_a_search_must_return_something() -> None:
    problem = Rosenbrock()
    with pytest.raises(TypeError, match="must return a Found with the step, got None"):
        ol.LBFGS(problem.params, line_search_fn=lambda phi, loss, slope, step, max_evals: None).step(problem)


@pytest.mark.parametrize("choice", ["first", "middle", "last", "nan"])
def test_a_search_may_return_any_of_its_trials(choice: str) -> None:
    """The gradients of two are kept; another one is evaluated again.  A trial that isn't finite is none."""
    def search(phi: Any, loss: float, slope: float, step: float, max_evals: int) -> ol.line_search.Found:
        trials = {t: phi(t) for t in (1e-4, 2e-4, 1e-5)}
        t = dict(zip(("first", "middle", "last"), trials, strict=True)).get(choice, 1.0)
        return ol.line_search.Found(t, *(trials.get(t) or phi(t)), True, 3)

    x, calls = np.array([-1.2, 1.0]), []

    def closure() -> Any:
        calls.append(x.copy())
        loss, gradients = Rosenbrock([x])()
        return (loss if abs(x[0] + 1.2) < 0.1 else np.nan), gradients

    opt = ol.LBFGS([x], line_search_fn=search, max_iter=1, max_eval=10)
    opt.step(closure)
    if choice == "nan":
        assert x.tolist() == [-1.2, 1.0]
        return
    assert len(calls) == (5 if choice == "first" else 4)
    assert opt.result.loss == Rosenbrock([x])()[0] < 24.2
