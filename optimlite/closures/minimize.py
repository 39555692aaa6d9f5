"""`minimize`: the shape of scipy.optimize.minimize, on arrays of any shape and nesting, in their own float types."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..checks import checked, shown
from .descent import real_loss
from .differences import SCHEMES, Differences, Function, check_workers
from .hessians import Hessian
from .optimize_result import Intermediate, InverseHessian, OptimizeResult, check_state, takes_whole
from .scipy_options import FTOL, GTOL, METHODS, known_method, translated
from .unknowns import Unknowns, limits_of

STATE = {"x", "method", "options", "bounds", "optimizer"}


@checked
def minimize(fun: Callable[..., Any], x0: Any = None, args: Any = (), method: str | None = None, jac: Any = None, *,
             bounds: Any = None, tol: float | None = None, callback: Callable[..., Any] | None = None,
             options: Mapping[str, Any] | None = None, state: Mapping[str, Any] | None = None, workers: Any = 1,
             h0: Any = None, inner: Callable[..., Any] | None = None, hess: Any = None, hessp: Any = None,
             constraints: Any = (), comm: Any = None) -> OptimizeResult:
    """Minimizes a function of arrays by "lbfgs", "cg" or "newton-cg", as scipy.optimize.minimize is called.

    fun: `fun(x, *args)` returns the loss, and the gradient with it if `jac` is True.
    x0: an array of any shape, or arrays in a dict, list or tuple, nested as you like; `fun`, `jac`, `callback`, the
        bounds and the result have the same nesting.  float32 and complex64 stay so throughout, every other type becomes
        float64 or complex128.  x0 isn't changed, and `fun` gets the same arrays each time, to be read only.
    args: further arguments of `fun` and `jac`; a tuple, or the only one.
    method: "lbfgs" (None), "cg" or "newton-cg"; scipy's "L-BFGS-B", "CG", "Newton-CG" and "trust-ncg" mean these.
    jac: True if `fun` returns (loss, gradient); a function that returns the gradient; "2-point" or "3-point" (False)
        for finite differences, which take one or two evaluations for each unknown.  None: as `fun` returns it, by
        "2-point" differences if it returns the loss alone.
    bounds: a pair (low, high), one such pair for each element (a list, an iterator or an array of two columns), an
        object with `lb` and `ub`, or a nesting of these.
    tol: `tolerance_loss` and `tolerance_grad`.
    callback: `callback(x)` is called after each iteration with a copy; `callback(intermediate_result)`, by this name,
        gets x, fun and state; True or StopIteration stops.
    options: those of LBFGS (`l1` in the nesting of x0), ConjugateGradient and NewtonCG, and scipy's maxiter, maxfun,
        gtol, ftol, maxcor, maxls, c1, c2, eps, finite_diff_rel_step, initial_trust_radius, disp.
    state: goes on where another run was: `result.state`, or the state that a callback or an exception had.  x0,
        method, bounds and options are its own unless given.
    workers: evaluates finite differences in so many threads (-1: as many as CPUs), or by a function like `map`.
    h0: an approximate inverse Hessian to begin with: positive numbers or arrays in the nesting of x0, or a function
        that multiplies such a nesting by it, called in each iteration.
    inner: `inner(u, v)`, the inner product of two such nestings, of which the gradients are the representers.
    hessp, hess: of "newton-cg", `hessp(x, v, *args)` returns the Hessian times v, in the nesting of x, or
        `hess(x, *args)` a matrix, for one array of unknowns; None: differences of gradients.  The others warn.
    constraints: scipy's; those that aren't empty raise.
    comm: a communicator of mpi4py, whose ranks have different unknowns: `fun` returns this rank's part of the loss, and
        the gradient by its own x0; `jac` is True or a function.  `fun` of the result is of all ranks.

    The line search is "nocedal_wright", and "hager_zhang" for float32; the history has 10 pairs.  It stops at max |g|
    <= 1e-5, for "lbfgs" in float64 at a relative decrease of the loss by 2.2e-9, and where 20 evaluations brought no
    lower loss.  `max_iter` is 15,000 and `max_eval` 10 times as much unless given.  The result has scipy's fields (x
    in the nesting of x0, fun, jac, nit, nfev, success, status, message and others) and `state`.  A run that doesn't
    converge isn't an error: see `success` and `message`.  Raises TypeError for an `x0` that isn't of numbers and for a
    `fun` that returns neither a loss nor (loss, gradient), and ValueError for methods and options that aren't there,
    for bounds that don't fit x0, for constraints, and for gradients of another shape.  An exception of the user's
    functions has the `state` so far.

        >>> result = ol.minimize(lambda x: (((x - 3) ** 2).sum(), 2 * (x - 3)), np.zeros(2))
        >>> result.success, result.x.round(6)
        (True, array([3., 3.]))
    """
    if state is not None:
        x0, method, bounds, options = resumed(state, x0, method, bounds, options)
    elif x0 is None:
        raise TypeError("`x0` must be an array of numbers, got None")
    name = known_method(method)
    unused(name, hess, hessp, constraints)
    unknowns = Unknowns(x0)
    ours, here = translated(options or {}, name)
    if "l1" in ours:
        ours["l1"] = nested_numbers("l1", ours["l1"], unknowns)
    pairs = None if bounds is None else limits_of(bounds, unknowns)
    model = Model(fun, args if isinstance(args, tuple) else (args,), jac, unknowns, pairs,
                  here.get("workers", workers), here)
    newton = name == "newton-cg"
    if comm is not None and newton:
        raise ValueError("`comm` is for methods 'lbfgs' and 'cg', got 'newton-cg'")
    if comm is not None and not (jac is True or callable(jac)):
        raise ValueError(f"`jac` must be True or a function with `comm`: a difference of one rank's unknowns tells of "
                         f"its own part of the loss alone; got {shown(jac)}")
    hessian = Hessian(hess, hessp, unknowns, model.args) if newton else None
    products = {"h0": nested_h0(h0, unknowns), "inner": nested_inner(inner, unknowns), "comm": comm,
                "hessp": hessian.products if hessian else None}
    single = all(array.real.dtype == np.float32 for array in unknowns.arrays.values())
    made = configured(name, single, ours, tol) | {key: value for key, value in products.items() if value is not None}
    run = Run(name, unknowns, pairs, made, options or {}, model)
    called = None if callback is None else caller(callback, unknowns, run)
    try:
        run.begin(called, None if state is None else state["optimizer"])
        run.optimizer.step(model.closure)
    except BaseException as error:
        error.state = run.state()                # type: ignore[attr-defined]
        raise
    finally:
        model.close()
        if run.optimizer is not None:
            run.optimizer.callback = None        # which refers to the run
    result = run.result()
    if hessian:
        result["nhev"] = hessian.calls
    if here.get("disp"):
        print(f"{result.message}\n  loss {result.fun:.6g}, {result.nit} iterations, {result.nfev} evaluations")
    return result


def unused(method: str, hess: Any, hessp: Any, constraints: Any) -> None:
    if not (constraints is None or (isinstance(constraints, (tuple, list, dict)) and not constraints)):
        raise ValueError("`constraints` must be empty: only bounds are kept here; scipy has methods with constraints")
    if method != "newton-cg" and (hess is not None or hessp is not None):
        warnings.warn(f"Method {method} does not use Hessian information (`hess`, `hessp`)", RuntimeWarning,
                      stacklevel=4)


def configured(method: str, single: bool, given: Mapping[str, Any], tol: float | None) -> dict[str, Any]:
    """The options of the optimizer; `single`: in float32 alone."""
    tolerance_loss = 0.0 if single or method != "lbfgs" else FTOL if tol is None else tol
    made = {**METHODS[method][1],
            # float32 losses soon don't resolve the decrease any more; slopes do
            "line_search_fn": "hager_zhang" if single else "nocedal_wright", "max_iter": 15_000,
            "tolerance_grad": GTOL if tol is None else tol, "tolerance_change": 0.0,
            "tolerance_loss": tolerance_loss, **given}
    made.setdefault("max_eval", 10 * int(made["max_iter"]))
    return made


class Run:
    """The optimizer of a run, and its state as a nesting that `optimlite.save` takes."""

    def __init__(self, method: str, unknowns: Unknowns, pairs: Any, made: dict[str, Any], options: Mapping[str, Any],
                 model: Model) -> None:
        self.method, self.unknowns, self.pairs, self.options, self.model = method, unknowns, pairs, options, model
        self.made = made if pairs is None else {**made, "bounds": list(pairs)}
        self.limited = bool({"maxfun", "max_eval"} & set(options))
        self.optimizer: Any = None
        self.interrupted = False                 # by the callback's StopIteration

    def begin(self, callback: Callable[..., Any] | None, saved: Mapping[Any, Any] | None) -> None:
        """Makes the optimizer, and looks at what `fun` returns at the start, within the bounds."""
        arrays = self.unknowns.arrays
        self.optimizer = METHODS[self.method][0](list(arrays.values()) if self.unknowns.single else arrays,
                                                 callback=callback, **self.made)
        for parameter, (low, high) in self.optimizer.bounds.arrays.items() if self.optimizer.bounds else ():
            np.clip(parameter.data, low, high, out=parameter.data)
        self.model.probe()
        if self.model.differences is not None and self.method == "newton-cg" and "hessp" not in self.made:
            raise ValueError("method 'newton-cg' needs gradients, got a loss alone; let `fun` return (loss, gradient), "
                             "give `jac`, or use 'lbfgs'")
        group = self.optimizer.param_groups[0]
        if self.limited and self.model.differences is not None:
            group["max_eval"] = max(1, group["max_eval"] // (1 + self.model.differences.each))
        if saved is not None:
            groups = self.optimizer.state_dict(copy=False)["param_groups"]
            self.optimizer.load_state_dict({"state": saved, "param_groups": groups})

    def state(self, copy: bool = False) -> dict[str, Any]:
        plain = {key: value for key, value in self.options.items() if not callable(value)}
        return {"x": self.unknowns.copies(), "method": self.method, "options": plain,
                "bounds": None if self.pairs is None else [None if pair is None else list(pair) for pair in self.pairs],
                "optimizer": self.optimizer.state_dict(copy=copy)["state"] if self.optimizer is not None else {}}

    def result(self) -> OptimizeResult:
        found, method = self.optimizer.result, self.optimizer._method
        gradients = [np.asarray(-g) if self.made.get("maximize") else g for g in method.work.g.arrays]
        for gradient, fixed in zip(gradients, method.space.fixed, strict=True):
            if fixed is not None and self.model.differences is not None:
                gradient[fixed] = np.nan         # there was no room for a difference
        result = OptimizeResult(
            x=self.unknowns.nest(list(self.unknowns.arrays.values())), fun=found.loss,
            jac=self.unknowns.nest(gradients), nit=found.iterations, nfev=self.model.evaluations,
            njev=found.evaluations, success=found.converged, status=found.status,
            message="`callback` raised `StopIteration`" if self.interrupted else found.reason)
        if self.method == "lbfgs" and self.optimizer.comm is None:
            size = method.space.size
            result["hess_inv"] = InverseHessian(method.pairs(), size)
        result["state"] = self.state()
        return result


def resumed(state: Any, x0: Any, method: Any, bounds: Any, options: Any) -> tuple[Any, Any, Any, Any]:
    """The unknowns, method, bounds and options to go on with: the state's, where nothing was given beside it."""
    check_state(state, STATE, None if method is None else known_method(method), method)
    pairs = state["bounds"]
    if bounds is None and pairs is not None:
        pairs = [None if pair is None else tuple(pair) for pair in pairs]
        bounds = Unknowns(state["x"]).nest(pairs)
    return (state["x"] if x0 is None else x0, state["method"], bounds, {**state["options"], **(options or {})})


