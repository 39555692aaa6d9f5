"""Both sets of problems are solved, in as many evaluations as by scipy: medians over starts that rounding tells apart.

One run's count rests on the last bits of NumPy's sums, which differ between processors: CG takes 168 evaluations of
Biggs EXP6, or 3,000.  Ours and scipy's are counted from the same starts.
"""

from __future__ import annotations

from functools import cache

import pytest

from support.more_problems import MORE
from support.problems import PROBLEMS

pytest.importorskip("scipy.optimize")
from benchmarks.evaluations import COLUMNS, STARTS, Count, typical

SETS = {"Moré, Garbow & Hillstrom": PROBLEMS, "more": MORE}
METHODS = {                                  # scipy's method to compare with, and the ratio of evaluations allowed
    "LBFGS": ("scipy L-BFGS-B", 1.2), "CG polak-ribiere+": ("scipy CG", 1.2), "CG hestenes-stiefel": ("scipy CG", 1.2),
    "LBFGS hager_zhang": ("scipy L-BFGS-B", 1.5)}
# Starts beside the standard one: none in the quick suite, where the margins are wide; else as many as in the docs.
RUNS = [*((method, 0) for method in list(METHODS)[:3]),
        *(pytest.param(method, STARTS, marks=pytest.mark.long) for method in METHODS)]
# Neither does scipy's CG solve them: from (-2, -2) Beale's function falls towards infinity; the units of Meyer's
# unknowns are so far apart that conjugacy is lost to rounding.
MEYER = "Moré, Garbow & Hillstrom"
UNSOLVED = {("more", "CG polak-ribiere+"): {"Beale from (-2, -2)"}, (MEYER, "CG polak-ribiere+"): {"Meyer"},
            (MEYER, "CG hestenes-stiefel"): {"Meyer"}}


@cache
def medians(problems: str, method: str, others: int) -> dict[str, Count]:
    return {problem.name: typical(problem, COLUMNS[method], others) for problem in SETS[problems]}


def total(problems: str, method: str, others: int) -> int:
    return sum(count.evaluations for count in medians(problems, method, others).values())


@pytest.mark.rest
@pytest.mark.parametrize(("method", "others"), RUNS)
@pytest.mark.parametrize("problems", SETS)
def test_solves_the_set_in_as_many_evaluations_as_scipy(problems: str, method: str, others: int) -> None:
    """A gradient of 1e-6, or the known minimum to 1e-8."""
    scipys, most = METHODS[method]
    unsolved = {name for name, count in medians(problems, method, others).items() if not count.solved}
    assert unsolved <= UNSOLVED.get((problems, method), set())
    assert total(problems, method, others) <= most * total(problems, scipys, others)
