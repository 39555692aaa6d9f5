"""`minimize`: the shape of scipy.optimize.minimize, on arrays of any shape and in their own float type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..checks import checked, resembles, shown
from .conjugate_gradient import ConjugateGradient
from .lbfgs import LBFGS

# scipy's option: ours
SCIPY = {"maxiter": "max_iter", "maxfun": "max_eval", "gtol": "tolerance_grad", "maxcor": "history_size",
         "xtol": "tolerance_change", "ftol": "tolerance_loss"}
# scipy's options that have no counterpart: what to do instead
WITHOUT = {"disp": "print in a `callback`, or print the result", "iprint": "print in a `callback`",
           "maxls": "a line search ends by itself; `max_eval` limits all evaluations",
           "eps": "gradients aren't approximated here", "finite_diff_rel_step": "gradients aren't approximated here",
           "norm": "gradients are measured by max |g|", "return_all": "keep each x in a `callback`"}
FTOL = 2.220446049250313e-9      # scipy's
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


@checked
def minimize(fun: Callable[..., Any], x0: Any, args: tuple[Any, ...] = (), method: str = "lbfgs", jac: Any = True, *,
             bounds: Any = None, tol: float | None = None, callback: Callable[..., Any] | None = None,
             options: Mapping[str, Any] | None = None) -> OptimizeResult:
    """Minimizes a function of one array by "lbfgs" or "cg", with scipy.optimize.minimize's arguments and result.

    fun: `fun(x, *args)` returns (loss, gradient), or the loss alone if `jac(x, *args)` returns the gradient.
    x0: an array of any shape; float32 stays float32 throughout, every other real type becomes float64.  It isn't
        changed, and `fun` gets one and the same array each time, to be read only.
    args: further arguments of `fun` and `jac`.    method: "lbfgs" or "cg".    jac: True, or a function; see `fun`.
    bounds: a pair (low, high), one such pair for each element (a list, an iterator or an array of two columns), or an
        object with `lb` and `ub`; only for "lbfgs".    tol: `tolerance_grad`, 1e-5 unless given.
    callback: `callback(x)` is called after each iteration with a copy; `callback(intermediate_result)`, by this name,
        gets x and fun as scipy's does; True or StopIteration stops.
    options: those of LBFGS and ConjugateGradient, and scipy's maxiter, maxfun, gtol, maxcor, xtol.

    The line search is "nocedal_wright", and "hager_zhang" for float32; the history has 10 pairs.  `max_iter`
    is 15,000 and `max_eval` 10 times as much unless given.  A run that doesn't converge isn't an error: see `success`
    and `message`.

        >>> result = ol.minimize(lambda x: (((x - 3) ** 2).sum(), 2 * (x - 3)), np.zeros(2))
        >>> result.success, result.x.round(6)
        (True, array([3., 3.]))
    """
    make, defaults = METHODS[known_method(method)]
    if jac is not True and not callable(jac):
        raise TypeError(f"`jac` must be True (fun returns loss and gradient) or a function, got {shown(jac)}; "
                        f"gradients aren't approximated here")
    x = start(x0)
    view = x.view()
    view.flags.writeable = False
    # float32 losses soon don't resolve the decrease any more; slopes do
    search = "hager_zhang" if x.dtype == np.float32 else "nocedal_wright"
    given = {**defaults, "line_search_fn": search, "max_iter": 15_000, "tolerance_grad": 1e-5 if tol is None else tol,
             "tolerance_change": 0.0, "tolerance_loss": FTOL if method == "lbfgs" and x.dtype != np.float32 else 0.0,
             **translated(options or {}, make)}
    given.setdefault("max_eval", 10 * given["max_iter"])
    if bounds is not None:
        if method != "lbfgs":
            raise ValueError(f"`bounds` need method='lbfgs', got method={shown(method)}")
        given["bounds"] = [elementwise(bounds, x)]

    def closure() -> tuple[Any, list[np.ndarray]]:
        loss, gradient = both(fun(view, *args)) if jac is True else (fun(view, *args), jac(view, *args))
        return loss, [as_gradient(gradient, x)]

    if callback is not None:
        given["callback"] = caller(callback, x)
    optimizer = make([x], **given)
    optimizer.step(closure)
    result, gradient = optimizer.result, optimizer._method.work.g.arrays[0]
    return OptimizeResult(
        x=x, fun=result.loss, jac=-gradient if given.get("maximize") else gradient, nit=result.iterations,
        nfev=result.evaluations, njev=result.evaluations, success=result.converged,
        status=0 if result.converged else 1, message=result.reason)


# What came in --------------------------------------------------------------------------------------------------------

def known_method(method: Any) -> str:
    if isinstance(method, str) and method in METHODS:
        return method
    cure = ""
    if isinstance(method, str):
        cure = f"; did you mean {'cg' if method.lower() == 'cg' else 'lbfgs'!r}?"
    raise ValueError(f"`method` must be one of {', '.join(map(repr, METHODS))}, got {shown(method)}{cure}")


def start(x0: Any) -> np.ndarray:
    """A copy of x0 that the run moves."""
    given = np.asarray(x0)
    if given.dtype.kind == "c":
        parts = f"x0.view(np.float{given.dtype.itemsize * 4})"
        raise TypeError(f"`x0` must be real, got {given.dtype}; start from {parts}, the real and imaginary parts, "
                        f"and let `fun` take and return such arrays")
    if given.dtype.kind not in "fiub":
        raise TypeError(f"`x0` must be an array of numbers, got {shown(x0)}")
    return np.array(given, dtype=np.float32 if given.dtype == np.float32 else np.float64)


def both(returned: Any) -> Any:
    """(loss, gradient), as `fun` must return it."""
    if isinstance(returned, (tuple, list)) and len(returned) == 2:
        return returned
    came = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else shown(returned)
    raise TypeError(f"`fun` must return (loss, gradient), got {came}; give a function of the gradient as `jac`, "
                    f"gradients aren't approximated here")


def as_gradient(gradient: Any, x: np.ndarray) -> np.ndarray:
    """The gradient in x's type and shape."""
    given = np.asarray(gradient)
    if given.dtype.kind not in "fiub":
        cure = (f"; x is real, and so must be its gradient: use gradient.view(np.float{4 * given.dtype.itemsize}) if x "
                f"is such a view of complex numbers, gradient.real if not" if given.dtype.kind == "c" else "")
        raise TypeError(f"the gradient must be an array of real numbers, got {shown(gradient)}{cure}")
    if given.size != x.size:
        raise ValueError(f"the gradient must have one element for each of x's {x.size}, got shape {given.shape}")
    return given.astype(x.dtype, copy=False).reshape(x.shape)


