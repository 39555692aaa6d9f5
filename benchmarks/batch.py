"""Many small problems at once, beside a loop over scipy's L-BFGS-B: `python -m benchmarks.batch`.

Each repetition times `minimize_batch` on all problems, and the loop on a sample of them, one after the other: the ratio
is the median over the repetitions.  Both have the gradient, scipy by `jac=True`, and both end by their own defaults.
With `--targets` it says whether the loop takes `LEAST` times as long, as 1,000 problems of 10 unknowns should.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import minimize

import optimlite as ol

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.batches import Family, family

FAMILIES = ("rosenbrock", "quadratic", "logistic")
LEAST = 20.0


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()                  # other processes count less so
    found = act()
    return time.process_time() - start, found


def loop(problems: Family, rows: range) -> list[Any]:
    return [minimize(problems.alone, problems.X0[i], args=tuple(a[i] for a in problems.args), jac=True,
                     method="L-BFGS-B") for i in rows]


def ratios(problems: Family, sample: int, repetitions: int) -> tuple[list[float], str]:
    """How many times as long the loop takes, and how the solutions compare."""
    k, found = len(problems.X0), []
    for repetition in range(repetitions):
        rows = range(sample * repetition % k, min(k, sample * repetition % k + sample))
        ours, batch = timed(lambda: ol.minimize_batch(problems.fun, problems.X0, problems.args))
        theirs, each = timed(lambda rows=rows: loop(problems, rows))
        found.append(theirs * k / len(rows) / ours)
    worse = batch.fun[rows] - [one.fun for one in each]
    return found, (f"{batch.nfev.mean():.0f} evaluations a problem, scipy {np.mean([one.nfev for one in each]):.0f}; "
                   f"losses higher by {np.median(worse):.1g} (median), lower in {np.mean(worse <= 0):.0%}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--unknowns", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--targets", action="store_true", help="exit with 1 if one is missed")
    given = parser.parse_args()
    missed = 0
    for name in FAMILIES:
        found, words = ratios(family(name, given.problems, given.unknowns), min(100, given.problems), given.repetitions)
        missed += median(found) < LEAST
        met = f" (target {LEAST:g}x: {'met' if median(found) >= LEAST else 'missed'})" * given.targets
        print(f"{name:10} {median(found):5.1f}x ({min(found):.1f} to {max(found):.1f}){met}; {words}", flush=True)
    return int(given.targets and missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
