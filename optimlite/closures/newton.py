"""Newton's method by truncated conjugate gradients, with products of the Hessian, or gradients to take them from.

The trust region and the line search work together (Nocedal & Yuan 1998): a step that doesn't descend is shortened along
its direction, which costs no new products, and the region of the next one takes its size from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from .. import checks
from ..checks import shown
from ..engine.state import StateMap
from .closure_optimizer import LIMITS, Closure, ClosureOptimizer
from .descent import Descent
from .lbfgs import BOX_SEARCHES
from .line import LinePosition
from .line_search import SEARCHES, Found
from .method import Direction, Method, Search
from .preconditioner import applied
from .progress import SCALARS
from .result import Result
from .search_choice import search, search_options
from .truncated_cg import Multiply, TruncatedCG
from .vectors import GradientProducts, Vector
from .workspace import StateNames, Workspace

UNLIMITED = 1 << 62              # evaluations, where `max_eval` is None
FORCING = 0.2                    # the longest residual that a step may leave, in parts of the gradient


class NewtonMethod(Method):
    """d = the minimum of the quadratic model within the trust region, by truncated conjugate gradients."""

    def __init__(self, work: Workspace) -> None:
        super().__init__(work)
        self.multiply: Multiply = no_products
        self.cg = TruncatedCG(work)
        self.steepest = False                    # after a search that failed

    @staticmethod
    def searches(bounded: bool) -> Mapping[str, Search]:
        return BOX_SEARCHES if bounded else SEARCHES

    def evaluations(self, max_iter: int) -> int:
        return UNLIMITED

    def direction(self, seen: GradientProducts, position: LinePosition) -> Direction:
        work, space, scalars = self.work, self.space, self.work.scalars
        self.adjust()
        g, before = work.descent, float(scalars["norm_before"])
        norm = space.norm(g)
        found = self.cg.solve(work.d, g, self.radius, min(FORCING, norm / before) if before > 0.0 else FORCING,
                              no_products if self.steepest else self.within_bounds, self.h0)
        if work.box is None:
            largest = space.linear_combination(work.d, work.d, 1.0)[1]
            slope = space.gram(g, g, [work.d])[0][0]
        else:
            slope, largest = space.project_direction(work.d, work.g, work.box)
        # Nothing is called from here: an interrupt finds what is known of this direction, or makes it again.
        for key, value in (("norm", norm), ("slope", slope), ("predicted", found.predicted),
                           ("length", found.length), ("cut", float(found.cut)), ("from_loss", scalars["loss"])):
            scalars[key][...] = value
        return Direction(slope, largest, 1.0)

    def radius(self, natural: float) -> float:
        """The size of the region; at first `lr`, in units of the preconditioned step if there is an H0."""
        scalars = self.work.scalars
        if not scalars["radius"] > 0.0:
            scalars["radius"][...] = float(self.options["lr"]) * (1.0 if self.h0 is None else natural)
        return float(scalars["radius"])

    def within_bounds(self, out: Vector, v: Vector) -> bool:
        """out = H v, in the variables that no bound stops."""
        known = self.multiply(out, v)
        if self.work.box is not None:
            self.space.project_previous(out, self.work.g, self.work.box)
        return known

    def adjust(self) -> None:
        """The size of the region after a step, by the decrease that the model promised and the one that came."""
        scalars = self.work.scalars
        t, slope, predicted, length, radius, norm, before, loss = (float(scalars[key]) for key in (
            "t", "slope", "predicted", "length", "radius", "norm", "from_loss", "loss"))
        if not (t > 0.0 and length > 0.0):
            return
        promised, fall = t * t * (slope + predicted) - t * slope, before - loss
        if t < 1.0:
            radius = t * length
        elif abs(fall) > 4.0 * self.space.eps * abs(loss):       # else rounding is all there is to see
            if fall < 0.25 * promised:
                radius = 0.5 * length
            elif t > 1.0:
                radius = max(radius, 2.0 * t * length)
            elif scalars["cut"] and fall > 0.75 * promised:
                radius = max(radius, 2.0 * length)
        self.steepest = False
        # Nothing is called in between.
        for key, value in (("radius", radius), ("norm_before", norm), ("t", 0.0)):
            scalars[key][...] = value

    def restart(self) -> bool:
        had, self.steepest = not self.steepest, True
        return had

    def vectors(self) -> dict[str, Vector]:
        return {}                                # each direction is made anew

    def adopt(self, names: Iterable[str], states: StateMap) -> None:
        pass

    def settle(self, away: bool) -> None:
        self.multiply = no_products              # the run's, which refers to this method


def no_products(out: Vector, v: Vector) -> bool:
    return False


class GradientDifferences:
    """H v by one more gradient, at a small step along v: counts as an evaluation, and tells nothing of the loss."""

    def __init__(self, descent: Descent) -> None:
        self.descent, self.work, self.space = descent, descent.work, descent.space

    def __call__(self, out: Vector, v: Vector) -> bool:
        descent, work, space = self.descent, self.work, self.space
        if descent.evaluations_left <= 1:        # the step itself needs one
            return False
        step = math.sqrt(space.eps) * (1.0 + space.norm(space.x)) / space.norm(v)
        space.save(work.x)
        descent.position.before = space.kernels_finished
        space.move(work.x, step, v, work.box)
        descent.result.evaluations += 1
        work.scalars["func_evals"] += 1
        descent.model()
        seen = space.read_gradient(out, v)
        descent.position.back()
        space.linear_combination(out, out, 1.0 / step, [work.g], [-1.0 / step])
        return math.isfinite(seen.largest)


class NewtonCG(ClosureOptimizer):
    """Newton's method with conjugate gradients inside, within a trust region (Steihaug 1983, Nocedal & Yuan 1998).

        d = argmin g.d + d.Hd / 2  within |d| <= radius,  by a few products with H         x = x + t * d

    `hessp(v)`: the products of the Hessian at the present parameters with a list of arrays, one for each parameter, as
    such a list.  None: differences of gradients, an evaluation for each product.  Products end where the residual g +
    Hd is min(0.2, |g| / |the last g|) times as long as g, at the edge of the region, or where the curvature isn't
    positive, which is followed to the edge.  `line_search_fn` decides how far to go along d, beginning with t = 1; the
    region shrinks to where that had to be shortened, and grows where the model was right at its edge.

    `lr` is the radius of the first region (with `h0`: in units of the step H0 g).  `h0` preconditions the conjugate
    gradients.  `max_eval` (None: no limit) counts the gradients of differences, too.  The other hyper-parameters,
    `bounds`, `inner`, `result` and what `step(closure)` does are as in LBFGS.  The memory is 6 vectors, 7 with `h0`.

    params: the arrays or Parameters to update, in any nesting, or a list of groups (see Optimizer).
    lr, hessp, line_search_fn, h0: see above.
    max_iter, max_eval, tolerance_grad, tolerance_change, tolerance_loss, search_options, callback, bounds, inner: as in
    LBFGS.    maximize: ascends.

    State: `n_iter`, `func_evals`, `t`, `radius`, what is known of the last step (`slope`, `predicted`, `length`, `cut`,
    `from_loss`, `norm`, `norm_before`), and what tells that a run is done (`loss`, `best_loss`, `loss_scale`, `idle`).
    Raises ValueError for hyper-parameters out of range, or that differ between groups.

        >>> w = np.array([1.0, -2.0])
        >>> opt = ol.NewtonCG([w], hessp=lambda v: [2 * v[0]])
        >>> opt.step(lambda: ((w - 3) @ (w - 3), [2 * (w - 3)]))
        np.float64(29.0)
        >>> opt.result.converged, w.round(6)
        (True, array([3., 3.]))
    """

    method_class = NewtonMethod
    checks = {"lr": checks.positive, **LIMITS, "line_search_fn": search, "search_options": search_options,
              "maximize": checks.flag}
    scalars = {"n_iter": 0, "func_evals": 0, "t": 0.0, "radius": 0.0, "slope": 0.0, "predicted": 0.0, "length": 0.0,
               "cut": 0.0, "from_loss": math.nan, "norm": 0.0, "norm_before": 0.0}
    later_scalars = SCALARS
    state_names: ClassVar[Any] = StateNames(*scalars, *later_scalars)

    def __init__(self, params: Any, lr: float = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9,
                 line_search_fn: str | Callable[..., Found] = "strong_wolfe", *,
                 hessp: Callable[..., Any] | None = None, tolerance_loss: float | None = None,
                 search_options: Mapping[str, float] | None = None, maximize: bool = False, bounds: Any = None,
                 h0: Any = None, inner: Callable[..., Any] | None = None,
                 callback: Callable[[Result], Any] | None = None) -> None:
        if hessp is not None and not callable(hessp):
            raise TypeError(f"`hessp` must be a function of a list of arrays, got {shown(hessp)}")
        super().__init__(params, dict(
            lr=lr, max_iter=max_iter, max_eval=max_eval, tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change, tolerance_loss=tolerance_loss, line_search_fn=line_search_fn,
            search_options=search_options, maximize=maximize), bounds, callback, h0, inner)
        self.hessp = hessp

    def _descent(self, closure: Closure) -> Descent:
        if self.hessp is not None and len({group["lr"] for group in self.param_groups}) > 1:
            raise ValueError("`hessp` needs the same `lr` in all groups, whose ratios are a scaling of their own")
        descent = super()._descent(closure)
        method = descent.method
        assert isinstance(method, NewtonMethod)
        method.multiply = GradientDifferences(descent) if self.hessp is None else self._products(self.hessp, descent)
        return descent

    def _products(self, hessp: Callable[..., Any], descent: Descent) -> Multiply:
        apply, space, sign = applied(hessp, "hessp", self._names()), descent.space, descent.sign

        def multiply(out: Vector, v: Vector) -> bool:
            apply(out, v)
            return math.isfinite(space.linear_combination(out, out, sign)[1])

        return multiply
