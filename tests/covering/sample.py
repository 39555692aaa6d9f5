"""A pytest plugin for runs that count: of every test function at most some cases, spread over its table.

Tests are products of tables, and a product runs the lines of its first cases again and again. What isn't run isn't
counted, so the figures can only be too low.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

CASES = 4
WHOLE = ("_details", "_arguments", "_errors", "_messages", "_values", "_state")  # each row about another statement


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    by_function: dict[object, list[pytest.Item]] = defaultdict(list)
    for item in items:
        by_function[item.function].append(item)          # type: ignore[attr-defined]
    chosen = set()
    for cases in by_function.values():
        count = len(cases) if cases[0].path.stem.endswith(WHOLE) else min(CASES, len(cases))
        chosen.update(cases[k * len(cases) // count] for k in range(count))
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]
