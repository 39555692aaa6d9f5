"""What notebooks show of optimizers, results and checkpoints: tables of escaped text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

import optimlite as ol


class Cells(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        assert not self.open                     # every tag is closed

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag in ("td", "th", "caption"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data


def cells(thing: Any) -> list[str]:
    return Cells(thing._repr_html_()).cells


def test_an_optimizer_has_a_row_for_each_group() -> None:
    opt = ol.SGD([{"params": [np.ones((20, 10))]}, {"params": [np.ones(3)], "lr": 0.5, "<b>": "<i>"}], lr=0.1)
    found = cells(opt)
    assert found[0] == "SGD: 2 parameters, 203 elements, 0 steps"
    assert found[1:4] == ["group", "holds", "lr"]
    assert "1 parameter, 200 elements" in found
    assert "0.5" in found
    assert "<script>" not in ol.SGD([{"params": [np.ones(1)], "<script>": 1}])._repr_html_()


def test_results_are_tables_of_their_values() -> None:
    result = ol.minimize(lambda x: (float(x @ x), 2 * x), np.ones(100))
    found = cells(result)
    assert found[0] == "success"
    assert found[found.index("x") + 1] == "float64 of shape (100,)"
    w = np.ones(2)
    opt = ol.LBFGS([w])
    opt.step(lambda: (float(w @ w), [2 * w]))
    found = cells(opt.result)
    assert found[0] == "converged"
    assert found[found.index("evaluations") + 1] == str(opt.result.evaluations)


def test_a_folder_of_checkpoints_lists_them(tmp_path: Path) -> None:
    checkpoints = ol.Checkpoints(tmp_path, best="loss")
    assert cells(checkpoints)[0].startswith("0 checkpoints in ")
    for loss in (1.0, 0.5, 2.0):
        checkpoints.save(model=[np.ones(2)], loss=loss)
    found = cells(checkpoints)
    assert found[1:4] == ["file", "bytes", "loss"]
    assert found[4::3] == ["checkpoint-000001.safetensors", "checkpoint-000002.safetensors (best)",
                           "checkpoint-000003.safetensors"]
    assert found[6::3] == ["1", "0.5", "2"]
