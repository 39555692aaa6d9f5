"""Draws the site's pictures before the pages are read; one that is newer than what draws it stays."""

from __future__ import annotations

from typing import Any


def setup(app: Any) -> dict[str, Any]:
    return {"parallel_read_safe": True}
