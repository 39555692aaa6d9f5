"""Mutation testing of the scheduler and state code: small changes to it must fail a test.

`make mutation` runs it. mutmut makes the mutants, in a copy of the package under build/mutation. The tests are
collected once and run once, to see which of them reach which function; each mutant is then a fork that runs those,
every test function's quickest case first, until one fails or the time is over. Mutants of functions that run while
modules are imported get a process of their own. survivors.txt says of survivors that were looked at why they live;
others are printed.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from mutmut.mutation import trampoline
from mutmut.mutation.file_mutation import mutate_file_contents

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "mutation"
LISTED = Path(__file__).with_name("survivors.txt")
BUDGET = 2.0                                         # seconds of tests for a mutant that survives
TARGET = 85.0                                        # per cent killed
SOURCES = ["lr_scheduler/*.py", "engine/state.py", "engine/state_dict.py", "engine/nesting.py", "checks.py"]
TESTS = ["tests/lr_scheduler", "tests/engine/test_state_dict.py", "tests/engine/test_state_dict_refusals.py",
         "tests/engine/test_state_changes.py", "tests/engine/test_state_details.py", "tests/engine/test_resume.py",
         "tests/engine/test_messages.py", "tests/engine/test_checks.py", "tests/engine/test_nesting.py",
         "tests/engine/test_groups.py", "tests/engine/test_nested_parameters.py", "tests/engine/test_changed_values.py",
         "tests/engine/test_errors.py", "tests/engine/test_array_errors.py"]
FRESH = ["tests/engine/test_errors.py", "tests/engine/test_array_errors.py", "tests/lr_scheduler/test_arguments.py",
         "tests/engine/test_messages.py", "tests/engine/test_checks.py", "tests/engine/test_nesting.py",
         "tests/engine/test_state_details.py"]


def options(tests: list[str]) -> list[str]:
    return ["-q", "-x", "--tb=no", "--no-header", "-p", "no:cacheprovider", "-p", "no:faulthandler",
            "-p", "tests.covering.sample", *tests,
            "-k", "not million and not microsecond"]  # seconds each, and clocks that the mutants' detour disturbs


def make(patterns: list[str]) -> dict[str, str]:
    """The copy with all mutants in it; gives what each one changes."""
    shutil.rmtree(TREE, ignore_errors=True)
    for name in ("optimlite", "tests", "docs"):
        shutil.copytree(ROOT / name, TREE / name, ignore=shutil.ignore_patterns("__pycache__"))
    settings = (ROOT / "pyproject.toml").read_text()
    (TREE / "pyproject.toml").write_text(settings + '\n[tool.mutmut]\nsource_paths = ["optimlite"]\n')
    os.chdir(TREE)
    changes = {}
    for path in sorted(path for source in SOURCES for path in (TREE / "optimlite").glob(source)):
        relative = path.relative_to(TREE)
        made = mutate_file_contents(str(relative), path.read_text())
        path.write_text(made.code)
        lines = made.code.splitlines()
        module = str(relative.with_suffix("")).replace("/", ".").removesuffix(".__init__")

        def text(name: str, lines: list[str] = lines, spans: Any = made.line_span_by_function_name) -> list[str]:
            span = lines[spans[name].start - 1:spans[name].end]
            return [re.sub(r"\bx\S+?__mutmut_\w+", "", line).strip() for line in span]

        for name in made.mutant_names:
            function = name.partition("__mutmut_")[0]
            difference = [line for line in difflib.ndiff(text(f"{function}__mutmut_orig"), text(name))
                          if line[0] in "-+"]
            where = function.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
            change = f"{relative} {where}: {' '.join(difference)}"
            if not patterns or any(pattern in change for pattern in patterns):
                changes[f"{module}.{name}"] = change
    return changes


class Mutants:
    """A pytest plugin: runs the tests once and then, instead of ending, once more for every mutant."""

    def __init__(self, changes: dict[str, str], jobs: int) -> None:
        self.changes, self.jobs = changes, jobs
        self.reached: dict[str, list[pytest.Item]] = defaultdict(list)
        self.seconds: dict[pytest.Item, float] = {}
        self.disturbed: list[str] = []               # tests that see the mutants' detour in the stack of calls
        self.results: dict[str, str] = {}
        self.running: dict[int, tuple[str, float]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        at_import = self.survey(session.items)
        if self.disturbed:
            print("left out, since they fail without a mutant:", *self.disturbed, sep="\n  ", file=sys.__stderr__)
        trampoline.set_mutant_under_test("")
        for k, name in enumerate(self.changes):
            while len(self.running) >= self.jobs:
                self.reap()
            self.start(name)
            if k % 100 == 0:
                self.save()
                print(k, "of", len(self.changes), dict(Counter(self.results.values())), file=sys.__stderr__, flush=True)
        while self.running:
            self.reap()
        for name in self.changes:
            if self.results[name] in ("survived", "no test") and function_of(name) in at_import:
                self.results[name] = fresh(name)
        self.save()
        return True

    def save(self) -> None:
        """What is known so far, for whoever doesn't want to wait."""
        (TREE / "results.json").write_text(json.dumps([(self.changes[name], result) for name, result in
                                                       self.results.items()], indent=1))

    def survey(self, items: list[pytest.Item]) -> set[str]:
        """Which tests reach which function; gives the functions that ran before any test."""
        at_import = set(HITS)
        for k, item in enumerate(items):
            HITS.clear()
            start = time.process_time()
            try:
                run([item, *items[k + 1:k + 2]], 1)
            except AssertionError:
                self.disturbed.append(item.nodeid)
                continue
            self.seconds[item] = time.process_time() - start
            for function in HITS:
                self.reached[function].append(item)
        for function, tests in self.reached.items():
            self.reached[function] = self.choose(tests)
        return at_import

    def choose(self, tests: list[pytest.Item]) -> list[pytest.Item]:
        """The quickest case of every test function, the next of every one, …, until they cost `BUDGET` together.

        Of tables whose rows are each about another statement, every row is a first one.
        """
        from tests.covering.sample import WHOLE  # pytest has loaded this plugin

        rank: Counter[Any] = Counter()
        ranked = []
        for item in sorted(tests, key=self.seconds.__getitem__):
            ranked.append((rank[item.function], self.seconds[item], item))
            rank[item.function] += not item.path.stem.endswith(WHOLE)
        ranked.sort(key=lambda entry: entry[:2])
        chosen, cost = [], 0.0
        for round_, seconds, item in ranked:
            cost += seconds
            if round_ == 0 or cost < BUDGET:
                chosen.append(item)
        return chosen

    def start(self, name: str) -> None:
        items = self.reached.get(function_of(name))
        if not items:
            self.results[name] = "no test"
            return
        limit = int(10 * sum(self.seconds[item] for item in items)) + 10
        child = os.fork()
        if child:
            self.running[child] = name, time.monotonic() + 10 * limit
            return
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
            trampoline.set_mutant_under_test(name)
            run(items, len(items))
        except BaseException:
            os._exit(1)
        os._exit(0)

    def reap(self) -> None:
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child:
                name, _ = self.running.pop(child)
                late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
                self.results[name] = "timeout" if late else "killed" if status else "survived"
                return
            for child, (_, deadline) in self.running.items():
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.002)


