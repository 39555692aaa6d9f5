"""Line searches: how far to go along a direction, given only the loss and its slope at a trial step.

Each is a function of one variable's `phi(step) -> (loss, slope)` and can be used without an optimizer:

    found = strong_wolfe(phi, loss, slope, step=1.0)

`loss` and `slope` are phi(0) and phi'(0) < 0; `step` > 0 is the first trial.  A trial whose loss or slope is NaN or
infinite counts as infinitely high: the step shrinks.  A search ends with a step that meets its conditions.  After
`max_evals` evaluations, or where rounding leaves no other point to try, it ends with the lowest trial seen (step 0 if
none is below the start).  Raises ValueError for a start, slope or step with which no search can begin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

Phi = Callable[[float], tuple[float, float]]


class Trial(NamedTuple):
    """A point on the line: a step that was evaluated, with phi and phi' there.

    step, loss, slope: floats.

        >>> ol.line_search.Trial(step=0.5, loss=2.25, slope=-3.0).slope
        -3.0
    """

    step: float
    loss: float
    slope: float


class Found(NamedTuple):
    """What a search found: the step with its loss and slope, whether it meets the conditions, and what it cost.

    step, loss, slope: floats; step 0 where no trial was below the start.    success: whether the conditions are met.
    evaluations: calls of phi.

    A search of your own returns one; optimizers read its `step` alone.

        >>> ol.line_search.Found(step=1.0, loss=1.0, slope=-2.0, success=True, evaluations=1).step
        1.0
    """

    step: float
    loss: float
    slope: float
    success: bool
    evaluations: int


class Ended(Exception):  # noqa: N818 - the normal end of a search, not an error
    """Carries the trial that a search ends with, from wherever in it that was seen."""

    def __init__(self, trial: Trial | None = None) -> None:
        self.trial = trial


class Line:
    """Evaluates phi, counts, remembers the lowest trial, and ends the search when a trial meets its conditions.

    Within a bracket, a trial of the same loss and slope as an earlier one lies at the same point, to which both steps
    were rounded.  That ends a search, too, unless trials `may_repeat`.
    """

    def __init__(self, phi: Phi, start: Trial, step: float, max_evals: int, accepts: Callable[[Trial], bool],
                 may_repeat: bool = False) -> None:
        check(start, step, max_evals)
        self.phi, self.start, self.lowest, self.left, self.accepts = phi, start, start, max_evals, accepts
        self.may_repeat, self.evaluations = may_repeat, 0
        self.seen: set[tuple[float, float]] = set()      # loss and slope of each trial
        self.farthest = 0.0

    def __call__(self, step: float) -> Trial:
        if self.evaluations >= self.left or not math.isfinite(step):
            raise Ended
        self.evaluations += 1
        loss, slope = self.phi(step)
        if not (math.isfinite(loss) and math.isfinite(slope)):
            return Trial(step, math.inf, math.nan)
        trial = Trial(step, loss, slope)
        if loss < self.lowest.loss:
            self.lowest = trial
        if self.accepts(trial):
            raise Ended(trial)
        flat = slope == 0.0 and loss > self.start.loss           # a plateau above: all of its points look the same
        repeated = step < self.farthest and (loss, slope) in self.seen and not (
            flat or below_rounding(self.start, trial))
        if repeated and not self.may_repeat:
            raise Ended
        self.seen.add((loss, slope))
        self.farthest = max(step, self.farthest)
        return trial

    def search(self, strategy: Callable[[], None]) -> Found:
        try:
            strategy()
        except Ended as end:
            if end.trial is not None:
                return Found(*end.trial, True, self.evaluations)
        return Found(*self.lowest, False, self.evaluations)


def check(start: Trial, step: float, max_evals: int) -> None:
    """Refuses what no search can do anything with."""
    if not math.isfinite(start.loss):
        raise ValueError(f"`loss` must be finite, got {start.loss}")
    if not -math.inf < start.slope < 0.0:
        raise ValueError(f"`slope` must be finite and < 0, got {start.slope}; search along a direction of descent")
    if not 0.0 < step < math.inf:
        raise ValueError(f"`step` must be finite and > 0, got {step}")
    if max_evals < 1:
        raise ValueError(f"`max_evals` must be >= 1, got {max_evals}")


def cubic_minimum(a: Trial, b: Trial) -> float:
    """Where the cubic through two points with their slopes has its minimum; NaN if it has none (N&W 3.59)."""
    if a.step == b.step:
        return math.nan
    d1 = a.slope + b.slope - 3.0 * (a.loss - b.loss) / (a.step - b.step)
    square = d1 * d1 - a.slope * b.slope
    if not 0.0 <= square < math.inf:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.step - a.step)
    below = b.slope - a.slope + 2.0 * d2
    return b.step - (b.step - a.step) * ((b.slope + d2 - d1) / below) if below else math.nan


def clipped(step: float, low: float, high: float, otherwise: float) -> float:
    """`step` clipped to [low, high]; `otherwise` where it is NaN."""
    return otherwise if math.isnan(step) else min(max(step, low), high)


def extrapolate(trial: Trial, guess: float) -> float:
    """A longer step than the trial: the guess, if it is one, within a factor of ten."""
    return clipped(guess if guess > trial.step else math.nan, 1.1 * trial.step, 10.0 * trial.step, 5.0 * trial.step)


def interval_exhausted(a: Trial, b: Trial) -> bool:
    """Whether no double lies well between the two steps."""
    return abs(b.step - a.step) <= 4e-16 * max(abs(a.step), abs(b.step))


def below_rounding(start: Trial, trial: Trial) -> bool:
    """Whether the step is lost in the rounding of the parameters: the loss is the same and falls on as steeply."""
    return trial.loss == start.loss and trial.slope <= (1.0 - 1e-9) * start.slope


# Strong Wolfe --------------------------------------------------------------------------------------------------------

def strong_wolfe(phi: Phi, loss: float, slope: float, step: float = 1.0, *, c1: float = 1e-4, c2: float = 0.9,
                 max_evals: int = 25, weak: bool = False) -> Found:
    """A step with sufficient decrease and a flat slope.

        phi(t) <= phi(0) + c1 * t * phi'(0)        and        |phi'(t)| <= c2 * |phi'(0)|

    phi: a function of the step that returns (loss, slope).    loss, slope: phi(0) and phi'(0) < 0.
    step: the first trial, > 0.    max_evals: calls of phi at most.
    c1, c2: how much of the decrease that the first slope promises is enough, and how much of that slope may be left.
    weak: the weak Wolfe conditions, for which the slope may rise as steeply as it likes: phi'(t) >= c2 * phi'(0).

    Raises ValueError for a start, slope, step or `max_evals` with which no search can begin.
    Source: bracketing and zoom with cubic interpolation are algorithms 3.5 and 3.6 of Nocedal & Wright 2006.

        >>> def phi(t):
        ...     return (t - 2) ** 2, 2 * (t - 2)
        >>> ol.line_search.strong_wolfe(phi, loss=4.0, slope=-4.0, step=1.0, c2=0.1)
        Found(step=2.0, loss=0.0, slope=0.0, success=True, evaluations=2)
    """
    start = Trial(0.0, loss, slope)

    def high(trial: Trial) -> bool:
        return not trial.loss <= loss + c1 * trial.step * slope and not below_rounding(start, trial)

    def flat(trial: Trial) -> bool:
        return (trial.slope if weak else -abs(trial.slope)) >= c2 * slope

    line = Line(phi, start, step, max_evals, lambda trial: not high(trial) and flat(trial))

    def bracket() -> None:
        before, t = start, step
        while True:
            trial = line(t)
            if high(trial) or (before is not start and trial.loss >= before.loss and not below_rounding(before, trial)):
                return zoom(before, trial)
            if trial.slope >= 0.0:
                return zoom(trial, before)
            before, t = trial, extrapolate(trial, cubic_minimum(before, trial))

    def zoom(low: Trial, far: Trial) -> None:
        shrank = True
        while not interval_exhausted(low, far):
            width = far.step - low.step
            if math.isinf(far.loss):
                t = low.step + 0.2 * width           # outside the domain: come back quickly
            elif shrank:
                edge = 0.01 * abs(width)
                t = clipped(cubic_minimum(low, far), min(low.step, far.step) + edge, max(low.step, far.step) - edge,
                            low.step + 0.5 * width)
            else:
                t = low.step + 0.5 * width
            trial = line(t)
            if (trial.loss, trial.slope) == (low.loss, low.slope):
                low = trial                      # the same point: others lie beyond it
            elif high(trial) or trial.loss >= low.loss:
                far = trial
            else:
                if trial.slope * width >= 0.0:
                    far = low
                low = trial
            shrank = abs(far.step - low.step) <= 0.66 * abs(width)

    return line.search(bracket)


# Hager and Zhang -----------------------------------------------------------------------------------------------------

def hager_zhang(phi: Phi, loss: float, slope: float, step: float = 1.0, *, c1: float = 0.1, c2: float = 0.9,
                epsilon: float = 1e-6, max_evals: int = 50) -> Found:
    """A step that meets the Wolfe or, near the minimum, the approximate Wolfe conditions.

        phi(t) <= phi(0) + c1 * t * phi'(0)        and        phi'(t) >= c2 * phi'(0),      or
        phi(t) <= phi(0) + epsilon * |phi(0)|      and        (2 * c1 - 1) * phi'(0) >= phi'(t) >= c2 * phi'(0)

    The second pair judges the decrease by slopes, which still resolve it where rounded losses are all equal: the choice
    for float32.

    phi, loss, slope, step, max_evals: as for `strong_wolfe`.
    c1, c2: of the conditions.    epsilon: the loss may rise by this much of itself.

    Raises ValueError as `strong_wolfe` does.  Source: Hager & Zhang 2005, whose values 0.1, 0.9 and 1e-6 are.

        >>> def phi(t):
        ...     return (t - 2) ** 2, 2 * (t - 2)
        >>> ol.line_search.hager_zhang(phi, loss=4.0, slope=-4.0, step=1.0, c2=0.2)
        Found(step=2.0, loss=0.0, slope=0.0, success=True, evaluations=2)
    """
    start, limit = Trial(0.0, loss, slope), loss + epsilon * abs(loss)

    def accepts(trial: Trial) -> bool:
        return trial.slope >= c2 * slope and (
            trial.loss <= loss + c1 * trial.step * slope
            or (trial.loss <= limit and trial.slope <= (2.0 * c1 - 1.0) * slope))

    line = Line(phi, start, step, max_evals, accepts)

    def bracket() -> tuple[Trial, Trial]:
        low, t = start, step
        while True:
            trial = line(t)
            if trial.slope >= 0.0:
                return low, trial
            if not trial.loss <= limit:
                return halve(low, trial)
            low, t = trial, extrapolate(trial, secant(low, trial))

    def halve(low: Trial, far: Trial) -> tuple[Trial, Trial]:
        """Between a falling low and a far point that is too high, until the slope turns."""
        while not interval_exhausted(low, far):
            trial = line(low.step + (0.2 if math.isinf(far.loss) else 0.5) * (far.step - low.step))
            if trial.slope >= 0.0:
                return low, trial
            if trial.loss <= limit:
                low = trial
            else:
                far = trial
        raise Ended

    def update(low: Trial, far: Trial, t: float) -> tuple[Trial, Trial]:
        if not low.step < t < far.step:
            return low, far
        trial = line(t)
        if trial.slope >= 0.0:
            return low, trial
        return (trial, far) if trial.loss <= limit else halve(low, trial)

    def secant(a: Trial, b: Trial) -> float:
        rise = b.slope - a.slope
        return (a.step * b.slope - b.step * a.slope) / rise if rise else math.nan

    def narrow() -> None:
        low, far = bracket()
        while not interval_exhausted(low, far):
            width, t = far.step - low.step, secant(low, far)
            new_low, new_far = update(low, far, t)
            if t == new_far.step:
                new_low, new_far = update(new_low, new_far, secant(far, new_far))
            elif t == new_low.step:
                new_low, new_far = update(new_low, new_far, secant(low, new_low))
            low, far = new_low, new_far
            if far.step - low.step > 0.66 * width:
                low, far = update(low, far, 0.5 * (low.step + far.step))

    return line.search(narrow)


# Backtracking --------------------------------------------------------------------------------------------------------

def backtracking(phi: Phi, loss: float, slope: float, step: float = 1.0, *, c1: float = 1e-4,
                 max_evals: int = 25) -> Found:
    """The first of ever shorter steps with sufficient decrease (Armijo 1966): phi(t) <= phi(0) + c1 * t * phi'(0).

    The next step is the minimum of the parabola through phi(0), phi'(0) and phi(t), between a tenth and a half of t.

    phi, loss, slope, step, max_evals: as for `strong_wolfe`.
    c1: how much of the decrease that the first slope promises is enough.

    Raises ValueError as `strong_wolfe` does.

        >>> def phi(t):
        ...     return (t - 2) ** 2, 2 * (t - 2)
        >>> ol.line_search.backtracking(phi, loss=4.0, slope=-4.0, step=8.0)
        Found(step=2.0, loss=0.0, slope=0.0, success=True, evaluations=2)
    """
    start = Trial(0.0, loss, slope)
    line = Line(phi, start, step, max_evals, lambda trial: trial.loss <= loss + c1 * trial.step * slope)

    def shrink() -> None:
        t = step
        while t > 0.0:
            trial = line(t)
            if below_rounding(start, trial):         # and so is every shorter step
                return
            above = trial.loss - loss - t * slope
            parabola = -0.5 * slope * t * t / above if 0.0 < above < math.inf else math.nan
            t = clipped(parabola, 0.1 * t, 0.5 * t, 0.2 * t)

    return line.search(shrink)


# By the names that optimizers take; a method may have others under some of them.
SEARCHES: dict[str, Callable[..., Found]] = {
    "strong_wolfe": strong_wolfe, "nocedal_wright": strong_wolfe, "hager_zhang": hager_zhang,
    "backtracking": backtracking}
