"""`minimize_batch`: many small problems at once, by one function of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..checks import checked, flag, shown
from ..engine.parameter import Parameter
from .batch_lbfgs import Lockstep, Options
from .bounds import limits
from .columns import Array
from .lbfgs import LBFGS
from .line_search import SEARCHES
from .minimize import both
from .minimize import configured as minimizes
from .optimize_result import OptimizeResult
from .result import ASKED
from .scipy_options import translated
from .search_choice import search_options, suits
from .unknowns import REAL, check_real, elementwise, start


@checked
def minimize_batch(fun: Callable[..., Any], X0: Any, args: Any = (), *, bounds: Any = None,
                   tol: float | None = None, callback: Callable[..., Any] | None = None,
                   options: Mapping[str, Any] | None = None, whole: bool = False) -> OptimizeResult:
    """Minimizes many functions of a few unknowns each, side by side: L-BFGS on every row of X0.

        d = -H g,  H from each row's own pairs s, y                 x = x + t * d,  each row with a t of its own

    fun: `fun(X, *args)` returns the losses (r,) and the gradients (r, n) of the r rows of X, those that still run.
    X0: the starts, (k, n): a row a problem.  float32 stays float32, every other real type becomes float64.
    args: arrays with a row for each of the k problems; `fun` gets those rows of them that X has.  `np.arange(k)` tells
        which ones they are.  What all problems share, `fun` brings itself.
    bounds: a pair (low, high) of limits that broadcast to X0, n pairs for all rows, or an object with `lb` and `ub`.
    tol: `tolerance_loss` and `tolerance_grad`.
    callback: `callback(intermediate_result)` is called after each evaluation, with the fields x, fun, nit and running.
        True or StopIteration stops all problems, an array of k bools those where it is True.
    options: max_iter, max_eval, tolerance_grad, tolerance_change, tolerance_loss, history_size, lr, and search_options
        with c1 and c2; or scipy's names of them, maxiter, maxfun, gtol, ftol, maxcor, c1, c2.  Limits are for each row.
    whole: `fun` gets all k rows each time, those that have ended as they ended: for functions that are compiled for one
        shape.

    A row has the same bits alone and beside any others, provided that `fun` gives it the same: sums over its unknowns
    are made of elementwise operations.  (BLAS doesn't promise that: `X @ A` may round a row differently beside others.)
    Rows stop by the tests of `minimize`, with its defaults.  The search ends at the strong Wolfe conditions, within
    bounds at the weak ones.  A loss or gradient that isn't finite counts as infinitely high.

    The result has x (k, n), jac (k, n), and for each row fun, nit, nfev, njev, success, status and message.
    Raises ValueError for arrays that don't fit each other, and for options that a batch hasn't.

        >>> targets = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> def fun(X, b):
        ...     return ((X - b) ** 2).sum(axis=1), 2 * (X - b)
        >>> result = ol.minimize_batch(fun, np.zeros((3, 2)), args=(targets,))
        >>> result.success, abs(result.x - targets).max() < 1e-6
        (array([ True,  True,  True]), np.True_)
    """
    if not callable(fun):
        raise TypeError(f"`fun` must be a function, got {shown(fun)}")
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback` must be callable, got {shown(callback)}")
    x = start(X0, "")
    check_real(x, "`X0`")
    if x.ndim != 2:
        raise ValueError(f"`X0` must have two axes, a row for each problem, got shape {x.shape}")
    given = args if isinstance(args, tuple) else (args,)
    batch = Batch(fun, x, [per_problem(index, one, len(x)) for index, one in enumerate(given)], flag("whole", whole))
    batch.run(configured(options or {}, tol, x.dtype), box_of(bounds, x), callback)
    return batch.result()


def per_problem(index: int, given: Any, problems: int) -> Array:
    array = np.asarray(given)
    if array.ndim == 0 or len(array) != problems:
        raise ValueError(f"`args[{index}]` must have a row for each of {problems} problems, got shape {array.shape}; "
                         f"let `fun` take from outside what they share")
    return array


def configured(given: Mapping[str, Any], tol: float | None, dtype: Any) -> Options:
    ours, here = translated(given, "lbfgs")
    search = search_options("search_options", ours.pop("search_options", {})) or {}
    known = [name for name in Options._fields if name not in ("c1", "c2")]
    if others := [*here, *(key for key in ours if key not in known), *(set(search) - {"c1", "c2"})]:
        raise ValueError(f"`options` has `{others[0]}`, which batches don't take; they take {', '.join(known)}, and "
                         f"c1 and c2 of `search_options`")
    if search:
        suits(search, "nocedal_wright", SEARCHES)
    made = minimizes("lbfgs", dtype == np.float32, {"lr": 1.0, **ours}, tol)
    checked_values = {key: LBFGS.checks[key](key, made[key]) for key in known}
    return Options(**{**checked_values, "tolerance_loss": checked_values["tolerance_loss"] or 0.0},
                   c1=search.get("c1", 1e-4), c2=search.get("c2", 0.9))


def box_of(bounds: Any, x: Array) -> tuple[Array, Array] | None:
    """The limits of all unknowns, in float64 and a column a problem; what float32 can't hold is rounded inwards."""
    if bounds is None:
        return None
    if not (isinstance(bounds, tuple) and len(bounds) == 2) and not hasattr(bounds, "lb"):
        bounds = elementwise(bounds, "", x[0])
    elif hasattr(bounds, "lb"):
        bounds = bounds.lb, bounds.ub
    low, high = limits(bounds, Parameter(x), "X0")
    return np.ascontiguousarray(low.T, np.float64), np.ascontiguousarray(high.T, np.float64)


class Batch:
    """The user's function on rows, and the result of each problem so far."""

    def __init__(self, fun: Callable[..., Any], x: Array, args: list[Array], whole: bool) -> None:
        k = len(x)
        self.fun, self.args, self.whole = fun, args, whole
        self.x, self.jac, self.loss = x, np.full_like(x, np.nan), np.full(k, np.nan, x.dtype)
        self.iterations, self.evaluations, self.status = np.zeros(k, int), np.zeros(k, int), np.full(k, -1)
        self.messages = ["still running"] * k
        self.state: Lockstep
        self.rows, self.subset = np.arange(k), args      # the problems that `args` were last taken for
        self.outside = np.geterr()

    def run(self, options: Options, box: tuple[Array, Array] | None, callback: Callable[..., Any] | None) -> None:
        points = np.ascontiguousarray(self.x.T, np.float64)
        if box is not None:
            points = np.minimum(np.maximum(points, box[0]), box[1])
            self.x[...] = points.T
        if not self.x.size:
            self.messages = ["there is nothing to minimize"] * len(self.x)
            return
        with np.errstate(all="ignore"):
            self.state = Lockstep(points, self.x.dtype, box, options, self.evaluate, self.finish)
            self.state.start()
            while self.state.alive.any():
                self.state.round()
                if callback is not None:
                    self.call_back(callback)

    def evaluate(self, points: Array, rows: Array) -> tuple[Array, Array]:
        """The losses and gradients of these problems, as float64 and a column a problem."""
        x = np.array(points.T, self.x.dtype, order="C")           # a copy: `fun` may write to it, and keep it
        if self.whole:
            at = self.x.copy()
            at[rows] = x
            losses, gradients = self.call(at, self.args)
            losses, gradients = losses[rows], gradients[rows]
        else:
            if len(rows) < len(self.rows):
                self.rows, self.subset = rows, [array[rows] for array in self.args]
            losses, gradients = self.call(x, self.subset)
        return losses.astype(np.float64), np.array(gradients.T, np.float64, order="C")       # copies: both are ours

    def call(self, x: Array, args: list[Array]) -> tuple[Array, Array]:
        with np.errstate(**self.outside):
            losses, gradients = (np.asarray(one) for one in both(self.fun(x, *args)))
        for what, array, shape in (("losses", losses, x.shape[:1]), ("gradients", gradients, x.shape)):
            if array.dtype.kind not in REAL or array.shape != shape:
                raise ValueError(f"`fun` must return (losses, gradients), and {what} must be real numbers of shape "
                                 f"{shape}, got {array.dtype} of shape {array.shape}")
        return losses, gradients

    # What becomes of them --------------------------------------------------------------------------------------------

    def note(self, columns: Array) -> None:
        """Stores where these problems are now."""
        state = self.state
        rows = state.all_rows[columns]
        self.x[rows], self.jac[rows] = state.x[:, columns].T, state.g[:, columns].T
        self.loss[rows] = state.loss[columns]
        self.iterations[rows], self.evaluations[rows] = state.iterations[columns], state.evaluations[columns]

    def finish(self, columns: Array, status: int, reasons: list[str]) -> None:
        self.note(columns)
        rows = self.state.all_rows[columns]
        self.status[rows] = status
        for row, reason in zip(rows, reasons, strict=True):
            self.messages[row] = reason

    def call_back(self, callback: Callable[..., Any]) -> None:
        state = self.state
        self.note(np.flatnonzero(state.alive))
        running = np.zeros(len(self.x), bool)
        running[state.rows] = True
        try:
            asked = callback(OptimizeResult(x=self.x.copy(), fun=self.loss.copy(), nit=self.iterations.copy(),
                                            running=running))
        except StopIteration:
            asked = True
        if isinstance(asked, (bool, np.bool_, np.ndarray)) and np.any(asked):
            state.alive &= ~state.end(np.broadcast_to(asked, len(self.x))[state.all_rows] & state.alive, ASKED,
                                      lambda _: "the callback asked to stop")

    def result(self) -> OptimizeResult:
        return OptimizeResult(x=self.x, fun=self.loss, jac=self.jac, nit=self.iterations, nfev=self.evaluations,
                              njev=self.evaluations.copy(), success=self.status == 0, status=self.status,
                              message=self.messages)
