"""`minimize`: the shape of scipy.optimize.minimize, on arrays of any shape and in their own float type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._check import resembles, shown
from .conjugate_gradient import ConjugateGradient
from .lbfgs import LBFGS

# scipy's option: ours
SCIPY = {"maxiter": "max_iter", "maxfun": "max_eval", "gtol": "tolerance_grad", "maxcor": "history_size",
         "xtol": "tolerance_change"}
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {"lbfgs": (LBFGS, {"history_size": 10}), "cg": (ConjugateGradient, {})}


class OptimizeResult(dict[str, Any]):
    """A dict whose items are attributes too: x, fun, jac, nit, nfev, njev, success, status and message, as in scipy."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the result has no `{name}`; it has {', '.join(self)}") from None

    def __dir__(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{key:>{width}}: {value!r}" for key, value in self.items())


def minimize(fun: Callable[..., Any], x0: Any, args: tuple[Any, ...] = (), method: str = "lbfgs", jac: Any = True, *,
             bounds: Any = None, tol: float | None = None, callback: Callable[..., Any] | None = None,
             options: Mapping[str, Any] | None = None) -> OptimizeResult:
    """Minimizes a function of one array by "lbfgs" or "cg", with scipy.optimize.minimize's arguments and result.

    `fun(x, *args)` returns (loss, gradient), or the loss alone if `jac(x, *args)` returns the gradient.  `x0`: an array
    of any shape; float32 stays float32 throughout, everything else becomes float64.  It isn't changed, and `fun` gets
    one and the same array each time, to be read only.  `bounds`: a pair (low, high), a list of such pairs, one an
    element, or an object with `lb` and `ub`; only for "lbfgs".  `tol` is `tolerance_grad` (1e-5).  `callback(x)` is
    called after each iteration with a copy; `callback(intermediate_result)`, by this name, gets x and fun as scipy's
    does; True or StopIteration stops.

    The line search is "nocedal_wright", and "hager_zhang" for float32; the history has 10 pairs.  `options`: those of
    LBFGS and ConjugateGradient, and scipy's maxiter, maxfun, gtol, maxcor, xtol.  `max_iter` is 15,000 and `max_eval`
    10 times as much unless given.  A run that doesn't converge isn't an error: see `success` and `message`.
    """
    if not (isinstance(method, str) and method in METHODS):
        raise ValueError(f"`method` must be one of {', '.join(map(repr, METHODS))}, got {shown(method)}")
    if jac is not True and not callable(jac):
        raise TypeError(f"`jac` must be True (fun returns loss and gradient) or a function, got {shown(jac)}; "
                        f"gradients aren't approximated here")
    make, defaults = METHODS[method]
    x = np.array(x0, dtype=np.float32 if getattr(x0, "dtype", None) == np.float32 else np.float64)
    view = x.view()
    view.flags.writeable = False
    # float32 losses soon don't resolve the decrease any more; slopes do
    search = "hager_zhang" if x.dtype == np.float32 else "nocedal_wright"
    given = {**defaults, "line_search_fn": search, "max_iter": 15_000, "tolerance_grad": 1e-5 if tol is None else tol,
             "tolerance_change": 0.0, **translated(options or {}, make)}
    given.setdefault("max_eval", 10 * given["max_iter"])
    if bounds is not None:
        if method != "lbfgs":
            raise ValueError(f"`bounds` need method='lbfgs', got method={shown(method)}")
        given["bounds"] = [elementwise(bounds, x)]

    def closure() -> tuple[Any, list[np.ndarray]]:
        loss, gradient = fun(view, *args) if jac is True else (fun(view, *args), jac(view, *args))
        return loss, [np.asarray(gradient, dtype=x.dtype).reshape(x.shape)]

    if callback is not None:
        given["callback"] = caller(callback, x)
    optimizer = make([x], **given)
    optimizer.step(closure)
    result = optimizer.result
    gradient = -optimizer._work.g.arrays[0] if given.get("maximize") else optimizer._work.g.arrays[0]
    return OptimizeResult(
        x=x, fun=result.loss, jac=gradient, nit=result.iterations, nfev=result.evaluations, njev=result.evaluations,
        success=result.converged, status=0 if result.converged else 1, message=result.reason)


def translated(options: Mapping[str, Any], make: Any) -> dict[str, Any]:
    """Options by our names; an unknown one raises."""
    known = [*make.checks, "callback"]
    result = {}
    for key, value in options.items():
        name = SCIPY.get(key, key)
        if name not in known:
            meant = resembles(key, [*known, *SCIPY])
            raise ValueError(f"`options` has no `{key}`; " + (f"did you mean `{meant}`?" if meant
                                                              else f"it has {', '.join(known)}"))
        result[name] = value
    return result


def elementwise(bounds: Any, x: np.ndarray) -> tuple[Any, Any]:
    """Bounds as two arrays of x's shape, or two numbers."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        low, high = (np.broadcast_to(np.ravel(limit), x.size).reshape(x.shape) for limit in (bounds.lb, bounds.ub))
        return low, high
    if isinstance(bounds, tuple) and len(bounds) == 2 and not any(isinstance(b, (tuple, list)) for b in bounds):
        return bounds
    if not isinstance(bounds, Sequence) or len(bounds) != x.size:
        raise ValueError(f"`bounds` must be a pair, or one pair for each of {x.size} elements, got {bounds!r:.80}")
    low, high = zip(*[(-np.inf if a is None else a, np.inf if b is None else b) for a, b in bounds], strict=True)
    return np.array(low, x.dtype).reshape(x.shape), np.array(high, x.dtype).reshape(x.shape)


def caller(callback: Callable[..., Any], x: np.ndarray) -> Callable[[Any], Any]:
    """Called with our result; calls with what the user's function asks for."""
    try:
        whole = list(inspect.signature(callback).parameters) == ["intermediate_result"]
    except (TypeError, ValueError):              # built-in functions have no signature
        whole = False
    if whole:
        return lambda result: callback(intermediate_result=OptimizeResult(x=x.copy(), fun=result.loss))
    return lambda result: callback(x.copy())
