"""The outer iteration of all methods: steps of the linear model, shorter ones where it predicted badly."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .problem import GOOD, Model, Place, Problem
from .step import Step

LEAST = 1e-3                                     # of the cost: what the first step may at least bring
ENOUGH = 1e-4                                    # of the predicted decrease makes a step accepted
TRUE = 0.1                                       # a model errs by at most so much where it is worth more work,
STILL = 0.25                                     # and where what it has taught is of use for the next one


def iterate(problem: Problem, place: Place, searches: bool, tell: Callable[[], bool]) -> None:
    """Moré's iteration (1978), until a Stop: the radius within which steps are sought follows how well the model does.

    `searches`: Gauss and Newton's step instead, which is shortened along its direction until it is lower.
    `tell` is called at each accepted point.
    """
    while True:
        model = problem.linearize(place)
        problem.check_gradient(model)
        first = math.isnan(place.radius)
        radius = math.inf if searches else first_radius(model, place) if first else place.radius
        problem.at = place = place._replace(D=model.D, radius=radius)
        step: Step | None = None
        accepted = False
        while not accepted:
            step = model.step(radius) if step is None or not searches else step.shortened(place.x, radius)
            trial = problem.evaluate(step.x)
            actual = place.cost - trial.cost
            ratio = actual / step.predicted if step.predicted > 0.0 else 0.0
            accepted = ratio >= ENOUGH
            done = problem.check_step(place, trial, step)
            if accepted:
                if done is None:
                    trial, step = refined(problem, model, place._replace(radius=radius), trial, step)
                good = ratio >= GOOD or (ratio >= 0.25 and step.whole)
                radius = 2.0 * step.length if good else step.length
                place = trial._replace(D=place.D, radius=radius, iterations=place.iterations + 1,
                                       pairs=model.learnt() if abs(ratio - 1.0) <= STILL else ())
                problem.accept(place, tell)
            else:
                radius = min(radius, step.length) * lowest_part(step.slope, actual)
                problem.at = place = place._replace(radius=radius)
            if done is not None:
                raise done


def first_radius(model: Model, place: Place) -> float:
    """As far as x is from 0; a hundred times as far, or infinity, if the model's first pause is short of it.

    But so far that the slope alone would bring LEAST of the cost: x may be 1e-12 where others write 0.
    """
    size = float(np.linalg.norm(model.D * place.x))
    slope = float(np.linalg.norm((model.gradient / model.D)[model.free]))
    least = LEAST * place.cost / slope if slope > 0.0 else 0.0
    if model.sparing:
        return max(100.0 * size, least) if size else math.inf
    return max(size, least) if size else math.sqrt(2.0 * place.cost)


def lowest_part(slope: float, actual: float) -> float:
    """Where along a step the parabola is lowest that has its slope and its end: a tenth to a half of it."""
    gap = -actual - slope                        # by how much the end is above the tangent
    lowest = -0.5 * slope / gap if math.isfinite(gap) and gap > 0.0 else 0.1
    return min(max(lowest, 0.1), 0.5)


def refined(problem: Problem, model: Model, place: Place, trial: Place, step: Step) -> tuple[Place, Step]:
    """Goes on with a model that predicts well: a step that is nearer to its lowest point, as long as that is lower.

    So a linear problem is one run of conjugate gradients, however often it is paused.
    """
    expected = step.predicted                    # of what was iterated last
    while (abs(place.cost - trial.cost - step.predicted) <= TRUE * expected
           and expected > problem.ftol * trial.cost and not problem.spent):
        finer = model.finer(place.radius)
        if finer is None:
            break
        other = problem.evaluate(finer.x)
        if not other.cost < trial.cost:
            break
        expected = finer.predicted - step.predicted
        trial, step = other, finer
    return trial, step
