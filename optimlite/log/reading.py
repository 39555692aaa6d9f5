"""Logs read back: the columns of a CSV, JSONL or event file as arrays."""

from __future__ import annotations

import csv
import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..checks import path_of
from .tensorboard import SIMPLE_VALUE, STEP, SUMMARY, TAG, VALUE, WALL_TIME, fields, records

Row = dict[str, float]


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The columns of a log by name: step, time, and each metric, NaN where a row has none.

    path: a file of `CSV` (any but .jsonl), of `JSONL` (.jsonl, .json), an event file, or a folder with event files.

    A last line that is being written is left out.  Raises ValueError, naming the line, for what can't be read,
    FileNotFoundError for a file that isn't there and for a folder without event files, and TypeError for what is no
    path.

        >>> with ol.log.CSV("run.csv") as log:
        ...     for step in range(3):
        ...         log.write(step, {"loss": 1 / (1 + step)} | ({"accuracy": 0.9} if step == 2 else {}))
        >>> columns = ol.log.read("run.csv")
        >>> columns["loss"].round(2), columns["accuracy"]
        (array([1.  , 0.5 , 0.33]), array([nan, nan, 0.9]))
    """
    where = Path(path_of(path))
    if where.is_dir():
        files = sorted(where.glob("events.out.tfevents.*"))
        if not files:
            raise FileNotFoundError(f"{where} has no event files")
        rows = [row for file in files for row in events(file)]
    elif ".tfevents." in where.name:
        rows = list(events(where))
    else:
        rows = list((json_lines if where.suffix in (".jsonl", ".json") else table)(where))
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}


def table(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            if None in row or None in row.values():      # too many cells, or too few: half a line
                break
            try:
                yield {name: float(value) for name, value in row.items() if value != ""}
            except ValueError:
                raise ValueError(f"{path}, line {number}: a cell is no number, got {row}") from None


def json_lines(path: Path) -> Iterator[Row]:
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], 1):        # what is behind the last line's end is being written
        try:
            yield {name: float(value) for name, value in json.loads(line).items()}
        except (ValueError, TypeError, AttributeError):
            raise ValueError(f"{path}, line {number}: must be a JSON object of numbers, got {line[:80]}") from None


def events(path: Path) -> Iterator[Row]:
    for data in records(path.read_bytes()):
        event = dict(fields(data))
        if not isinstance(event.get(SUMMARY), bytes):
            continue
        [time] = struct.unpack("<d", event.get(WALL_TIME, bytes(8)))             # type: ignore[arg-type]
        row: Row = {"step": float(event.get(STEP, 0)), "time": time}
        for field, value in fields(event[SUMMARY]):                              # type: ignore[arg-type]
            parts = dict(fields(value)) if field == VALUE else {}                # type: ignore[arg-type]
            if SIMPLE_VALUE in parts:
                [row[parts[TAG].decode()]] = struct.unpack("<f", parts[SIMPLE_VALUE])    # type: ignore
        yield row
