"""Modules of examples/, as a script that lies there sees them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from support.paths import EXAMPLES


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of examples/, as a script that lies there does."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")     # restored afterwards, whatever the module sets

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)

    return load
