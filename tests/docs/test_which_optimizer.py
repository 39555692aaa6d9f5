"""The page that compares the optimizers has each of them, with its state and its rate as they are."""

from __future__ import annotations

import inspect
import re

import pytest

import optimlite as ol
from optimlite.catalogue import WRAPPERS
from support.paths import ROOT

PAGE = (ROOT / "docs" / "which_optimizer.md").read_text(encoding="utf-8")
ROWS = {cells[0].strip("`"): cells for line in PAGE.splitlines() if line.startswith("| `")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]}


def test_every_optimizer_has_a_row() -> None:
    assert {name.partition("(")[0] for name in ROWS} == {*ol.available(), *WRAPPERS}


@pytest.mark.parametrize("name", ol.available())
def test_a_row_has_what_is_so(name: str) -> None:
    _, update, size, rate, digits, mnist, when, paper = ROWS[name]
    assert update
    assert when
    assert re.search(r"(19|20)\d\d$", paper)
    assert float(rate) == inspect.signature(getattr(ol, name)).parameters["lr"].default
    needs = ol.available()[name]
    assert needs.state_bytes is None or float(size.partition(",")[0]) == round(needs.state_bytes)
    assert re.fullmatch(r"9\d\.\d %", digits)
    assert re.fullmatch(r"9\d\.\d %", mnist)
    assert paper.rpartition(" ")[2] in (inspect.getdoc(getattr(ol, name)) or ""), "the docstring names another paper"


def test_pictures_are_there() -> None:
    for path in re.findall(r"\]\((\S+\.png)\)", PAGE):
        assert (ROOT / "docs" / path).read_bytes().startswith(b"\x89PNG")
