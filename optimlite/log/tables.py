"""Logs as text: CSV, which spreadsheets read, and a JSON object on each line."""

from __future__ import annotations

import csv
import json
import math
import os
import time

from ..checks import path_of
from .writer import Writer, opened


class CSV(Writer):
    """A table with the columns step, time (seconds since 1970) and a column for each metric.

    path: the file; one that exists is refused, or appended to with `append=True`.

    Metrics that come later get columns of their own: the file is written anew then.  Raises FileExistsError for a file
    that exists, unless `append=True`, ValueError for one that isn't such a table, and TypeError for what is no path;
    `write` says what it refuses.

        >>> with ol.log.CSV("run.csv") as log:
        ...     log.write(0, {"loss": 0.5})
        ...     log.write(1, {"loss": 0.25, "lr": 0.1})
        >>> ol.log.read("run.csv")["loss"]
        array([0.5 , 0.25])
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self._path = path_of(path)
        super().__init__(opened(self._path, append))
        self._file.seek(0)
        self._columns: list[str] = next(csv.reader(self._file), [])
        self._file.seek(0, os.SEEK_END)
        if self._columns and self._columns[:2] != ["step", "time"]:
            self.close()
            raise ValueError(f"{self._path} is no log of ours: its first columns must be step and time, got "
                             f"{', '.join(self._columns[:2])}; use another name")

    def _write(self, step: int, metrics: dict[str, float]) -> None:
        row = {"step": step, "time": round(time.time(), 3), **metrics}
        if new := [name for name in row if name not in self._columns]:
            self._widen(self._columns + new)
        csv.DictWriter(self._file, self._columns).writerow(row)

    def _widen(self, columns: list[str]) -> None:
        """Writes the file anew, with more columns: beside the old one, and then in its place."""
        self._file.seek(0)
        rows = list(csv.DictReader(self._file))
        beside = f"{self._path}.new"
        with open(beside, "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(rows)
        os.replace(beside, self._path)
        self._file.close()
        self._file, self._columns = opened(self._path, append=True), columns


class JSONL(Writer):
    """A JSON object on each line, with step, time (seconds since 1970) and the metrics.

    path: the file; one that exists is refused, or appended to with `append=True`.

    NaN and infinities, which JSON lacks, are the strings "NaN", "Infinity" and "-Infinity".  Raises as `CSV` does, but
    doesn't look into a file that it appends to.

        >>> with ol.log.JSONL("run.jsonl") as log:
        ...     log.write(0, {"loss": 0.5})
        >>> ol.log.read("run.jsonl")["loss"]
        array([0.5])
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        super().__init__(opened(path, append))

    def _write(self, step: int, metrics: dict[str, float]) -> None:
        row = {"step": step, "time": round(time.time(), 3), **metrics}
        self._file.write(json.dumps({name: in_json(value) for name, value in row.items()}) + "\n")


def in_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
