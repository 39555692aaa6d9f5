"""Evaluations of residuals by `least_squares`, beside scipy's: `python -m benchmarks.least_squares`.

Three sets: the problems of Moré, Garbow & Hillstrom; NIST's nonlinear regressions, from both of NIST's starts; and
those of the first set that have bounds.  Each solver ends by its own tests, with the defaults of both, which are 1e-8;
its count is the median over the start and `--others` (4) more, moved by 1e-12 of themselves: some runs are chaotic.
Jacobians are given and don't count.  With `--write` the tables in docs/least_squares.md are made anew.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median_high
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

import optimlite as ol

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.bounded_problems import BOUNDED  # noqa: E402
from support.nist import REGRESSIONS, jacobian  # noqa: E402
from support.problems import PROBLEMS, Problem  # noqa: E402

Array = np.ndarray
LIMIT = 3000
STARTS = 4
COLUMNS: dict[str, Any] = {
    "scipy lm": lambda *a, **k: least_squares(*a, method="lm", max_nfev=LIMIT, **k),
    "scipy trf": lambda *a, **k: least_squares(*a, method="trf", max_nfev=LIMIT, **k),
    "lm": lambda *a, **k: ol.least_squares(*a, method="lm", max_nfev=LIMIT, **k),
    "trust-region": lambda *a, **k: ol.least_squares(*a, method="trust-region", max_nfev=LIMIT, **k),
}


class Fit(NamedTuple):
    """A least-squares problem, and whether a result solves it."""

    name: str
    residuals: Callable[[Array], Array]
    start: Array
    solved: Callable[[Any], bool]
    bounds: tuple[Array, Array] | None = None

    def jacobian(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return jacobian(self.residuals, x)


def of_problem(problem: Problem) -> Fit:
    return Fit(problem.name, problem.residuals, problem.start,
               lambda result: problem.solved(2 * result.cost, 2 * result.grad))


MGH = [of_problem(problem) for problem in PROBLEMS]
# At the certified minimum; how many digits of it are found is a question of tolerances.
NIST = [Fit(f"{one.name}, start {k + 1}", one.residuals, start, lambda result, one=one: one.digits(result.x) >= 2.5)
        for one in REGRESSIONS for k, start in enumerate(one.starts)]
BOXES = [Fit(one.name, one.function.residuals, np.clip(one.start, one.low, one.high),
             lambda result, one=one: one.projected(result.x) <= 1e-4, (one.low, one.high))
         for one in BOUNDED if isinstance(one.function, Problem)]
SETS = {"Moré, Garbow & Hillstrom": MGH, "NIST": NIST, "with bounds": BOXES}


class Count(NamedTuple):
    evaluations: int
    solved: bool


def starts(fit: Fit, others: int) -> list[Array]:
    rng = np.random.default_rng(0)
    size = 1e-12 * abs(fit.start)                # 0 stays: the first radius is made of the start's length
    found = [fit.start, *(fit.start + size * rng.uniform(-1.0, 1.0, size.shape) for _ in range(others))]
    return found if fit.bounds is None else [np.clip(x, *fit.bounds) for x in found]


def typical(fit: Fit, solve: Any, others: int = STARTS, **options: Any) -> Count:
    """The median count over all starts; solved if most of them are."""
    if fit.bounds is not None:
        options["bounds"] = fit.bounds
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = [solve(fit.residuals, start, fit.jacobian, **options) for start in starts(fit, others)]
        solved = [fit.solved(result) for result in found]
    return Count(median_high(result.nfev for result in found), 2 * sum(solved) > len(solved))


def table(fits: list[Fit], others: int = STARTS) -> str:
    names = [name for name in COLUMNS if fits[0].bounds is None or not name.endswith("lm")]
    lines = ["| problem | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    totals = [0] * len(names)
    for fit in fits:
        cells = [typical(fit, COLUMNS[name], others) for name in names]
        totals = [total + n for total, (n, _) in zip(totals, cells, strict=True)]
        lines.append(f"| {fit.name} | " + " | ".join(str(n) if solved else f"({n})" for n, solved in cells) + " |")
    return "\n".join([*lines, "| **total** | " + " | ".join(f"**{n:,}**" for n in totals) + " |"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.least_squares", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/least_squares.md")
    parser.add_argument("--others", type=int, default=STARTS)
    options = parser.parse_args()
    page = ROOT / "docs" / "least_squares.md"
    for mark, fits in SETS.items():
        made = table(fits, options.others)
        print(made, end="\n\n")
        if options.write:
            marks = rf"(<!-- {mark} -->\n).*?(<!-- end -->)"
            page.write_text(re.sub(marks, lambda found, made=made: f"{found[1]}{made}\n{found[2]}", page.read_text(),
                                   flags=re.S))


if __name__ == "__main__":
    main()
