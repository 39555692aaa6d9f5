"""Compresses a wheel's files again, by Zopfli: a twentieth smaller, and every pip reads it. Part of `finish.py`."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import zopfli


def recompress(wheel: Path) -> None:
    """RECORD's hashes are of the files themselves, so they stay right."""
    beside = wheel.with_suffix(".new")
    with zipfile.ZipFile(wheel) as old, zopfli.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry, old.read(entry))
    with zipfile.ZipFile(beside) as new:
        assert new.testzip() is None
    before = wheel.stat().st_size
    os.replace(beside, wheel)
    print(f"{wheel.name}: {before:,} bytes, now {wheel.stat().st_size:,}")
