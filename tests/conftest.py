"""What tests share: guarded arrays at any byte offset, equality of bits, and the choice of CPU level and threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import optimlite as ol
from optimlite import _cpu


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads after a test that changes it."""
    before = ol.get_num_threads()
    yield
    ol.set_num_threads(before)


@pytest.fixture(params=_cpu.LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each CPU level that was built and that this machine runs."""
    if request.param not in _cpu.available():
        pytest.skip(f"this machine doesn't run level {request.param}")
    monkeypatch.setattr(_cpu, "level", request.param)
    return request.param
