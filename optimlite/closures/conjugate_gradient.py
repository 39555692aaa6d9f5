"""Nonlinear conjugate gradients: three formulas for beta, a line search, and the usual restarts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

from .. import checks
from ..engine.state import StateMap
from . import line_search
from .closure_optimizer import LIMITS, ClosureOptimizer
from .line import LinePosition
from .line_search import SEARCHES, Found
from .method import Direction, Method, Search
from .progress import SCALARS
from .result import Result
from .search_choice import search, search_options
from .vectors import GradientProducts, Vector
from .workspace import StateNames, Workspace


class Products(NamedTuple):
    """What the formulas are made of: gradients g (new) and h (old), y = g - h, and the direction d that led to g."""

    gg: float
    hh: float
    yg: float
    yd: float
    yy: float
    dg: float
    dd: float


def polak_ribiere_plus(p: Products) -> float:
    """max(0, y.g / h.h) (Polak & Ribiere 1969, Powell 1986)"""
    return max(0.0, p.yg / p.hh)


def hestenes_stiefel(p: Products) -> float:
    """y.g / y.d (1952)"""
    return p.yg / p.yd


def hager_zhang(p: Products) -> float:
    """(y - 2 d y.y / y.d).g / y.d, bounded below (2005)"""
    beta = (p.yg - 2.0 * p.dg * p.yy / p.yd) / p.yd
    return max(beta, -1.0 / (math.sqrt(p.dd) * min(0.01, math.sqrt(p.hh))))


# Those that notice by themselves when conjugacy is lost, and then come close to -g.
BETAS: dict[str, Callable[[Products], float]] = {
    "polak-ribiere+": polak_ribiere_plus, "hestenes-stiefel": hestenes_stiefel, "hager-zhang": hager_zhang}


GUESS_TOLERANCE = 1.25           # a guess of the step counts as good within this factor
MOST_GROWTH = 10                 # of the first trial, against the length of the step before
RESTART_FACTOR = 6               # iterations for each unknown before a restart, as in CG_DESCENT

# Conjugacy needs a flatter slope at the end of a search than quasi-Newton steps do.
exact_wolfe = partial(line_search.strong_wolfe, c2=0.1)
CG_SEARCHES: dict[str, Search] = {
    **SEARCHES, "strong_wolfe": exact_wolfe, "nocedal_wright": exact_wolfe,
    "hager_zhang": partial(line_search.hager_zhang, c1=0.4, c2=0.1)}


class ConjugateGradientMethod(Method):
    """d = -g + beta * d, with what the formulas need in scalars: the products come with each gradient."""

    def __init__(self, work: Workspace) -> None:
        super().__init__(work)
        self.before: dict[str, float] | None = None      # scalars, while a direction is made
        self.preconditioned: Vector | None = None        # H0 g

    @staticmethod
    def searches(bounded: bool) -> Mapping[str, Search]:
        return CG_SEARCHES

    def evaluations(self, max_iter: int) -> int:
        return 3 * max_iter                      # a search exact enough for conjugacy takes about two

    def read_gradient(self, out: Vector, previous: Vector) -> GradientProducts:
        return self.space.read_gradient_and_products(out, self.work.d, previous)

    def direction(self, seen: GradientProducts, position: LinePosition) -> Direction:
        """The direction and, in the same pass, the first trial along it: both follow from the products alone."""
        work, scalars = self.work, self.work.scalars
        if not work.pending and float(scalars["trial"]) > 0.0:
            return self.taken_up(seen, position)
        if work.box is not None or self.h0 is not None:
            return self.direction_by_parts(seen)
        self.before = {key: float(scalars[key]) for key in ("since_restart", "square", "guess", "trial")}
        followed = work.pending                  # the last direction, and the gradient before it, are known
        beta = self.conjugate(seen) if followed else 0.0
        slope = beta * seen.slope - seen.square
        if not beta or not slope < 0.0:
            beta, slope = 0.0, -seen.square
            scalars["since_restart"][...] = 0
        work.count("since_restart")
        scalars["square"][...] = seen.square
        if not slope < 0.0:
            self.before, work.pending = None, False
            return Direction(slope, 0.0, 0.0)
        length = seen.square
        if beta:
            length += beta * (beta * float(scalars["length"]) - 2.0 * seen.slope)
        trial = self.guess(seen, slope, length, followed)
        scalars["trial"][...] = trial
        length, slope, largest = position.turn_and_move(trial, beta)
        self.before, work.pending = None, False
        scalars["length"][...], scalars["slope"][...] = length, slope
        return Direction(slope, largest, trial)

    def direction_by_parts(self, seen: GradientProducts) -> Direction:
        """The same with bounds or an H0: in the variables that no bound stops, gradients are projected, and so is the
        direction; H0 g takes the place of g, but in products only once."""
        work, space, scalars, followed = self.work, self.space, self.work.scalars, self.work.pending
        f, d, new, box = work.descent, work.d, work.spare, work.box
        z = f
        if self.h0 is not None:
            z = self.preconditioned = self.preconditioned or space.empty()
            self.h0(z, f)
        if followed and box is not None:
            space.project_previous(work.previous, work.g, box)
        old = z if self.h0 is not None else work.previous            # with an H0, h.h is known
        of_z, of_old = space.gram(z, old, [f, work.previous] if followed else [f])
        gg = of_z[0]
        if followed:
            if self.h0 is None:
                scalars["square"][...] = of_old[1]
            seen = seen._replace(square=gg, g_dot_previous=of_z[1])
        beta, slope = self.conjugate(seen) if followed else 0.0, 0.0
        if beta:
            slope, largest, length = self.turned(new, z, [d], [beta])
        if not slope < 0.0:
            beta = 0.0
            slope, largest, length = self.turned(new, z, [], [])
        if not slope < 0.0:
            work.pending = False
            return Direction(slope, 0.0, 0.0)
        since = int(scalars["since_restart"]) + 1 if beta else 1
        trial = self.guess(seen, slope, length, followed)
        # Nothing is called from here: an interrupt finds the direction made, or makes it again.
        work.d, work.spare, work.pending = new, d, False
        for key, value in (("trial", trial), ("slope", slope), ("length", length), ("square", gg),
                           ("since_restart", since)):
            scalars[key][...] = value
        return Direction(slope, largest, trial)

    def turned(self, out: Vector, z: Vector, rows: list[Vector], coefficients: list[float],
               ) -> tuple[float, float, float]:
        """out = -z + coefficient * row, within the box; returns g.out, max |out| and out.out."""
        largest = self.space.linear_combination(out, z, -1.0, rows, coefficients)[1]
        if self.work.box is not None:
            return *self.space.project_direction(out, self.work.g, self.work.box), self.space.square(out)
        slope, length = self.space.gram(out, out, [self.work.g, out])[0]
        return slope, largest, length

    def taken_up(self, seen: GradientProducts, position: LinePosition) -> Direction:
        """The direction whose search was interrupted, with the products that were lost."""
        work, scalars = self.work, self.work.scalars
        scalars["length"][...], scalars["slope"][...] = self.space.square(work.d), seen.slope
        largest = self.space.linear_combination(work.spare, work.d, 1.0)[1]
        trial = float(scalars["trial"])
        if work.box is None and self.h0 is None:
            position.move(trial)
        return Direction(seen.slope, largest, trial)

    def settle(self, away: bool) -> None:
        """After an interrupt while a direction was made: it is finished, or nothing of it has happened."""
        if self.before is not None:
            if away:
                self.work.pending = False
            else:
                for key, value in self.before.items():
                    self.work.scalars[key][...] = value
            self.before = None

    def conjugate(self, seen: GradientProducts) -> float:
        """beta, or 0 for a restart."""
        scalars = self.work.scalars
        if int(scalars["since_restart"]) >= (self.options["restart_every"] or RESTART_FACTOR * self.space.size):
            return 0.0
        gg, gh, hh = seen.square, seen.g_dot_previous, float(scalars["square"])
        products = Products(gg=gg, hh=hh, yg=gg - gh, yd=seen.slope - float(scalars["slope"]),
                            yy=max(0.0, gg - 2.0 * gh + hh), dg=seen.slope, dd=float(scalars["length"]))
        try:
            beta = BETAS[self.options["beta"]](products)
        except ZeroDivisionError:
            return 0.0
        return beta if math.isfinite(beta) else 0.0

    def guess(self, seen: GradientProducts, slope: float, length: float, followed: bool) -> float:
        """The first trial along a direction of this slope g.d and length d.d.

        If the curvature is that of the last line, the minimum is at -slope / curvature.  This guess is taken if
        the last one came near the step that was accepted; else the trial is the step whose first-order change is that
        of the last step (Nocedal & Wright 3.5).
        """
        scalars = self.work.scalars
        t, before, last, known = (float(scalars[key]) for key in ("t", "slope", "length", "guess"))
        scalars["guess"][...] = 0.0
        if not t > 0.0 or not before < 0.0:
            return self.first_step()
        rise = seen.slope - before if followed else 0.0
        if rise > 0.0 and length > 0.0:
            scalars["guess"][...] = t * (-slope / rise) * (last / length)
        near = known > 0.0 and max(known / t, t / known) <= GUESS_TOLERANCE
        if near and (guess := float(scalars["guess"])) > 0.0:
            return guess
        growth = MOST_GROWTH * math.sqrt(last / length) if length > 0.0 else math.inf        # rounding may leave 0
        return min(before / slope, growth) * t

    def restart(self) -> bool:
        scalars = self.work.scalars
        had = int(scalars["since_restart"]) > 1
        scalars["since_restart"][...] = 0
        scalars["trial"][...] = 0.0              # the direction is to be discarded
        return had

    def vectors(self) -> dict[str, Vector]:
        found = super().vectors()
        return found or ({"direction": self.work.d} if float(self.work.scalars["trial"]) > 0.0 else {})

    def adopt(self, names: Iterable[str], states: StateMap) -> None:
        super().adopt(names, states)
        if not self.work.pending and "direction" in names:
            self.work.d = self.work.adopt("direction", states)


class ConjugateGradient(ClosureOptimizer):
    """Nonlinear conjugate gradients (Hager & Zhang 2006 is a survey).

        d = -g + beta * d                               x = x + t * d

    `beta`: "polak-ribiere+", "hestenes-stiefel" or "hager-zhang".  `line_search_fn`: "strong_wolfe" (c2 = 0.1),
    "hager_zhang" (c1 = 0.4, c2 = 0.1), "backtracking", or any function of `optimlite.line_search`.  The direction
    restarts at -g after `restart_every` iterations (None: six times the number of unknowns), and where it doesn't
    descend.

    `lr` scales the first trial step of the first iteration; later trials come from the step before.  Ratios of `lr`
    between groups scale the variables.  `max_eval` (None: 3 * max_iter), the other hyper-parameters, `result` and what
    `step(closure)` does are as in LBFGS.  The memory is 5 vectors.

    `h0`, `inner`, `comm`: as in LBFGS.    `bounds`: as in LBFGS; gradients and directions are projected onto the box,
    which takes one vector more.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr: scales the first trial step.
    max_iter, max_eval, tolerance_grad, tolerance_change, tolerance_loss, search_options, callback: as in LBFGS.
    beta, line_search_fn, restart_every: see above.    maximize: ascends.

    State: `n_iter`, `func_evals`, `t`, `slope`, `square`, `length`, `guess`, `trial`, `since_restart`, what tells that
    a run is done (`loss`, `best_loss`, `loss_scale`, `idle`), `direction`, `prev_grad`.
    Raises ValueError for hyper-parameters out of range, or that differ between groups.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.ConjugateGradient([w])
        >>> opt.step(lambda: ((w - 3) @ (w - 3), [2 * (w - 3)]))
        np.float64(29.0)
        >>> opt.result.converged, w.round(6)
        (True, array([3., 3.]))
    """

    method_class = ConjugateGradientMethod
    checks = {"lr": checks.nonnegative, **LIMITS, "beta": checks.one_of(*BETAS),
              "line_search_fn": search, "search_options": search_options, "restart_every": checks.optional_count,
              "maximize": checks.flag}
    scalars = {"n_iter": 0, "func_evals": 0, "t": 0.0, "slope": 0.0, "square": 0.0, "length": 0.0, "guess": 0.0,
               "since_restart": 0}
    later_scalars = {**SCALARS, "trial": 0.0}
    state_names: ClassVar[Any] = StateNames(*scalars, *later_scalars, "direction", "prev_grad")

    def __init__(self, params: Any, lr: float = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, beta: str = "polak-ribiere+",
                 line_search_fn: str | Callable[..., Found] = "strong_wolfe", restart_every: int | None = None, *,
                 tolerance_loss: float | None = None, search_options: Mapping[str, float] | None = None,
                 maximize: bool = False, bounds: Any = None, h0: Any = None, inner: Callable[..., Any] | None = None,
                 callback: Callable[[Result], Any] | None = None, comm: Any = None) -> None:
        super().__init__(params, dict(
            lr=lr, max_iter=max_iter, max_eval=max_eval, tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change, tolerance_loss=tolerance_loss, beta=beta, line_search_fn=line_search_fn,
            search_options=search_options, restart_every=restart_every, maximize=maximize),
            bounds, callback, h0, inner, comm=comm)
