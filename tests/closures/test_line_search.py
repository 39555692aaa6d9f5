"""Line searches: what they promise on easy functions, and what they do where others break."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from optimlite.closures.torch_wolfe import torch_strong_wolfe
from optimlite.line_search import Found, backtracking, hager_zhang, strong_wolfe

nan, inf = math.nan, math.inf
SEARCHES = [strong_wolfe, hager_zhang, backtracking, torch_strong_wolfe]
Function = Callable[[float], tuple[float, float]]

# Moré & Thuente 1994, section 5: functions of one variable, each with its slope.
FUNCTIONS: dict[str, Function] = {
    "1": lambda t: (-t / (t * t + 2), (t * t - 2) / (t * t + 2) ** 2),
    "2": lambda t: ((t + 0.004) ** 5 - 2 * (t + 0.004) ** 4, 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3),
    "quadratic": lambda t: (t * t - t, 2 * t - 1),
    "quartic": lambda t: (t**4 - t, 4 * t**3 - 1),
    "cosine": lambda t: (-math.sin(t), -math.cos(t)),
    "far": lambda t: (math.hypot(1, t - 1000), (t - 1000) / math.hypot(1, t - 1000)),
}


class Watched:
    """Counts the evaluations and remembers the lowest loss."""

    def __init__(self, phi: Function) -> None:
        self.phi, self.steps, self.lowest = phi, [], phi(0.0)[0]

    def __call__(self, step: float) -> tuple[float, float]:
        self.steps.append(step)
        loss, slope = self.phi(step)
        if loss < self.lowest and math.isfinite(slope):
            self.lowest = loss
        return loss, slope


def run(search: Callable[..., Found], phi: Function, step: float, **options: object) -> tuple[Found, Watched]:
    watched = Watched(phi)
    found = search(watched, *phi(0.0), step, **options)
    assert found.evaluations == len(watched.steps)
    assert found.step == 0 or found.step in watched.steps
    assert (found.loss, found.slope) == phi(found.step)
    return found, watched


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_strong_wolfe_conditions(name: str, first: float) -> None:
    phi = FUNCTIONS[name]
    loss, slope = phi(0.0)
    for c1, c2 in [(1e-4, 0.9), (1e-3, 0.1), (1e-4, 0.01)]:
        found, _ = run(strong_wolfe, phi, first, c1=c1, c2=c2)
        assert found.success
        assert found.loss <= loss + c1 * found.step * slope
        assert abs(found.slope) <= c2 * abs(slope)


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_wolfe_or_approximate_wolfe_conditions(name: str, first: float) -> None:
    phi = FUNCTIONS[name]
    loss, slope = phi(0.0)
    found, _ = run(hager_zhang, phi, first)
    assert found.success
    assert found.slope >= 0.9 * slope
    assert (found.loss <= loss + 0.1 * found.step * slope
            or (found.loss <= loss + 1e-6 * abs(loss) and found.slope <= -0.8 * slope))


@pytest.mark.parametrize("first", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_armijo_condition(name: str, first: float) -> None:
    phi = FUNCTIONS[name]
    loss, slope = phi(0.0)
    found, watched = run(backtracking, phi, first)
    assert found.success
    assert found.loss <= loss + 1e-4 * found.step * slope
    assert watched.steps == sorted(watched.steps, reverse=True)


def outside(beyond: float, value: float) -> Function:
    """A parabola with its minimum at 1, whose domain ends a little behind it."""
    return lambda t: (t * t / 2 - t, t - 1) if t < beyond else (value, value)


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("beyond", [1e-6, 0.5, 1.5])
@pytest.mark.parametrize("search", SEARCHES)
def test_the_step_shrinks_where_the_loss_is_not_finite(
        search: Callable[..., Found], beyond: float, value: float) -> None:
    """pytorch-minimize#8: a bracket whose one end is NaN must not end on that side."""
    found, watched = run(search, outside(beyond, value), 10.0, **({} if search is backtracking else {"max_evals": 60}))
    assert 0 < found.step < beyond
    assert found.loss < 0
    assert found.loss == watched.lowest or found.success


@pytest.mark.parametrize("search", SEARCHES)
def test_nothing_but_nan(search: Callable[..., Found]) -> None:
    found, watched = run(search, lambda t: (0.0, -1.0) if t == 0 else (nan, nan), 1.0)
    assert found.step == 0
    assert len(watched.steps) <= 50


@pytest.mark.parametrize("search", SEARCHES)
def test_a_nan_slope_counts_as_not_finite(search: Callable[..., Found]) -> None:
    found, _ = run(search, lambda t: (t * t - t, 2 * t - 1 if t < 0.8 else nan), 1.0)
    assert 0 < found.step < 0.8


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("search", SEARCHES)
def test_never_more_evaluations_than_allowed(search: Callable[..., Found], limit: int) -> None:
    for phi, first in [(FUNCTIONS["far"], 1e-3), (outside(1e-9, nan), 1.0), (FUNCTIONS["2"], 1e3)]:
        found, watched = run(search, phi, first, max_evals=limit)
        assert len(watched.steps) <= limit
        if not found.success and search is not torch_strong_wolfe:
            assert found.loss == watched.lowest


