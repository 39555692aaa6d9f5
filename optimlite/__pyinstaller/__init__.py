"""Tells PyInstaller what it can't see: modules that are imported late, and those that are chosen by the CPU."""

from pathlib import Path


def hook_folders() -> list[str]:
    return [str(Path(__file__).parent)]
