"""Newton's method beside scipy's, on both sets of problems of `benchmarks.evaluations`: `python -m benchmarks.newton`.

Counted are evaluations of the loss with its gradient, and products with the Hessian, until a problem is solved; each
number is the median over the standard start and others beside it, and the table has the totals.  Products are central
differences of exact gradients, which aren't counted; the other half is without `hessp`: gradients alone.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from statistics import median_high
from typing import Any

import numpy as np
from scipy.optimize import minimize

import optimlite as ol
from benchmarks.evaluations import LIMIT, MORE, PROBLEMS, STARTS, Solved, Watched, starts


class Counted(Watched):
    """Products count, too."""

    def hessp(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        self.count += 1
        if self.count >= LIMIT:
            raise TimeoutError
        size = np.linalg.norm(v)
        if not 0.0 < size < np.inf:
            return np.zeros_like(v)
        h = 1e-5 * (1.0 + np.linalg.norm(x)) / size
        return (self.problem(x + h * v)[1] - self.problem(x - h * v)[1]) / (2.0 * h)


def scipys(method: str, products: bool, **options: Any) -> Callable[[Counted], Any]:
    def run(watched: Counted) -> Any:
        given = {"hessp": watched.hessp} if products else {}
        return minimize(watched, watched.problem.start, jac=True, method=method, options={"maxiter": LIMIT, **options},
                        **given)

    return run


def ours(method: str, products: bool, **options: Any) -> Callable[[Counted], Any]:
    def run(watched: Counted) -> Any:
        given = {"hessp": watched.hessp} if products else {}
        return ol.minimize(watched, watched.problem.start, method=method,
                           options={"max_iter": LIMIT, "max_eval": LIMIT, "tolerance_grad": 1e-9, "tolerance_loss": 0,
                                    **options}, **given)

    return run


COLUMNS: dict[str, Callable[[Counted], Any]] = {
    "scipy trust-ncg": scipys("trust-ncg", True, gtol=1e-9), "scipy Newton-CG": scipys("Newton-CG", True, xtol=1e-12),
    "newton-cg": ours("newton-cg", True),
    "scipy Newton-CG, gradients alone": scipys("Newton-CG", False, xtol=1e-12),
    "newton-cg, gradients alone": ours("newton-cg", False), "lbfgs": ours("lbfgs", False)}


def counted(problem: Any, run: Callable[[Counted], Any]) -> tuple[int, bool]:
    watched = Counted(problem)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            run(watched)
        except Solved:
            return watched.count, True
        except (TimeoutError, np.linalg.LinAlgError):
            pass
    return LIMIT, False


def typical(problem: Any, run: Callable[[Counted], Any], others: int) -> tuple[int, bool]:
    counts = [counted(problem._replace(start=start), run) for start in starts(problem, others)]
    return median_high(n for n, _ in counts), 2 * sum(solved for _, solved in counts) > len(counts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.newton", description=__doc__)
    parser.add_argument("--starts", type=int, default=STARTS, help="beside the standard one")
    parser.add_argument("--each", action="store_true", help="a row for each problem, too")
    given = parser.parse_args()
    print("| problems | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|", sep="\n", flush=True)
    for title, problems in (("Moré, Garbow & Hillstrom", PROBLEMS), ("the second set", MORE)):
        totals, unsolved = [0] * len(COLUMNS), [0] * len(COLUMNS)
        for problem in problems:
            cells = [typical(problem, run, given.starts) for run in COLUMNS.values()]
            totals = [total + n for total, (n, _) in zip(totals, cells, strict=True)]
            unsolved = [n + (not solved) for n, (_, solved) in zip(unsolved, cells, strict=True)]
            if given.each:
                print(f"| {problem.name} | " + " | ".join(str(n) if ok else f"({n})" for n, ok in cells) + " |",
                      flush=True)
        print(f"| {len(problems)}, {title} | " + " | ".join(
            f"{n:,}" + f" ({u} unsolved)" * bool(u) for n, u in zip(totals, unsolved, strict=True)) + " |", flush=True)


if __name__ == "__main__":
    main()
