"""What tests share: the number of examples, and the choice of CPU level and threads."""

from __future__ import annotations

import gc
import zlib
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

import optimlite as ol
from optimlite.native import dispatch, runtime

pytest.register_assert_rewrite("support")         # whose failures shall say as much as those of tests

# 50 examples of each property in `make test` and 200 in `make test-all`, always the same; 10,000 others in each
# `make test-long`.  No deadlines, which a busy machine misses.
settings.register_profile("quick", max_examples=50, deadline=None, print_blob=True, derandomize=True)
settings.register_profile("all", settings.get_profile("quick"), max_examples=200)
settings.register_profile("long", settings.get_profile("quick"), max_examples=10_000, derandomize=False)
settings.register_profile("few", settings.get_profile("quick"), max_examples=10)         # for `make sanitize`
settings.load_profile("quick")


MANY, KEPT = 100, 5              # of a product of more rows, `make test` takes one in five


@pytest.hookimpl(tryfirst=True)                   # before marks decide
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `rest` the lower CPU levels, and most rows of large products: always the same ones."""
    rows = Counter(item.nodeid.partition("[")[0] for item in items)
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        lower = parameters.get("level", dispatch.level) != dispatch.level
        many = rows[item.nodeid.partition("[")[0]] > MANY and zlib.crc32(item.nodeid.encode()) % KEPT > 0
        if lower or many:
            item.add_marker(pytest.mark.rest)


def pytest_collection_finish() -> None:
    """The collector needn't look at thousands of tests each time that one collects, or makes many objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def threads() -> Iterator[None]:
    """Every thread takes part, however busy the CPUs are; afterwards there are as many threads as before."""
    before = ol.get_num_threads()
    runtime.set_pool_eager(True)
    yield
    runtime.set_pool_eager(False)
    ol.set_num_threads(before)


@pytest.fixture(params=dispatch.LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each CPU level that was built and that this machine runs."""
    if request.param not in dispatch.available():
        pytest.skip(f"this machine doesn't run level {request.param}")
    # not by monkeypatch, which keeps a test out of `make parallel-test`
    before, dispatch.level = dispatch.level, request.param
    yield request.param
    dispatch.level = before
