"""`least_squares`: the shape of scipy.optimize.least_squares, on unknowns of any shape and nesting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...checks import checked, count, nonnegative, optional, positive, shown
from ..differences import check_workers
from ..optimize_result import Intermediate, takes_whole
from ..result import Stop
from ..unknowns import Unknowns, check_real, named
from .arguments import boxed, known_method, remembered, resumed, scales, size_of_history
from .jacobian import Jacobian
from .problem import Place, Problem, Tolerances
from .residuals import Residuals
from .result import LeastSquaresResult
from .robust_losses import Loss
from .trust_region import iterate


@checked
def least_squares(fun: Callable[..., Any], x0: Any = None, jac: Any = None, bounds: Any = None,
                  method: str | None = None, ftol: float | None = 1e-8, xtol: float | None = 1e-8,
                  gtol: float | None = 1e-8, x_scale: Any = None, loss: Any = "linear", f_scale: float = 1.0, *,
                  diff_step: Any = None, max_nfev: int | None = None, verbose: int = 0, args: Any = (),
                  kwargs: Mapping[str, Any] | None = None, callback: Callable[..., Any] | None = None,
                  state: Mapping[str, Any] | None = None, workers: Any = 1, history_size: int = 10,
                  ) -> LeastSquaresResult:
    """Minimizes a sum of squares, with scipy.optimize.least_squares' arguments and result.

        cost(x) = 1/2 sum f_i(x)²,    with a loss    1/2 f_scale² sum rho((f_i(x) / f_scale)²)

    fun: `fun(x, *args, **kwargs)` returns the residuals f: an array of any shape, or a nesting of arrays.
    x0: an array of any shape, or arrays in a dict, list or tuple, nested as you like; `fun`, `jac`, `callback`, bounds
        and result have the same nesting.  float32 stays float32, every other real type becomes float64.
    jac: a function like `fun` that returns the Jacobian: a matrix with a row for each residual and a column for each
        unknown, or such arrays in the nesting of x0; or, where no matrix fits into memory, an operator on vectors, with
        `matvec` and `rmatvec` or with `@` and `.T`.  A pair of functions (jvp, vjp): `jvp(x, v, *args)` is J v,
        `vjp(x, u, *args)` is J^T u.  "2-point" (None) or "3-point": finite differences.
    bounds: (low, high), each a number, an array or None, or an object with `lb` and `ub`; for "trust-region".
    method: "lm" (Levenberg-Marquardt; None without bounds), "trust-region" (None with bounds; also "trf", "dogbox"), or
        "gauss-newton", with steps shortened along their direction.
    ftol, xtol, gtol: it ends where a step changes the cost by less than ftol of it, where it is shorter than xtol times
        x, both scaled, or where max |g| <= gtol, over the unknowns that bounds don't stop.  None is never.
    x_scale: the sizes of the unknowns, numbers in any form that bounds have; "jac": from the Jacobian's columns, as
        "lm" does by itself.  None is 1 for "trust-region" and for operators.
    loss: "linear", "huber", "soft_l1", "cauchy", "arctan", or a function of z that returns rho(z) and its first two
        derivatives, three rows.    f_scale: the residual at which a loss begins to count less.
    diff_step: the steps of finite differences in parts of x.    max_nfev: of calls of `fun`; None: 100 an unknown.
    verbose: 1 prints how it ended, 2 each iteration.    args, kwargs: further arguments of `fun` and `jac`.
    callback: as in `minimize`; intermediate_result has x, fun, cost, nit, nfev and state.
    state: goes on where another run was, with the other arguments as they were there; x0 may be left out.
    workers: evaluates finite differences in so many threads, or by a function like `map`.
    history_size: of how many steps conjugate gradients remember the curvature, where `jac` is an operator; 0 saves
        memory.

    The result has scipy's fields and status, and `covariance()` for fits; docs/least_squares.md says more.  Raises
    ValueError or TypeError for what can't be used, and if a residual isn't finite at x0; later trials may be infinite.
    An exception of the user's functions has the `state` so far.

        >>> t = np.linspace(0, 2, 9)
        >>> fit = ol.least_squares(lambda b: b[0] * np.exp(-b[1] * t) - 3 * np.exp(-t / 2), [1, 1])
        >>> fit.success, fit.x.round(4)
        (True, array([3. , 0.5]))
    """
    if state is not None:
        x0, method = resumed(state, x0, method)
    elif x0 is None:
        raise TypeError("`x0` must be an array of numbers, got None")
    unknowns = Unknowns(x0)
    for path, array in unknowns.arrays.items():
        check_real(array, named("`x0`", path))
    residuals = Residuals(fun, args if isinstance(args, tuple) else (args,), kwargs or {}, unknowns)
    pairs, box = boxed(bounds, unknowns)
    name = known_method(method, box)
    check_workers(workers)
    limit = optional(count)("max_nfev", max_nfev)
    size = residuals.start().size
    given = {key: -1.0 if value is None else float(nonnegative(key, value))
             for key, value in (("ftol", ftol), ("xtol", xtol), ("gtol", gtol))}
    tolerances = Tolerances(max_nfev=100 * size if limit is None else limit, **given)
    jacobian = Jacobian(jac, residuals, pairs, workers, diff_step)
    problem = Problem(residuals, jacobian, Loss(loss, float(positive("f_scale", f_scale))), box,
                      scales(x_scale, name, unknowns), tolerances, size_of_history(history_size))
    x = residuals.start()
    place = problem.at = remembered(state or {}, x if box is None else box.clip(x))
    run = Run(name, problem, callback, verbose)
    try:
        return run.result(run.go(place))
    except BaseException as error:
        error.state = run.state()                # type: ignore[attr-defined]
        raise
    finally:
        jacobian.close()


class Unknown:
    """What is known of a model that isn't finite."""

    given = None

    def __init__(self, x: np.ndarray) -> None:
        self.gradient, self.free = np.full(x.shape, np.nan), np.ones(x.shape, bool)