def translated(options: Mapping[str, Any], make: Any) -> dict[str, Any]:
    """Options by our names; an unknown one raises."""
    known = [*make.checks, "callback"]
    result = {}
    for key, value in options.items():
        name = SCIPY.get(key, key)
        if name not in known:
            meant = resembles(key, [*known, *SCIPY])
            raise ValueError(f"`options` has no `{key}`; " + (WITHOUT.get(key) or (
                f"did you mean `{meant}`?" if meant else f"it has {', '.join(known)}")))
        result[name] = value
    return result


def elementwise(bounds: Any, x: np.ndarray) -> tuple[Any, Any]:
    """Bounds as two arrays of x's shape, or two numbers."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        return side("lb", bounds.lb, x), side("ub", bounds.ub, x)
    if isinstance(bounds, tuple) and len(bounds) == 2 and not any(isinstance(b, (tuple, list)) for b in bounds):
        return bounds
    pairs = list(bounds) if isinstance(bounds, (list, tuple, np.ndarray, Iterator)) else []
    if len(pairs) != x.size or not all(isinstance(p, (tuple, list, np.ndarray)) and len(p) == 2 for p in pairs):
        raise ValueError(f"`bounds` must be a pair, or one pair for each of {x.size} elements, got {shown(bounds)}")
    low, high = zip(*pairs, strict=True)
    return (np.array([-np.inf if limit is None else limit for limit in low]).reshape(x.shape),
            np.array([np.inf if limit is None else limit for limit in high]).reshape(x.shape))


def side(name: str, limit: Any, x: np.ndarray) -> np.ndarray:
    limit = np.ravel(limit)
    if limit.size not in (1, x.size):
        raise ValueError(f"`bounds.{name}` must be one number, or one for each of {x.size} elements, "
                         f"got {limit.size}")
    return np.broadcast_to(limit, x.size).reshape(x.shape)


def caller(callback: Callable[..., Any], x: np.ndarray) -> Callable[[Any], Any]:
    """Called with our result; calls with what the user's function asks for."""
    try:
        whole = list(inspect.signature(callback).parameters) == ["intermediate_result"]
    except (TypeError, ValueError):              # built-in functions have no signature
        whole = False
    if whole:
        return lambda result: callback(intermediate_result=OptimizeResult(x=x.copy(), fun=result.loss))
    return lambda result: callback(x.copy())