# What is evaluated ---------------------------------------------------------------------------------------------------

class Model:
    """The closure over the user's functions, and the count of `fun`'s calls."""

    def __init__(self, fun: Any, args: tuple[Any, ...], jac: Any, unknowns: Unknowns, pairs: Any, workers: Any,
                 options: Mapping[str, Any]) -> None:
        if not callable(fun):
            raise TypeError(f"`fun` must be a function, got {shown(fun)}")
        known = jac is None or isinstance(jac, (bool, np.bool_)) or callable(jac)
        if not known and not (isinstance(jac, str) and jac in SCHEMES):
            raise TypeError(f"`jac` must be True (fun returns loss and gradient), a function, None, False, '2-point' "
                            f"or '3-point', got {shown(jac)}")
        self.fun, self.args, self.unknowns, self.calls = fun, args, unknowns, 0
        self.jac = "2-point" if jac is not None and not callable(jac) and not isinstance(jac, str) and not jac else jac
        self.beside = pairs, workers, options.get("eps"), options.get("finite_diff_rel_step")
        self.differences: Differences | None = None
        self.first: list[Any] = []               # what `fun` returned when it was probed
        check_workers(workers)

    @property
    def evaluations(self) -> int:
        return self.calls + (self.differences.evaluations if self.differences else 0)

    def close(self) -> None:
        if self.differences is not None:
            self.differences.close()

    def probe(self) -> None:
        """The first call decides whether there is a gradient, if nothing was said."""
        if self.jac is None:
            self.first.append(self.call())
            returned = self.first[0]
            alone = not isinstance(returned, (tuple, list)) and returned is not None and np.size(returned) == 1
            self.jac = "2-point" if alone else True
        if isinstance(self.jac, str):
            self.differences = Differences(Function(self.fun, self.args), self.unknowns, self.jac, *self.beside)

    def call(self) -> Any:
        self.calls += 1
        return self.fun(self.unknowns.seen, *self.args)

    def closure(self) -> tuple[Any, Any]:
        returned = self.first.pop() if self.first else self.call()
        if self.differences is not None:
            return returned, self.assigned(self.unknowns.nest(self.differences(real_loss(returned))))
        loss, gradient = (returned, self.jac(self.unknowns.seen, *self.args)) if callable(self.jac) else both(returned)
        return loss, self.assigned(gradient)

    def assigned(self, gradient: Any) -> list[np.ndarray] | dict[str, np.ndarray]:
        gradients = self.unknowns.gradients(gradient)
        return gradients if self.unknowns.single else dict(zip(self.unknowns.arrays, gradients, strict=True))


