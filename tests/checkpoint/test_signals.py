"""Saves from signal handlers and callbacks, beside other threads; what is interrupted leaves nothing behind."""

from __future__ import annotations

import _thread
import contextlib
import gc
import operator
import os
import random
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint import background
from support.checkpoints import same, until
from support.helpers import output_of
from support.interrupts import interrupted

# Signal handlers -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("call", ["ol.save('small', w=W[:10])", "ol.load('old')", "saving.wait()",
                                  "ol.restore('old', w=np.empty(10, F))",
                                  "ol.save('small', background=True, w=W[:10])"])
def test_a_handler_saves_while_a_call_waits_for_a_background_save(tmp_path: Path, call: str) -> None:
    output_of(f"""
        import signal, numpy as np, optimlite as ol
        F = np.float32
        W = np.ones(20_000_000, F)
        ol.save("old", w=W[:10])
        signal.signal(signal.SIGALRM, lambda *_: ol.save("e", w=W[:10]))
        saving = ol.save("big", background=True, fsync=False, w=W)
        signal.setitimer(signal.ITIMER_REAL, .005)
        {call}
        assert not saving._crew.wait()
        assert ol.load("e")["w"].size == 10
        assert ol.load("big")["w"].size == W.size
    """, folder=tmp_path)


@pytest.mark.rest
def test_a_handler_saves_in_the_first_save_of_a_program(tmp_path: Path) -> None:
    """At 12 moments of the import of what saves, which takes about 10 ms."""
    for moment in range(1, 13):
        output_of("""
            import signal, sys, numpy as np, optimlite as ol
            signal.signal(signal.SIGALRM, lambda *_: ol.save("e", w=np.ones(3)))
            signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
            ol.save("a", w=np.ones(3))
            signal.setitimer(signal.ITIMER_REAL, 0)
            ol.load("a")
        """, moment * 0.001, folder=tmp_path)


@pytest.mark.rest
@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_handlers_save_at_random_moments(tmp_path: Path, count: int) -> None:
    """Foreground and background saves, loads, restores, waits: none hangs, and every file is whole."""
    output_of("""
        import itertools, random, signal, sys, numpy as np, optimlite as ol
        chance, told = random.Random(0), 0
        W, V = np.ones(3_000_000, np.float32), np.ones(100_000)
        def handler(*_):
            global told
            told += 1
            ol.save("handler", fsync=False, background=told % 2 == 0, w=V, told=told)
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 2e-2))
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        for turn in itertools.count():
            ol.save("main", fsync=False, background=turn % 3 > 0, w=W, turn=turn)
            W += 1
            if turn % 4 == 0:
                assert (ol.load("main")["w"] == ol.load("main", mmap=True)["w"]).all()
            if turn % 5 == 0:
                copy = np.empty_like(W)
                assert (copy[0] == ol.restore("main", w=copy)["turn"] + 1) or (copy == copy[0]).all()
            if told >= int(sys.argv[1]):
                break
        signal.setitimer(signal.ITIMER_REAL, 0)
        last = ol.load("main")
        assert (last["w"] == last["turn"] + 1).all()
        last = ol.load("handler")
        assert (last["w"] == 1).all() and last["told"] >= told - 1
    """, count, folder=tmp_path, timeout=60 + count / 2)
    assert sorted(os.listdir(tmp_path)) == ["handler", "main"]


def test_no_call_imports_in_the_main_thread(tmp_path: Path) -> None:
    """An interrupt between two lines of importlib leaves a lock behind, and one in its callbacks is lost."""
    output_of("""
        import sys, numpy as np, optimlite as ol
        params = {"W": np.ones(3)}
        opt = ol.Adam(params)
        def profile(frame, event, argument):
            assert frame.f_code.co_name != "_get_module_lock", frame.f_back.f_back
        sys.setprofile(profile)
        ol.save("a", model=params, optimizer=opt)
        ol.restore("a", model=params, optimizer=opt)
        ol.load("a")
        checkpoints = ol.Checkpoints(".")
        checkpoints.save(model=params)
        checkpoints.restore(model=params)
    """, folder=tmp_path)


@pytest.mark.parametrize("call", ["ol.save('a', x=1)", "ol.lr_scheduler", "ol.RAdam"])
def test_an_import_that_was_interrupted_blocks_none_of_ours(tmp_path: Path, call: str) -> None:
    output_of(f"""
        import _imp, optimlite as ol
        _imp.acquire_lock()                          # as importlib does, when the interrupt comes
        {call}
        assert not _imp.lock_held()
    """, folder=tmp_path, timeout=20)


def test_a_handler_and_the_program_save_to_one_folder_of_checkpoints(tmp_path: Path) -> None:
    checkpoints = ol.Checkpoints(tmp_path, keep=5)
    checkpoints.save(epoch=0)

    def progress(done: int, total: int) -> None:         # as a handler that comes in the middle of the save
        checkpoints.save(epoch=2)

    checkpoints.save(epoch=1, x=np.ones(3), progress=progress)
    assert [ol.load(path)["epoch"] for path in checkpoints.paths] == [0, 1, 2]


