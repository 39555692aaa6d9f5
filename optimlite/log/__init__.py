"""Logs of a run's numbers without dependencies: `CSV`, `JSONL`, and `TensorBoard`'s event files.

    with ol.log.CSV("run.csv") as log:
        for step in range(1000):
            ...
            log.write(step, {"loss": loss} | opt.metrics())

`read(path)` gives the columns of any of them as arrays, `ol.plot_metrics(path)` draws them, and so does
`python -m optimlite plot run.csv`.
"""

from .reading import read as read
from .tables import CSV as CSV
from .tables import JSONL as JSONL
from .tensorboard import TensorBoard as TensorBoard

__all__ = ["CSV", "JSONL", "TensorBoard", "read"]
