"""What an iteration works on: points with their costs, linear models of them, and the tests that end a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..result import Stop
from .box import Box
from .dense_model import DenseModel
from .jacobian import Jacobian, Products
from .krylov_model import KrylovModel
from .pairs import Pair
from .residuals import Residuals
from .robust_losses import Loss
from .step import Step

Array = np.ndarray
ASKED, NOT_FINITE, LIMIT, GRADIENT, COST, STEP, BOTH = -2, -1, 0, 1, 2, 3, 4       # scipy's least_squares' numbers
GOOD = 0.75                                      # of the predicted decrease, and the radius is doubled
REASONS = {GRADIENT: "the gradient is small enough (`gtol`)", COST: "the cost decreases little enough (`ftol`)",
           STEP: "the step is small enough (`xtol`)", BOTH: "cost and step change little enough (`ftol`, `xtol`)"}


Model = DenseModel | KrylovModel


class Place(NamedTuple):
    """An accepted point, and all that the iteration has come to know: what a run goes on with."""

    x: Array
    r: Array
    cost: float
    D: Array | None = None                       # the scale of steps is |D p|
    radius: float = math.nan                     # none yet
    iterations: int = 0
    pairs: tuple[Pair, ...] = ()                 # what conjugate gradients have learnt


class Tolerances(NamedTuple):
    """When a run ends; -1 is never."""

    ftol: float
    xtol: float
    gtol: float
    max_nfev: int


class Problem:
    def __init__(self, residuals: Residuals, jacobian: Jacobian, loss: Loss, box: Box | None, x_scale: Any,
                 tolerances: Tolerances, history_size: int) -> None:
        self.residuals, self.jacobian, self.loss, self.box, self.x_scale = residuals, jacobian, loss, box, x_scale
        self.tolerances, self.history_size = tolerances, history_size
        self.eps = float(np.finfo(residuals.dtype).eps)  # what the unknowns' type doesn't resolve is no change
        self.ftol, self.xtol = (max(tolerance, self.eps) if tolerance >= 0.0 else tolerance
                                for tolerance in tolerances[:2])
        self.at: Any = None                      # the Place that was accepted last
        self.model: Any = None                   # and the model that was made last

    @property
    def spent(self) -> bool:
        return self.residuals.count >= self.tolerances.max_nfev

    def evaluate(self, x: Array) -> Place:
        """The cost at x; infinite where it or a residual isn't finite."""
        if self.spent:
            raise Stop(f"`max_nfev` reached: {self.tolerances.max_nfev} evaluations", LIMIT)
        x = self.residuals.place(x)
        r = self.residuals()
        cost = self.loss.cost(r)
        return Place(x, r, cost if math.isfinite(cost) else math.inf)

    def linearize(self, place: Place) -> Any:
        """The Model there, with rows that the loss has weighed."""
        J = self.jacobian(place.x, place.r)
        r, weights = place.r, self.loss.corrections(place.r)
        if weights is not None:
            r = weights[1] * r
        if isinstance(J, Products):
            if isinstance(self.x_scale, str):
                raise ValueError("`x_scale='jac'` needs a matrix, and `jac` is an operator: give numbers, or leave it "
                                 "out")
            D = np.ones(1, place.x.dtype) if self.x_scale is None else self.x_scale.astype(place.x.dtype)
            model: Model = KrylovModel(J, None if weights is None else weights[0], r, place.x, D, self.box,
                                     self.tolerances.gtol, place.pairs, self.history_size)
        else:
            if weights is not None:
                J *= weights[0][:, None]
            if not np.isfinite(J).all():
                raise Stop("the Jacobian isn't finite", NOT_FINITE)
            model = DenseModel(J, r.astype(np.float64), place.x.astype(np.float64), self.scale(J, place.D), self.box)
        if not np.isfinite(model.gradient).all():
            raise Stop("the gradient isn't finite", NOT_FINITE)
        self.model = model
        return model

    def scale(self, J: Array, before: Array | None) -> Array:
        """The largest norm that each column has had (Moré 1978), unless x_scale was given."""
        if isinstance(self.x_scale, np.ndarray):
            return np.broadcast_to(self.x_scale, J.shape[1])
        norms = np.sqrt(np.sum(J**2, axis=0))
        return np.where(norms > 0, norms, 1.0) if before is None else np.maximum(before, norms)

    # The ends --------------------------------------------------------------------------------------------------------

    def optimality(self, model: Model) -> float:
        """max |g| of the unknowns that may move."""
        return float(np.max(abs(model.gradient[model.free]), initial=0.0))

    def check_gradient(self, model: Model) -> None:
        if self.optimality(model) <= self.tolerances.gtol:
            raise Stop(REASONS[GRADIENT], GRADIENT)

    def check_step(self, place: Place, trial: Place, step: Step) -> Stop | None:
        """Why a trial from here is the last, if it is: the tolerances for cost and step, or that x stays as it is.

        A small change of the cost is no end where only the radius kept it small, and would be doubled, nor where the
        model missed it by half (Moré, Garbow & Hillstrom 1980), but for rounding.
        """
        actual = place.cost - trial.cost
        size = float(np.linalg.norm(place.D * place.x))
        cost = (self.ftol >= 0.0 and max(abs(actual), step.predicted) <= self.ftol * place.cost
                and -0.5 * step.predicted <= actual <= max(2.0 * step.predicted, self.eps * place.cost)
                and (step.whole or actual < GOOD * step.predicted))
        small = self.xtol >= 0.0 and step.length <= self.xtol * size
        if cost or small:
            status = BOTH if cost and small else COST if cost else STEP
            return Stop(REASONS[status], status)
        return None if (trial.x != place.x).any() else Stop("no step changes x any more", STEP)

    def accept(self, place: Place, tell: Callable[[], bool]) -> None:
        """Makes this the last accepted point; `tell` hears of it, and says whether to stop."""
        self.at = place
        if tell():
            raise Stop("the callback asked to stop", ASKED)
