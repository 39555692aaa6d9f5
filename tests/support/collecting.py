"""A pytest plugin for `--collect-only`: prints the id and the markers of every test, a line of JSON each."""

from __future__ import annotations

import json

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        print(json.dumps([item.nodeid, sorted({mark.name for mark in item.iter_markers()})]))
