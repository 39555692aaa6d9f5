"""`search_options`: what the line search doesn't have, or can't be with its other arguments, is refused at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.closures import Rosenbrock, rosenbrock


def own(phi: Any, loss: float, slope: float, step: float, max_evals: int, c1: float = 0.3) -> Any:
    return ol.line_search.backtracking(phi, loss, slope, step, c1=c1, max_evals=max_evals)


def anything(*arguments: Any, max_evals: int, **others: Any) -> Any:
    return ol.line_search.strong_wolfe(*arguments, max_evals=max_evals)


@pytest.mark.parametrize(("make", "search", "options", "message"), [
    (ol.LBFGS, "nocedal_wright", {"bogus": 1}, "has no `bogus` with line_search_fn='nocedal_wright'; it has `c1`"),
    (ol.LBFGS, "nocedal_wright", {"max_eval": 9}, "did you mean `max_evals`"),
    (ol.LBFGS, "nocedal_wright", {"weak": 1}, "has no `weak`"),
    (ol.LBFGS, "strong_wolfe", {"largest": 1}, "has no `largest`"),
    (ol.LBFGS, "backtracking", {"c2": 0.5}, "has no `c2` with line_search_fn='backtracking'; it has `c1`, `max_evals`"),
    (ol.LBFGS, own, {"c2": 0.5}, "has no `c2` with line_search_fn=own"),
    (ol.LBFGS, None, {"c1": 0.5}, "`search_options` need a line search, got .* with line_search_fn=None"),
    (ol.LBFGS, "nocedal_wright", {"c1": 0.95}, "'c1' and 'c2' with 0 < c1 < c2 < 1 .*, got c1 = 0.95 and c2 = 0.9"),
    (ol.LBFGS, "strong_wolfe", {"c2": 1e-5}, "'c1' and 'c2' with 0 < c1 < c2 < 1 .*, got c1 = 0.0001 and c2 = 1e-05"),
    (ol.LBFGS, "backtracking", {"c1": 1.5}, "must have 'c1' with 0 < c1 < 1 .*, got c1 = 1.5"),
    (ol.LBFGS, own, {"c1": 0}, "0 < c1 < 1 for line_search_fn=own, got c1 = 0"),
    (ol.ConjugateGradient, "strong_wolfe", {"c1": 0.1}, "got c1 = 0.1 and c2 = 0.1"),
    (ol.LBFGS, "nocedal_wright", {"c2": "0.5"}, r"`search_options\['c2'\]` must be a number, got '0.5'"),
    (ol.LBFGS, "nocedal_wright", {"max_evals": 0}, r"`search_options\['max_evals'\]` must be an integer >= 1"),
])
def test_what_is_refused_at_once(make: Any, search: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make([np.ones(2)], line_search_fn=search, search_options=options)


@pytest.mark.parametrize(("make", "search", "options"), [
    (ol.LBFGS, "nocedal_wright", {"c1": 1e-3, "c2": 0.5, "max_evals": 5}),
    (ol.LBFGS, "strong_wolfe", {"tolerance_change": 1e-12, "c2": np.float32(0.5)}),
    (ol.LBFGS, "hager_zhang", {"epsilon": 1e-4}), (ol.ConjugateGradient, "strong_wolfe", {"c1": 0.05}),
    (ol.LBFGS, own, {"c1": 0.2}), (ol.LBFGS, anything, {"mine": 7}), (ol.LBFGS, partial(own, c1=0.5), {"c1": 0.1}),
])
def test_what_is_taken(make: Any, search: Any, options: dict[str, Any]) -> None:
    problem = Rosenbrock()
    opt = make(problem.params, line_search_fn=search, search_options=options, max_iter=5)
    opt.step(problem)
    assert opt.result.loss < 24


def test_within_bounds_it_is_the_search_of_bounds_that_decides() -> None:
    """torch's search has a `tolerance_change`, and ours, which takes its place there, has none."""
    given = {"line_search_fn": "strong_wolfe", "search_options": {"tolerance_change": 1e-12}}
    opt = ol.LBFGS([np.ones(2)], **given)
    opt.bounds = (0, 2)
    with pytest.raises(ValueError, match="`search_options` has no `tolerance_change`"):
        opt.step(lambda: 0.0)
    with pytest.raises(ValueError, match="`search_options` has no `tolerance_change`"):
        ol.LBFGS([np.ones(2)], bounds=(0, 2), **given)


@pytest.mark.parametrize("options", [{"c1": 0.95}, {"c2": 1e-5}, {"c1": 0.5, "c2": 0.1}, {"search_options": {"d": 1}}])
def test_minimize_asks_before_the_first_evaluation(options: dict[str, Any]) -> None:
    calls = []
    with pytest.raises(ValueError, match="`search_options` "):
        ol.minimize(lambda x: calls.append(1) or rosenbrock(x), np.zeros(2), options=options)
    assert not calls
