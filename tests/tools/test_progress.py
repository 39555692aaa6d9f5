"""Progress as a callback of every method that iterates, with tqdm and without it."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest

import optimlite as ol


@pytest.fixture(params=[True, False], ids=["tqdm", "without"])
def tqdm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    return bool(request.param)


@pytest.mark.parametrize("method", ["lbfgs", "cg"])
def test_minimize_shows_its_iterations(method: str, tqdm: bool) -> None:
    file = io.StringIO()
    with ol.Progress(total=50, file=file) as progress:
        result = ol.minimize(lambda x: (float((x ** 4).sum()), 4 * x ** 3), np.arange(1.0, 4), method=method,
                             callback=progress)
    assert progress.iterations == result.nit > 2
    assert f"{result.nit}/50" in file.getvalue()
    assert f"loss {result.fun:.6g}" in file.getvalue()
    assert file.getvalue().endswith("\n")


@pytest.mark.parametrize("kind", [ol.LBFGS, ol.ConjugateGradient])
def test_optimizers_with_closures_show_theirs(kind: Any, tqdm: bool) -> None:
    w, file = np.array([3.0, -2.0]), io.StringIO()
    with ol.Progress(file=file) as progress:
        opt = kind([w], max_iter=7, callback=progress)
        opt.step(lambda: (float((w ** 4).sum()), [4 * w ** 3]))
    assert progress.iterations in (opt.result.iterations - 1, opt.result.iterations)     # torch stops before it calls
    assert "loss" in file.getvalue()


def test_nothing_is_drawn_where_nothing_happened() -> None:
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tqdm", None)
        with ol.Progress(file=file):
            pass
    assert file.getvalue() == ""
    with pytest.raises(ValueError, match="`total` must be an integer >= 1, got 0"):
        ol.Progress(0)


def test_what_is_no_result_is_refused() -> None:
    progress = ol.Progress(file=io.StringIO())
    with pytest.raises(TypeError, match=r"`Progress` must be called with an iteration's result.*give it as `callback`"):
        progress(np.ones(3))
    assert progress.iterations == 0
