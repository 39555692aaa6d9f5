"""Evaluations until solved, on two sets of problems, beside scipy's: `python -m benchmarks.evaluations`.

A problem counts as solved at the first evaluation with a gradient norm of 1e-6, or a loss within 1e-8 of a known
minimum.  The first set is that of Moré, Garbow & Hillstrom; no constant was tuned on the second.  With `--write` the
tables in docs/closures.md are made anew.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

import optimlite as ol

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from more_problems import MORE, Known  # noqa: E402
from problems import PROBLEMS, Problem  # noqa: E402

LIMIT = 5000
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
    "CG fletcher-reeves": optimlite(ol.ConjugateGradient, beta="fletcher-reeves"),
    "CG dai-yuan": optimlite(ol.ConjugateGradient, beta="dai-yuan"),
    "CG hager-zhang": optimlite(ol.ConjugateGradient, beta="hager-zhang"),
}


def evaluations(problem: Problem | Known, run: Callable[[Watched], None]) -> tuple[int, bool]:
    """How many, and whether they solved the problem."""
    watched = Watched(problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run(watched)
        except Solved:
            return watched.count, True
        except TimeoutError:
            pass
    return watched.count, False


def table(problems: Sequence[Problem | Known]) -> str:
    rows = {problem.name: [evaluations(problem, run) for run in COLUMNS.values()] for problem in problems}
    lines = ["| problem | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join(str(n) if ok else f"({n})" for n, ok in cells) + " |")
    totals = [sum(cells[k][0] for cells in rows.values()) for k in range(len(COLUMNS))]
    lines.append("| **total** | " + " | ".join(f"**{n:,}**" for n in totals) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluations", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/closures.md")
    write = parser.parse_args().write
    page = ROOT / "docs" / "closures.md"
    for mark, problems in (("evaluations", PROBLEMS), ("more evaluations", MORE)):
        made = table(problems)
        print(made, end="\n\n")
        if write:
            marks = rf"(<!-- {mark} -->\n).*?(<!-- end -->)"
            page.write_text(re.sub(marks, lambda found, made=made: f"{found[1]}{made}\n{found[2]}", page.read_text(),
                                   flags=re.S))



if __name__ == "__main__":
    main()