@pytest.mark.parametrize("search", SEARCHES)
def test_unbounded(search: Callable[..., Found]) -> None:
    """A slope that never turns: the search ends, at the lowest point it saw."""
    found, watched = run(search, lambda t: (-t, -1.0), 1.0)
    assert found.loss == watched.lowest < 0


@pytest.mark.parametrize("search", SEARCHES)
def test_overflow(search: Callable[..., Found]) -> None:
    found, _ = run(search, lambda t: (-math.exp(min(t, 700.0)) if t < 700 else -inf, -math.exp(min(t, 700.0))), 1.0)
    assert math.isfinite(found.loss)


@pytest.mark.parametrize("search", SEARCHES)
def test_an_ascent_ends_at_the_start(search: Callable[..., Found]) -> None:
    """A wrong gradient: nothing along the line is lower."""
    found, watched = run(search, lambda t: (t, -1.0), 1.0)
    assert found.step == 0
    assert len(watched.steps) <= 60


def test_slopes_decide_where_losses_are_rounded_off() -> None:
    """In float32 all losses around the minimum are alike; the approximate Wolfe conditions still find it."""
    def phi(t: float) -> tuple[float, float]:
        return float(np.float32(1e4 + 1e-5 * (t - 1) ** 2)), 2e-5 * (t - 1)

    for first in (0.25, 3.0):
        found, _ = run(hager_zhang, phi, first, c1=0.4, c2=0.1)
        assert found.success
        assert found.evaluations <= 3
        assert abs(found.step - 1) <= 0.2
    assert not run(strong_wolfe, phi, 3.0, c2=0.1)[0].success


def test_a_step_that_the_parameters_do_not_feel_is_made_longer() -> None:
    """Lost in the rounding of x = 1e6, where a zoom towards zero would find nothing."""
    def phi(t: float) -> tuple[float, float]:
        x = 1e6 + 1e-8 + t
        return (x - 1e6 - 1) ** 2, 2 * (x - 1e6 - 1)

    found, _ = run(strong_wolfe, phi, 1e-12)
    assert found.success
    assert abs(found.step - 1) < 0.9


# What a search is given ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("loss", "slope", "step", "limit", "message"), [
    (1.0, 0.0, 1.0, 9, "^`slope` must be finite and < 0, got 0.0; search along a direction of descent$"),
    (1.0, 1.0, 1.0, 9, "^`slope` must be finite and < 0, got 1.0"), (1.0, nan, 1.0, 9, "^`slope` must be .* got nan"),
    (1.0, -inf, 1.0, 9, "^`slope` must be .* got -inf"), (nan, -1.0, 1.0, 9, "^`loss` must be finite, got nan$"),
    (1.0, -1.0, 0.0, 9, "^`step` must be finite and > 0, got 0.0$"),
    (1.0, -1.0, -1.0, 9, "^`step` must be .* got -1.0$"), (1.0, -1.0, inf, 9, "^`step` must be .* got inf$"),
    (1.0, -1.0, 1.0, 0, "^`max_evals` must be >= 1, got 0$")])
@pytest.mark.parametrize("search", SEARCHES)
def test_what_no_search_can_begin_with(search: Callable[..., Found], loss: float, slope: float, step: float, limit: int,
                                       message: str) -> None:
    def phi(step: float) -> tuple[float, float]:
        raise AssertionError("it is refused before anything is evaluated")

    with pytest.raises(ValueError, match=message):
        search(phi, loss, slope, step, max_evals=limit)


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_weak_wolfe_conditions(name: str, first: float) -> None:
    phi = FUNCTIONS[name]
    loss, slope = phi(0.0)
    found, weak = run(strong_wolfe, phi, first, c2=0.1, weak=True)
    _, strong = run(strong_wolfe, phi, first, c2=0.1)
    assert found.success
    assert found.loss <= loss + 1e-4 * found.step * slope
    assert found.slope >= 0.1 * slope
    assert len(weak.steps) <= len(strong.steps)


def test_a_kink_is_no_place_to_look_for_a_flat_slope() -> None:
    found, watched = run(strong_wolfe, lambda t: (abs(t - 1), -1.0 if t < 1 else 1.0), 3.0, weak=True)
    assert found.success
    assert len(watched.steps) <= 4


@pytest.mark.parametrize("first", [1e-3, 0.3, 3.0, 1e3])
@pytest.mark.parametrize("search", [strong_wolfe, hager_zhang, backtracking])
def test_a_search_ends_where_steps_are_rounded_to_the_same_point(search: Callable[..., Found], first: float) -> None:
    """Between two neighbours the loss rises, whichever step is tried."""
    def phi(t: float) -> tuple[float, float]:
        x = round(t)
        return (0.0, -1.0) if x == 0 else (x * 1.0, 2.0)

    found, watched = run(search, phi, first)
    assert found.step == 0
    assert len(watched.steps) <= 12
