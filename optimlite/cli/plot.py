"""`plot`: a picture of a run's log."""

from __future__ import annotations

import argparse

from ..checkpoint.files import printable
from ..tools.metric_plots import plot_metrics
from .output import say, say_json


def plot(options: argparse.Namespace) -> int:
    try:
        import matplotlib
    except ImportError:
        raise ImportError("plot needs matplotlib; install it with pip install matplotlib") from None
    matplotlib.use("Agg")                        # no window, where there may be no display
    drawn = plot_metrics(options.log, options.names, options.smoothing)
    figure = drawn[0].figure
    figure.set_layout_engine("tight")
    figure.savefig(options.picture)
    if options.json:
        say_json({"picture": options.picture, "drawn": [ax.get_ylabel() for ax in drawn]})
    else:
        say(f"wrote {printable(options.picture)}: {', '.join(printable(ax.get_ylabel()) for ax in drawn)}")
    return 0
