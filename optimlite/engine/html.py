"""Tables for notebooks: what `_repr_html_` returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of escaped text."""
    def line(cells: Iterable[Any], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{escape(text(cell))}</{kind}>" for cell in cells) + "</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if header else ""
    return (f"<table><caption>{escape(caption)}</caption>{head}<tbody>"
            + "".join(line(row, "td") for row in rows) + "</tbody></table>")


def text(value: Any) -> str:
    """A value in a line."""
    if isinstance(value, np.ndarray) and value.size > 6:
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, float):
        return f"{value:.6g}"
    shown = " ".join(str(value).split())
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