class Run:
    """A run of one method, what it tells on the way, and its result."""

    def __init__(self, method: str, problem: Problem, callback: Callable[..., Any] | None, verbose: int) -> None:
        self.whole = callback is not None and takes_whole(callback)
        if verbose not in (0, 1, 2):
            raise ValueError(f"`verbose` must be 0, 1 or 2, got {shown(verbose)}")
        self.method, self.problem, self.callback, self.verbose = method, problem, callback, int(verbose)

    def go(self, place: Place) -> Stop:
        """Until one of the ends; a start that isn't finite is refused."""
        problem = self.problem
        first = problem.evaluate(place.x)
        if not math.isfinite(first.cost):
            bad = np.flatnonzero(~np.isfinite(first.r))
            came = f"got {first.r[bad[0]]} as the element {bad[0]}" if bad.size else "and their squares overflow"
            raise ValueError(f"`fun` must return finite residuals at `x0`, {came}")
        problem.at = place = first._replace(D=place.D, radius=place.radius, pairs=place.pairs)
        try:
            iterate(problem, place, self.method == "gauss-newton", self.tell)
        except Stop as stop:
            return stop
        raise AssertionError("an iteration ends by a Stop")

    def tell(self) -> bool:
        """The callback hears of an accepted point; whether it asked to stop."""
        place, residuals = self.problem.at, self.problem.residuals
        if self.verbose == 2:
            print(f"iteration {place.iterations}: cost {place.cost:.6g}, {residuals.count} evaluations")
        if self.callback is None:
            return False
        try:
            if self.whole:
                return bool(self.callback(intermediate_result=Intermediate(
                    self.state, x=residuals.nest(place.x), fun=residuals.folded(place.r.copy()), cost=place.cost,
                    nit=place.iterations, nfev=residuals.count)))
            return bool(self.callback(residuals.nest(place.x)))
        except StopIteration:
            return True

    def state(self) -> dict[str, Any]:
        """A nesting that `optimlite.save` takes."""
        place: Place = self.problem.at
        return {"x": self.problem.residuals.nest(place.x), "method": self.method, "radius": place.radius,
                "scale": None if place.D is None else np.array(place.D), "pairs": [list(pair) for pair in place.pairs]}

    def result(self, stop: Stop) -> LeastSquaresResult:
        problem, place = self.problem, self.problem.at
        residuals, jacobian, box = problem.residuals, problem.jacobian, problem.box
        model = problem.model
        if model is None or not np.array_equal(model.x, place.x):
            try:
                model = problem.linearize(place)
            except Stop as other:                # the Jacobian isn't finite
                stop, model = other, Unknown(place.x)
        active = np.zeros(place.x.size, int) if box is None else box.active(place.x)
        if jacobian.differences is not None and box is not None:
            model.gradient[box.low == box.high] = np.nan         # there was no room for a difference
        result = LeastSquaresResult(
            x=residuals.nest(place.x), cost=place.cost, fun=residuals.folded(place.r), jac=model.given,
            grad=residuals.nest(model.gradient.astype(place.x.dtype)), optimality=problem.optimality(model),
            active_mask=residuals.nest(active), nit=place.iterations, nfev=residuals.count, njev=jacobian.count,
            products=jacobian.products, status=stop.status, success=stop.status > 0, message=stop.reason)
        result["state"] = self.state()
        if self.verbose:
            print(f"{stop.reason}\n  cost {place.cost:.6g}, {place.iterations} iterations, {residuals.count} "
                  f"evaluations")
        return result
