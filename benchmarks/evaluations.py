"""Evaluations until solved, on two sets of problems, beside scipy's: `python -m benchmarks.evaluations`.

A problem counts as solved at the first evaluation with a gradient norm of 1e-6, or a loss within 1e-8 of a known
minimum.  Some runs are chaotic: the last bit of a sum, which differs between processors, decides between 200
evaluations and 3,000.  So each count is the median over the standard start and `STARTS` others, moved by 1e-12 of
themselves (1e-6 in float32).  The first set is that of Moré, Garbow & Hillstrom; no constant was tuned on the second.
With `--write` the tables in docs/closures.md are made anew.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median_high
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

import optimlite as ol

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.bounded_problems import BOUNDED  # noqa: E402
from support.more_problems import MORE, Known  # noqa: E402
from support.problems import PROBLEMS, Problem  # noqa: E402

LIMIT = 5000
STARTS = 20
OURS = {"max_iter": LIMIT, "max_eval": LIMIT, "tolerance_grad": 1e-9, "tolerance_change": 0}


class Solved(Exception):  # noqa: N818 - the aim, not an error
    pass


class Watched:
    """Counts evaluations, and ends the run at the first that solves the problem."""

    def __init__(self, problem: Problem | Known) -> None:
        self.problem, self.count = problem, 0

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        self.count += 1
        loss, gradient = self.problem(x)
        if self.problem.solved(loss, gradient):
            raise Solved
        if self.count >= LIMIT:
            raise TimeoutError
        return loss, gradient


def scipy(method: str, **options: Any) -> Callable[[Watched], None]:
    def run(watched: Watched) -> None:
        minimize(watched, watched.problem.start, jac=True, method=method,
                 options={"maxiter": LIMIT, "gtol": 1e-9, **options})

    return run


def optimlite(make: Any, **options: Any) -> Callable[[Watched], None]:
    def run(watched: Watched) -> None:
        x = watched.problem.start.copy()

        def closure() -> tuple[float, list[np.ndarray]]:
            loss, gradient = watched(x)
            return loss, [gradient]

        make([x], **OURS, **options).step(closure)

    return run


COLUMNS: dict[str, Callable[[Watched], None]] = {
    "scipy L-BFGS-B": scipy("L-BFGS-B", ftol=1e-20, maxfun=LIMIT),
    "LBFGS": optimlite(ol.LBFGS, history_size=10, line_search_fn="nocedal_wright"),
    "LBFGS hager_zhang": optimlite(ol.LBFGS, history_size=10, line_search_fn="hager_zhang"),
    "scipy CG": scipy("CG"),
    "CG polak-ribiere+": optimlite(ol.ConjugateGradient),
    "CG hestenes-stiefel": optimlite(ol.ConjugateGradient, beta="hestenes-stiefel"),
    "CG hager-zhang": optimlite(ol.ConjugateGradient, beta="hager-zhang"),
}


class Count(NamedTuple):
    """How many evaluations a run took, and whether they solved the problem."""

    evaluations: int
    solved: bool


def count(problem: Problem | Known, run: Callable[[Watched], None]) -> Count:
    watched = Watched(problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run(watched)
        except Solved:
            return Count(watched.count, True)
        except TimeoutError:
            pass
    return Count(watched.count, False)


def starts(problem: Any, others: int) -> list[np.ndarray]:
    """The standard start, and others beside it that only rounding tells apart."""
    rng, start = np.random.default_rng(0), problem.start
    size = (1e-6 if start.dtype == np.float32 else 1e-12) * np.where(start == 0.0, 1.0, abs(start))
    moved = (start + size * rng.uniform(-1.0, 1.0, start.shape) for _ in range(others))
    return [start, *(other.astype(start.dtype) for other in moved)]


def typical(problem: Problem | Known, run: Callable[[Watched], None], others: int = STARTS) -> Count:
    """The median count over all starts; solved if most of them are."""
    counts = [count(problem._replace(start=start), run) for start in starts(problem, others)]
    return Count(median_high(n for n, _ in counts), 2 * sum(solved for _, solved in counts) > len(counts))


def table(problems: Sequence[Problem | Known]) -> str:
    rows = {problem.name: [typical(problem, run) for run in COLUMNS.values()] for problem in problems}
    lines = ["| problem | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join(str(n) if solved else f"({n})" for n, solved in cells) + " |")
    totals = [sum(cells[k].evaluations for cells in rows.values()) for k in range(len(COLUMNS))]
    lines.append("| **total** | " + " | ".join(f"**{n:,}**" for n in totals) + " |")
    return "\n".join(lines)


# With the defaults of both: each ends by its own tests ----------------------------------------------------------------

DEFAULTS: dict[str, Callable[..., Any]] = {
    "scipy L-BFGS-B": lambda *a, **k: minimize(*a, jac=True, method="L-BFGS-B", **k),
    "minimize lbfgs": lambda *a, **k: ol.minimize(*a, method="lbfgs", **k),
    "scipy CG": lambda *a, **k: minimize(*a, jac=True, method="CG", **k),
    "minimize cg": lambda *a, **k: ol.minimize(*a, method="cg", **k),
}


def ended(problem: Any, run: Callable[..., Any]) -> tuple[int, float]:
    """The median count and loss over all starts."""
    low, high = getattr(problem, "low", None), getattr(problem, "high", None)
    given = {} if low is None else {"bounds": np.c_[low, high]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [run(problem, np.clip(start, low, high) if given else start, **given)
                 for start in starts(problem, STARTS)]
    return median_high(r.nfev for r in found), float(np.median([r.fun for r in found]))


def defaults_table() -> str:
    """Totals over the problems of each set."""
    lines = ["| problems | " + " | ".join(DEFAULTS) + " |", "|---" * (len(DEFAULTS) + 1) + "|"]
    for title, problems in (("Moré, Garbow & Hillstrom", PROBLEMS), ("the second set", MORE)):
        totals = [sum(ended(problem, run)[0] for problem in problems) for run in DEFAULTS.values()]
        lines.append(f"| {len(problems)}, {title} | " + " | ".join(f"{n:,}" for n in totals) + " |")
    return "\n".join(lines)


class Single:
    """A problem in float32, computed in double and rounded."""

    def __init__(self, problem: Problem | Known) -> None:
        self.problem, self.start = problem, problem.start.astype(np.float32)

    @np.errstate(over="ignore")
    def __call__(self, x: np.ndarray) -> tuple[np.float32, np.ndarray]:
        loss, gradient = self.problem(x.astype(np.float64))
        return np.float32(loss), gradient.astype(np.float32)


HISTORIES: dict[str, Callable[..., Any]] = {
    "float32 history": ol.minimize,
    "bfloat16 history": lambda *a: ol.minimize(*a, options={"history_dtype": "bfloat16"})}


def histories() -> dict[str, list[int]]:
    """The median count of each problem, in float32, for either history."""
    problems = [Single(problem) for problem in (*PROBLEMS, *MORE)]
    return {name: [ended(problem, run)[0] for problem in problems] for name, run in HISTORIES.items()}


def histories_table() -> str:
    counts = histories()
    full, half = counts.values()
    ratio = np.exp(np.mean(np.log(half) - np.log(full)))
    return "\n".join(["| | " + " | ".join(counts) + " |", "|---" * (len(counts) + 1) + "|",
                      "| total | " + " | ".join(f"{sum(n):,}" for n in counts.values()) + " |",
                      f"| geometric mean of the ratios | 1 | {ratio:.2f} |"])


def bounded_table() -> str:
    names = ("scipy L-BFGS-B", "minimize lbfgs", "minimize cg")
    lines = ["| problem | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    totals = [0] * len(names)
    for problem in BOUNDED:
        cells = [ended(problem, DEFAULTS[name]) for name in names]
        least = min(loss for _, loss in cells)
        totals = [total + n for total, (n, _) in zip(totals, cells, strict=True)]
        lines.append(f"| {problem.name} | " + " | ".join(
            str(n) if loss <= least + 1e-4 * max(1, abs(least)) else f"({n})" for n, loss in cells) + " |")
    return "\n".join([*lines, "| **total** | " + " | ".join(f"**{n:,}**" for n in totals) + " |"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluations", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/closures.md")
    write = parser.parse_args().write
    page = ROOT / "docs" / "closures.md"
    tables: dict[str, Callable[[], str]] = {
        "evaluations": lambda: table(PROBLEMS), "more evaluations": lambda: table(MORE), "defaults": defaults_table,
        "bounded": bounded_table, "histories": histories_table}
    for mark, make in tables.items():
        made = make()
        print(made, end="\n\n")
        if write:
            marks = rf"(<!-- {mark} -->\n).*?(<!-- end -->)"
            page.write_text(re.sub(marks, lambda found, made=made: f"{found[1]}{made}\n{found[2]}", page.read_text(),
                                   flags=re.S))


if __name__ == "__main__":
    main()
