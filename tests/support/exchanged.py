"""SciPy's own tests of minimize with ours in its place, a plugin of pytest:

    PYTHONPATH=.:tests python -m pytest -c /dev/null -p support.exchanged --pyargs scipy.optimize.tests.test_optimize …

(tests/closures/test_scipys_own.py has the other files.)  Says in the end how many tests called it with "L-BFGS-B" or
"CG", and which of them failed.  Other methods stay SciPy's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import scipy.optimize

import optimlite as ol

scipys = scipy.optimize.minimize
called, failed = set[str](), set[str]()
running = ""


def exchanged(fun: Any, x0: Any, args: Any = (), method: Any = None, *others: Any, **given: Any) -> Any:
    if not isinstance(method, str) or method.lower() not in ("l-bfgs-b", "cg"):
        return scipys(fun, x0, args, method, *others, **given)
    called.add(running)
    names = ("jac", "hess", "hessp", "bounds", "constraints", "tol", "callback", "options")
    return ol.minimize(fun, x0, args, method, **dict(zip(names, others, strict=False)), **given)


scipy.optimize.minimize = exchanged


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global running
    running = item.nodeid
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and report.nodeid in called:
        failed.add(report.nodeid)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"exchanged in {len(called)} tests, of which {len(called) - len(failed)} passed")
    for test in sorted(failed):
        terminalreporter.write_line(f"  {test.split('::', 1)[1]}")
