"""Pictures of schedules."""

from __future__ import annotations

import pytest

from optimlite import lr_scheduler as ls
from support.rates import sgd


def test_plot_draws_every_group():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    scheduler = ls.CosineAnnealingLR(sgd(0.1, 0.2), 10)
    ax = scheduler.plot(20)
    assert [list(line.get_ydata()) for line in ax.lines] == [[scheduler.at(t)[i] for t in range(20)] for i in (0, 1)]
    assert all(list(line.get_xdata()) == list(range(20)) for line in ax.lines)
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("CosineAnnealingLR", "count", "lr")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["group 0", "group 1"]
    assert scheduler.plot(5, ax) is ax
    assert (len(ax.lines), scheduler.last_epoch) == (4, 0)
    alone = ls.StepLR(sgd(0.1), 3, key="momentum").plot(5)
    assert (alone.get_legend(), alone.get_ylabel()) == (None, "momentum")
    matplotlib.pyplot.close("all")


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"^plot needs matplotlib; install it with pip install matplotlib$"):
        ls.StepLR(sgd(0.1), 3).plot(5)
