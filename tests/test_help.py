"""What the package shows: names for completion, a page of help, and docstrings whose examples run."""

from __future__ import annotations

import inspect
import pydoc
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import run_examples

PUBLIC = {name: getattr(ol, name) for name in ol.__all__ if not isinstance(getattr(ol, name), ModuleType)}
STEPS = {"RuleOptimizer.step": ol.Adam.step, "ClosureOptimizer.step": ol.LBFGS.step}


def test_completion_shows_what_is_meant_for_users() -> None:
    assert set(dir(ol)) == {*ol.__all__, "__version__"}
    assert not {"Any", "sys", "late_imports", "engine", "checks"} & set(dir(ol))
    names: dict[str, Any] = {}
    exec("from optimlite import *", names)
    assert set(ol.__all__) <= set(names)


def test_help_of_the_package_fits_on_a_screen_and_leads_on() -> None:
    text = pydoc.plain(pydoc.render_doc(ol))
    assert len(text.splitlines()) <= 66
    for name in PUBLIC:
        if not name.startswith(("get_", "set_", "register_")) and name not in ("CheckpointError",
                                                                               "clip_grads_with_norm_"):
            assert name in text, name
    for path in ("README.md", "docs/", "examples/"):
        assert path in text
        assert (Path(__file__).parents[1] / path).exists()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_says_what_every_argument_is(name: str) -> None:
    thing = PUBLIC[name]
    if name == "CheckpointError":
        return
    text = inspect.getdoc(thing) or ""
    for argument in inspect.signature(thing).parameters:
        assert re.search(rf"\b{argument}\b", text), argument


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_of_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    threads = ol.get_num_threads()
    try:
        assert run_examples(PUBLIC[name], np=np, ol=ol, __file__=__file__) > 0
    finally:
        ol.set_num_threads(threads)