# Callbacks and other threads -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("in_background", [False, True])
def test_progress_may_load_and_save(tmp_path: Path, in_background: bool) -> None:
    ol.save(tmp_path / "old", x=np.arange(3))
    told: list[Any] = []

    def progress(done: int, total: int) -> None:
        told.append(ol.load(tmp_path / "old"))
        ol.save(tmp_path / "other", x=np.arange(4), background=in_background)
        with pytest.raises(RuntimeError, match="can't wait for itself") if in_background else contextlib.nullcontext():
            saving.wait()

    saving = ol.save(tmp_path / "first", x=1)
    go = _thread.allocate_lock()
    go.acquire()
    saving = ol.save(tmp_path / "a", x=np.ones(3), background=in_background,
                     progress=lambda *bytes: (go.acquire() if in_background else None, progress(*bytes)))
    go.release()
    assert same(ol.load(tmp_path / "a"), {"x": np.ones(3)})
    assert same(told, [{"x": np.arange(3)}])
    assert same(ol.load(tmp_path / "other"), {"x": np.arange(4)})


def test_what_is_summed_is_what_is_written(tmp_path: Path) -> None:
    """Another thread trains on while one saves: the values are of any moment, and the file is whole."""
    output_of("""
        import threading, numpy as np, optimlite as ol
        W = np.ones((1000, 1000), np.float32)
        stop = False
        def train():
            while not stop:
                np.add(W, 1, out=W)
        thread = threading.Thread(target=train)
        thread.start()
        try:
            for _ in range(20):
                ol.save("a", fsync=False, w=W)
                ol.load("a")
        finally:
            stop = True
            thread.join()
    """, folder=tmp_path)


# Nothing is left over ------------------------------------------------------------------------------------------------

def left() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), _thread._count()


def nothing_more(than: tuple[int, int]) -> bool:
    """Or less: among the threads that were counted then, one may have been about to end."""
    return all(map(operator.le, left(), than))


def memory() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.rest
@pytest.mark.parametrize("times", [500, pytest.param(100_000, marks=pytest.mark.long)])
def test_saves_and_restores_leave_nothing_behind(tmp_path: Path, times: int) -> None:
    model = {"W": np.ones((30, 40)), "b": np.ones(7, np.float32)}

    def turn(count: int) -> None:
        ol.save(tmp_path / "a", fsync=False, background=count % 5 == 0, model=model, epoch=count)
        assert ol.restore(tmp_path / "a", model=model)["epoch"] == count

    for count in range(100):
        turn(count)
    before, used = left(), memory()
    for count in range(times):
        turn(count)
    assert until(lambda: nothing_more(before))
    assert memory() - used < 8 << 20


def test_saves_and_restores_that_are_interrupted_anywhere_leave_nothing_behind(tmp_path: Path) -> None:
    """At every 29th of the moments at which Python looks for signals."""
    model = {"W": np.ones((11, 10)), "b": np.ones(7, np.float32)}

    def save() -> None:
        ol.save(tmp_path / "a", fsync=False, model=model)

    def restore() -> None:
        ol.restore(tmp_path / "a", model=model)

    save()
    for act in (save, restore):
        interrupted(act, 3)                      # which imports, and fills caches
        before, moment = left(), 1
        while interrupted(act, moment):
            assert until(lambda: nothing_more(before)), moment       # noqa: B023 - runs at once
            moment += 29
    save()
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("times", [60, pytest.param(2000, marks=pytest.mark.long)])
def test_interrupted_saves_and_restores_leave_nothing_behind(tmp_path: Path, times: int) -> None:
    """Real signals at random moments, also while several threads are at work; the file is the old one or the new."""
    model = {"W": np.ones((1100, 1000)), "b": np.ones(7, np.float32)}
    chance, count = random.Random(0), 0

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    def work() -> None:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 2e-2))
        while True:
            ol.save(tmp_path / "a", fsync=False, background=count % 3 == 0, model=model)
            ol.restore(tmp_path / "a", model=model)

    def turn() -> None:
        nonlocal count
        count += 1
        gc.disable()                     # a collection's callbacks, such as Hypothesis's, would swallow the interrupt
        try:
            with pytest.raises(KeyboardInterrupt):
                work()
        finally:
            gc.enable()

    ol.save(tmp_path / "a", model=model)
    ol.restore(tmp_path / "a", model=model)          # on a busy machine, no turn may get that far
    handled = signal.signal(signal.SIGALRM, stop)
    try:
        for _ in range(20):
            turn()
        background.settle()
        before, used = left(), memory()
        for _ in range(times):
            turn()
        background.settle()
        assert until(lambda: nothing_more(before))
        assert memory() - used < 64 << 20            # the allocator keeps 12 MB for each thread that was there at once
    finally:
        signal.signal(signal.SIGALRM, handled)
    ol.save(tmp_path / "a", model=model)
    ol.restore(tmp_path / "a", model=model)
    assert os.listdir(tmp_path) == ["a"]
