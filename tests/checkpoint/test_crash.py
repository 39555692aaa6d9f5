"""A save that is killed, or whose system calls fail, leaves the old file or the new one, and no litter for long."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import output_of

strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
ERRORS = {"ENOSPC": ("pwritev2", "pwritev", "openat", "fsync", "rename"),
          "EIO": ("pwritev2", "pwritev", "fsync", "rename", "flock", "fchmod")}


def content(version: int, size: int = 3000) -> dict[str, Any]:
    return {"model": np.full(size, version, np.float32), "version": version}


def version_of(path: Path) -> int:
    """The version that is in a file, which must be whole."""
    parts = ol.load(path)
    assert (parts["model"] == parts["version"]).all()
    assert parts["model"].size == 3000
    return int(parts["version"])


def forked(work: Callable[[], object]) -> int:
    """A child that stops, then does its work when told to go on, and exits with 3 on an OSError."""
    child = os.fork()
    if child:
        os.waitpid(child, os.WUNTRACED)
        return child
    try:
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        os._exit(0)
    except OSError:
        os._exit(3)
    finally:
        os._exit(4)


def traced(work: Callable[[], object], log: Path, *options: str) -> int:
    """Runs the work in a child under strace; returns its exit status as waitpid has it."""
    child = forked(work)
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", str(log), "-p", str(child), *options],
                              stderr=subprocess.PIPE)
    while "TracerPid:\t0" in Path(f"/proc/{child}/status").read_text():
        if tracer.poll() is not None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert tracer.stderr is not None
            pytest.skip(f"strace may not trace here: {tracer.stderr.read().decode().strip()}")
        time.sleep(0.001)
    os.kill(child, signal.SIGCONT)
    status = os.waitpid(child, 0)[1]
    tracer.wait()
    assert tracer.stderr is not None
    tracer.stderr.close()
    return status


def calls(log: Path) -> list[str]:
    return re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE)


@strace
@pytest.mark.rest
def test_killed_at_every_system_call(tmp_path: Path) -> None:
    target, log = tmp_path / "run" / "a", tmp_path / "log"
    target.parent.mkdir()
    ol.save(target, **content(0))                              # every module is imported now
    assert traced(lambda: ol.save(target, **content(0)), log) == 0
    sequence = calls(log)
    assert {"openat", "flock", "fsync", "rename", "close"} <= set(sequence)
    assert {"pwritev", "pwritev2"} & set(sequence)
    versions, kills = [], 0
    for call in sorted(set(sequence)):
        for nth in range(1, sequence.count(call) + 1):
            old = version_of(target)
            status = traced(lambda old=old: ol.save(target, **content(old + 1)), log,       # type: ignore[misc]
                            "-e", f"inject={call}:signal=KILL:when={nth}")
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            assert killed or status == 0
            kills += killed
            versions.append(version_of(target) - old)
            assert versions[-1] in (0, 1)
            if not killed:
                assert versions[-1] == 1
            ol.save(target, **content(old + 2))
            assert os.listdir(target.parent) == ["a"]          # what the killed one left was swept
    assert kills >= 15
    assert set(versions) == {0, 1}


@strace
@pytest.mark.parametrize("error", ERRORS)
def test_failing_system_calls(tmp_path: Path, error: str) -> None:
    target, log = tmp_path / "run" / "a", tmp_path / "log"
    target.parent.mkdir()
    ol.save(target, **content(1))
    assert traced(lambda: ol.save(target, **content(1)), log) == 0
    sequence = calls(log)
    tried = 0
    for call in ERRORS[error]:
        for nth in range(1, sequence.count(call) + 1):
            status = traced(lambda: ol.save(target, **content(2)), log, "-e", f"inject={call}:error={error}:when={nth}")
            last = (call, nth) == ("fsync", 2)                 # of the folder, when the new file is in its place
            swept = call == "openat" and os.WEXITSTATUS(status) == 0      # the folder to sweep couldn't be listed
            assert os.WEXITSTATUS(status) == 3 or swept, (call, nth, status)
            assert version_of(target) == (2 if last or swept else 1), (call, nth)
            assert os.listdir(target.parent) == ["a"], (call, nth)
            ol.save(target, **content(1))
            tried += 1
    assert tried >= 5


def test_a_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for it: the write past the limit fails with EFBIG."""
    import resource

    target = tmp_path / "a"
    ol.save(target, **content(1))
    for limit in (0, 100, 5000, 12_000):
        def work(limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            ol.save(target, **content(2))

        child = forked(work)
        os.kill(child, signal.SIGCONT)
        assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 3
        assert version_of(target) == 1
        assert os.listdir(tmp_path) == ["a"]


@pytest.mark.rest
@pytest.mark.parametrize("kills", [100, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("background", [False, True])
def test_killed_at_random_times(tmp_path: Path, kills: int, background: bool) -> None:
    target = tmp_path / "a"
    ol.save(target, **content(0))
    start = time.perf_counter()
    for _ in range(10):
        ol.save(target, **content(0))
    span = (time.perf_counter() - start) / 10 * 3              # of the times to choose from; follows the machine's load
    chance = random.Random(0)
    newest, changed = 0, 0
    for _ in range(kills):
        def work(first: int = newest + 1) -> None:
            for version in range(first, first + 10_000):
                ol.save(target, **content(version), background=background)

        child = forked(work)
        os.kill(child, signal.SIGCONT)
        time.sleep(chance.random() * span)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = version_of(target)
        assert found >= newest
        changed += found > newest
        span *= 0.97 if found > newest else 1.1
        newest = found
        assert len(os.listdir(tmp_path)) <= 2                  # the file, and what this child was writing
    assert changed > kills / 10
    ol.save(target, **content(newest + 1))
    assert os.listdir(tmp_path) == ["a"]


def test_two_processes_that_save_to_one_path(tmp_path: Path) -> None:
    target = tmp_path / "a"
    ol.save(target, **content(0))

    def work(first: int) -> Callable[[], None]:
        return lambda: [ol.save(target, **content(version), fsync=False)             # type: ignore[func-returns-value]
                        for version in range(first, first + 200)] and None

    children = [forked(work(1000)), forked(work(2000))]
    for child in children:
        os.kill(child, signal.SIGCONT)
    seen = set()
    alive = True
    while alive:
        seen.add(version_of(target))                           # whole at any time
        alive = os.waitpid(children[0], os.WNOHANG)[0] == 0
    assert os.waitpid(children[1], 0)[1] == 0
    assert version_of(target) in (1199, 2199)
    assert len(seen) > 5
    assert os.listdir(tmp_path) == ["a"]


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    ol.save(tmp_path / "a", **content(1))
    with pytest.raises(KeyboardInterrupt):
        ol.save(tmp_path / "a", **content(2), progress=stop)
    assert version_of(tmp_path / "a") == 1
    assert os.listdir(tmp_path) == ["a"]


def test_threads_of_one_process_may_save_at_once(tmp_path: Path) -> None:
    output_of("""
        import threading, numpy as np, optimlite as ol
        def work(k):
            for i in range(50):
                ol.save("a", x=np.full(1000, k), k=k, fsync=False, background=i % 2 == 0)
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        parts = ol.load("a")
        assert (parts["x"] == parts["k"]).all()
    """, folder=tmp_path, timeout=120)
    assert os.listdir(tmp_path) == ["a"]
