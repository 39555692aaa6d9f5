"""The names that scipy.optimize.minimize has for methods and options, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checks import resembles, shown
from .conjugate_gradient import ConjugateGradient
from .lbfgs import LBFGS
from .newton import NewtonCG

FTOL, GTOL = 2.220446049250313e-9, 1e-5          # scipy's
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lbfgs": (LBFGS, {"history_size": 10}), "cg": (ConjugateGradient, {}), "newton-cg": (NewtonCG, {})}
BESIDE = {"lbfgs": ("l1",)}                      # arguments of the optimizer that aren't hyper-parameters of its groups
NAMES = {"lbfgs": "lbfgs", "lbfgsb": "lbfgs", "cg": "cg", "newtoncg": "newton-cg", "trustncg": "newton-cg"}
GRADIENT_FREE = ("neldermead", "powell", "cobyla", "cobyqa")
# scipy's option: ours
SCIPY = {"maxiter": "max_iter", "maxfun": "max_eval", "gtol": "tolerance_grad", "maxcor": "history_size",
         "xtol": "tolerance_change", "ftol": "tolerance_loss", "initial_trust_radius": "lr"}
SEARCH = {"c1": "c1", "c2": "c2", "maxls": "max_evals"}          # those of the line search
HERE = ("disp", "eps", "finite_diff_rel_step", "workers")        # minimize's own
# scipy's options that have no counterpart: what to do instead
WITHOUT = {"iprint": "print in a `callback`, or use `disp`", "return_all": "keep each x in a `callback`",
           "max_trust_radius": "the line search limits the steps", "eta": "it is `c1` of the line search"}


def known_method(method: Any) -> str:
    """Our name of a method, from any of scipy's; None is L-BFGS."""
    if method is None:
        return "lbfgs"
    plain = method.lower().translate({ord(c): None for c in "-_ "}) if isinstance(method, str) else None
    if plain in NAMES:
        return NAMES[plain]
    cure = "" if plain is None else ("; use 'lbfgs' with jac='2-point', or scipy" if plain in GRADIENT_FREE else
                                     "; use 'lbfgs', which takes bounds, too")
    raise ValueError(f"`method` must be one of {', '.join(map(repr, METHODS))}, got {shown(method)}{cure}")


def off(key: str, value: Any) -> bool:
    """Whether an option of scipy's, which we lack, asks for what we do."""
    if key == "norm":
        return bool(value == np.inf)
    return key in WITHOUT and (not value or value == -1)


def translated(options: Mapping[str, Any], method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options by our names, for the optimizer and for minimize itself; an unknown one raises."""
    if not isinstance(options, Mapping):
        raise TypeError(f"`options` must be a dict, got {shown(options)}")
    known = [key for key in (*METHODS[method][0].checks, *BESIDE.get(method, ())) if key != "search_options"]
    ours: dict[str, Any] = {}
    here: dict[str, Any] = {}
    search: dict[str, Any] = dict(options.get("search_options") or {})
    for key, value in options.items():
        name = SCIPY.get(key, key)
        if key == "search_options" or off(key, value):
            continue
        if key in ("maxiter", "maxfun") and isinstance(value, (float, np.floating)) and np.isfinite(value):
            ours[name] = int(value)              # scipy's may have a fraction
        elif key in SEARCH:
            search[SEARCH[key]] = value
        elif key in HERE:
            here[key] = value
        elif key == "norm":
            raise ValueError(f"`options` has `norm` {shown(value)}, and it must be np.inf: gradients are measured by "
                             f"max |g|")
        elif name in known and (key != "initial_trust_radius" or method == "newton-cg"):
            ours[name] = value
        elif name in ("history_size", "l1"):
            why = "keeps no history; leave it out" if name == "history_size" else "needs smooth losses; use 'lbfgs'"
            raise ValueError(f"`options` has no `{key}` with method '{method}', which {why}")
        else:
            everything = [*known, *SCIPY, *SEARCH, *HERE]
            meant = resembles(key, everything)
            raise ValueError(f"`options` has no `{key}`; " + (WITHOUT.get(key) or (
                f"did you mean `{meant}`?" if meant else f"it has {', '.join(everything)}")))
    if search:
        ours["search_options"] = search
    return ours, here
