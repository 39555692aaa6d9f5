"""The README's Python runs as it stands, and its error messages are the real ones."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol
from support.helpers import output_of
from support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```", README, re.S | re.M)]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs_as_it_stands(number: int, tmp_path: Path) -> None:
    code = BLOCKS[number]
    if "autograd" in code:
        pytest.importorskip("autograd")
    printed = output_of(code, folder=tmp_path, timeout=120)
    losses = re.findall(r"loss ([-+.\de]+)", printed)
    assert float(losses[-1]) < 0.05, printed
    if len(losses) > 1:                          # it shows how it converges, and the page has what it prints
        assert f"```\n{printed}\n```" in README


def test_the_quickstart_ends_with_the_biass_value(tmp_path: Path) -> None:
    """The data are made with a bias of 1: whoever tries the first example should see that it was found."""
    [code] = [block for block in BLOCKS if "bias" in block and "autograd" not in block and "Parameter" in block]
    printed = output_of(code, folder=tmp_path, timeout=120)
    assert "bias 1.000" in printed
    assert "# " + printed in code


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 4


def test_messages_are_the_real_ones() -> None:
    def message(call: object) -> str:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()      # type: ignore[operator]
        return f"{caught.type.__name__}: {caught.value}"

    W = ol.Parameter(np.zeros(2, np.float32), name="W")
    for call in (lambda: ol.SGD([W]).step(max_norm=1), lambda: ol.SGD([W], learning_rate=0.1),
                 lambda: ol.SGD([W], lr=-0.1)):
        assert message(call) in README