HITS: set[str] = set()                               # the functions that have run


def run(items: list[pytest.Item], count: int) -> None:
    """The first `count` tests; raises at the first that fails."""
    for k in range(count):
        following = items[k + 1] if k + 1 < len(items) else None
        for report in runtestprotocol(items[k], nextitem=following, log=False):
            if report.failed:
                raise AssertionError(f"{report.nodeid} failed:\n{report.longreprtext}")


def fresh(name: str) -> str:
    environment = {**os.environ, "MUTANT_UNDER_TEST": name, "PYTHONPATH": str(TREE)}
    try:
        done = subprocess.run([sys.executable, "-m", "pytest", *options(FRESH)], env=environment, timeout=1800,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return "timeout"
    return "killed" if done.returncode else "survived"


def function_of(mutant: str) -> str:
    return mutant.partition("__mutmut_")[0]


def listed() -> set[str]:
    return {line for line in LISTED.read_text().splitlines() if line and not line.startswith("#")}


def report(changes: dict[str, str], results: dict[str, str], whole: bool) -> int:
    count = Counter(results.values())
    known, alive = listed(), {changes[name] for name, result in results.items() if result in ("survived", "no test")}
    for change in sorted(alive - known):
        print("survived:", change)
    for change in sorted(known - alive) if whole else ():
        print("listed, but killed:", change)
    rate = 100 * (count["killed"] + count["timeout"]) / max(len(results), 1)
    print(f"{len(results)} mutants: {count['killed']} killed, {count['timeout']} ran out of time, "
          f"{count['survived']} survived, {count['no test']} reached by no test: {rate:.1f} % killed, "
          f"{len(alive - known)} survivors not listed in {LISTED.relative_to(ROOT)}")
    return int(rate < TARGET) if whole else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", help="only mutants whose file, function or change contains one of these")
    parser.add_argument("--every", type=int, default=1, help="a sample: every n-th mutant")
    parser.add_argument("--only", type=Path, help="a file of mutants, as in survivors.txt")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    only = set(arguments.only.read_text().splitlines()) if arguments.only else None
    changes = {name: change for name, change in list(make(arguments.patterns).items())[::arguments.every]
               if only is None or change in only}
    whole = not arguments.patterns and not only and arguments.every == 1
    print(f"{len(changes)} mutants", flush=True)
    sys.path[:] = [str(TREE), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
    trampoline.record_trampoline_hit = lambda name, caller=None: HITS.add(name)
    trampoline.set_mutant_under_test("stats")
    trampoline.get_mutant_under_test = lambda: trampoline._mutant_under_test    # called often; without os.environ
    mutants = Mutants(changes, arguments.jobs)
    pytest.main(options(TESTS), plugins=[mutants])
    if len(mutants.results) < len(changes):
        print("the tests fail without any mutant", file=sys.stderr)
        return 1
    return report(changes, mutants.results, whole)


if __name__ == "__main__":
    raise SystemExit(main())
