"""Nonlinear conjugate gradients: five formulas for beta, a line search, and the usual restarts."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

from . import _check, line_search
from ._descent import MOST, Descent, Result, Run, count, optional_count, search
from .lbfgs import Names
from .line_search import Found, Phi, strong_wolfe


class Products(NamedTuple):
    """What the formulas are made of: gradients g (new) and h (old), y = g - h, and the direction d that led to g."""

    gg: float
    hh: float
    yg: float
    yd: float
    yy: float
    dg: float
    dd: float


def fletcher_reeves(p: Products) -> float:
    """g.g / h.h (1964)"""
    return p.gg / p.hh


def polak_ribiere_plus(p: Products) -> float:
    """max(0, y.g / h.h) (Polak & Ribiere 1969, Powell 1986)"""
    return max(0.0, p.yg / p.hh)


def hestenes_stiefel(p: Products) -> float:
    """y.g / y.d (1952)"""
    return p.yg / p.yd


def dai_yuan(p: Products) -> float:
    """g.g / y.d (1999)"""
    return p.gg / p.yd


def hager_zhang(p: Products) -> float:
    """(y - 2 d y.y / y.d).g / y.d, bounded below (2005)"""
    beta = (p.yg - 2.0 * p.dg * p.yy / p.yd) / p.yd
    return max(beta, -1.0 / (math.sqrt(p.dd) * min(0.01, math.sqrt(p.hh))))


# The formula, and the |g.h| / g.g from which on conjugacy counts as lost (Powell's test; FR and DY don't notice it).
BETAS: dict[str, tuple[Callable[[Products], float], float]] = {
    "polak-ribiere+": (polak_ribiere_plus, math.inf),
    "fletcher-reeves": (fletcher_reeves, 0.2),
    "hestenes-stiefel": (hestenes_stiefel, math.inf),
    "dai-yuan": (dai_yuan, 0.2),
    "hager-zhang": (hager_zhang, math.inf),
}


# Conjugacy needs a flatter slope at the end of a search than quasi-Newton steps do.
EXACT = {"strong_wolfe": partial(strong_wolfe, c2=0.1), "nocedal_wright": partial(strong_wolfe, c2=0.1),
         "hager_zhang": partial(line_search.hager_zhang, c1=0.4, c2=0.1)}


def beta_name(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in BETAS:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, BETAS))}, got {value!r}")
    return value


class ConjugateGradient(Descent):
    """Nonlinear conjugate gradients (Fletcher & Reeves 1964; Hager & Zhang 2006 for a survey).

        d = -g + beta * d                               x = x + t * d

    `beta`: "polak-ribiere+", "fletcher-reeves", "hestenes-stiefel", "dai-yuan" or "hager-zhang".  `line_search_fn`:
    "strong_wolfe" (c2 = 0.1), "hager_zhang" (c1 = 0.4, c2 = 0.1), "backtracking", or any function of
    `optimlite.line_search`.  The direction restarts at -g after `restart_every` iterations (None: as many as there are
    unknowns), where it doesn't descend, and for "fletcher-reeves" and "dai-yuan" where successive gradients are far
    from orthogonal (Powell 1977).

    `lr` scales the first trial step of the first iteration; later trials come from the step before.  Ratios of `lr`
    between groups scale the variables.  `max_eval` (None: 3 * max_iter), the other hyper-parameters, `result` and what
    `step(closure)` does are as in LBFGS.  The memory is 5 vectors.

    State: `n_iter`, `func_evals`, `t`, `slope`, `square`, `since_restart`, `direction`, `prev_grad`.
    Raises ValueError for hyper-parameters out of range, or that differ between groups.
    """

    checks = {"lr": _check.nonnegative, "max_iter": count, "max_eval": optional_count,
              "tolerance_grad": _check.nonnegative, "tolerance_change": _check.nonnegative, "beta": beta_name,
              "line_search_fn": search, "restart_every": optional_count, "maximize": _check.flag}
    scalars = {"n_iter": 0, "func_evals": 0, "t": 0.0, "slope": 0.0, "square": 0.0, "since_restart": 0}
    state_names: ClassVar[Any] = Names("n_iter", "func_evals", "t", "slope", "square", "since_restart",
                                       "direction", "prev_grad")

    def __init__(self, params: Any, lr: float = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, beta: str = "polak-ribiere+",
                 line_search_fn: str | Callable[..., Found] = "strong_wolfe", restart_every: int | None = None, *,
                 maximize: bool = False, callback: Callable[[Result], Any] | None = None) -> None:
        super().__init__(params, dict(
            lr=lr, max_iter=max_iter, max_eval=max_eval, tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change, beta=beta, line_search_fn=line_search_fn, restart_every=restart_every,
            maximize=maximize), None, callback)

    def direction(self, run: Run) -> tuple[float, float]:
        work, space, beta = run.work, run.space, 0.0
        if work.pending:
            beta = self.conjugate(run)
        else:
            work.scalars["square"][...] = space.reduce("dot", work.g, work.g)
        work.pending = False
        if beta:
            slope, largest = space.combine(work.d, work.g, -1.0, [work.d], [beta])
        if not beta or not slope < 0.0:
            work.scalars["since_restart"][...] = 0
            slope, largest = space.combine(work.d, work.g, -1.0)
        work.scalars["since_restart"] += 1
        return slope, largest

    def conjugate(self, run: Run) -> float:
        """beta, or 0 for a restart."""
        work, group = run.work, run.group
        formula, orthogonality = BETAS[group["beta"]]
        since, every = int(work.scalars["since_restart"]), group["restart_every"] or run.space.size
        curvature = formula not in (fletcher_reeves, polak_ribiere_plus)
        c = run.space.change(work.g, work.previous, work.d, curvature)
        hh, work.scalars["square"][...] = float(work.scalars["square"]), c.gg
        if since >= every or abs(c.gg - c.yg) >= orthogonality * c.gg:
            return 0.0
        dd = run.space.reduce("dot", work.d, work.d) if formula is hager_zhang else math.nan
        try:
            beta = formula(Products(c.gg, hh, c.yg, c.yd, c.yy, run.seen.slope, dd))
        except ZeroDivisionError:
            return 0.0
        return beta if math.isfinite(beta) else 0.0

    def evaluations(self, max_iter: int) -> int:
        return 3 * max_iter                          # a search exact enough for conjugacy takes about two

    def restart(self, run: Run) -> bool:
        had = int(run.work.scalars["since_restart"]) > 1
        run.work.scalars["since_restart"][...] = 0
        return had

    def first_trial(self, run: Run, slope: float) -> float:
        scalars = run.work.scalars
        before, scalars["slope"][...] = float(scalars["slope"]), slope
        t = float(scalars["t"])
        if not t > 0.0 or not before < 0.0:
            return run.first_step()
        return t * before / slope         # as if the first-order change were that of the step before

    def search(self, run: Run, phi: Phi, slope: float, step: float, largest: float, max_evals: int) -> Found:
        chosen = run.group["line_search_fn"]
        if isinstance(chosen, str) and (exact := EXACT.get(chosen)):
            return exact(phi, run.loss, slope, step, max_evals=min(max_evals, MOST))
        return super().search(run, phi, slope, step, largest, max_evals)
