"""How the command line prints: text that every terminal can show, tables, and JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any, TextIO


def say(line: str, to: TextIO | None = None) -> None:
    """Prints what is printable; what the terminal has no sign for, as its code."""
    to = to or sys.stdout
    encoding = to.encoding or "ascii"
    print(line.replace("×", "x" if encoding.lower().replace("-", "") in ("ascii", "usascii") else "×")
          .encode(encoding, "backslashreplace").decode(encoding), file=to)


def say_json(found: Any) -> None:
    """One object, in ASCII; NaN and infinities, which JSON lacks, are null."""
    print(json.dumps(finite(found), indent=1))


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def say_table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Columns side by side; those whose numbers are in `right` end at the same place."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.rjust(width) if column in right else cell.ljust(width)
                      for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip())


def size(count: float) -> str:
    """1536 -> '1.5 KB'."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