def both(returned: Any) -> Any:
    """(loss, gradient), as `fun` must return it."""
    if isinstance(returned, (tuple, list)) and len(returned) == 2:
        return returned
    came = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else shown(returned)
    raise TypeError(f"`fun` must return (loss, gradient), got {came}; give a function of the gradient as `jac`, or "
                    f"jac='2-point' for finite differences")


def nested_h0(h0: Any, unknowns: Unknowns) -> Any:
    """H0 of lists of arrays, as the optimizer takes it."""
    if callable(h0):
        return lambda arrays: listed("the result of `h0`", h0(unknowns.nest(arrays)), unknowns)
    return nested_numbers("h0", h0, unknowns)


def nested_numbers(name: str, given: Any, unknowns: Unknowns) -> Any:
    """A number for all unknowns, or a list with numbers or an array for each."""
    return given if given is None or np.isscalar(given) else listed(f"`{name}`", given, unknowns)


def nested_inner(inner: Callable[..., Any] | None, unknowns: Unknowns) -> Any:
    if inner is None or not callable(inner):
        return inner
    return lambda u, v: inner(unknowns.nest(u), unknowns.nest(v))


def listed(what: str, nesting: Any, unknowns: Unknowns) -> list[Any]:
    return [nesting] if unknowns.single else unknowns.matched(what, nesting)


def caller(callback: Callable[..., Any], unknowns: Unknowns, run: Run) -> Callable[[Any], Any]:
    """Makes of a user's callback a function of our result: it gets what it asks for."""
    whole = takes_whole(callback)

    def call(result: Any) -> Any:
        try:
            if whole:
                return callback(intermediate_result=Intermediate(
                    lambda: run.state(copy=True), x=unknowns.copies(), fun=result.loss))
            return callback(unknowns.copies())
        except StopIteration:
            run.interrupted = True
            return True

    return call
