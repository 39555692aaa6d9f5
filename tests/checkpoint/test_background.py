"""Background saves: what is on disk is the moment of the call; no failure is lost, also where a wait is interrupted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint import background, transfer
from optimlite.engine import threads
from support.checkpoints import LAYOUTS, same
from support.helpers import run_python
from support.interrupts import interrupted


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threads.Flag:
    """Writing waits until the flag is set."""
    go, plain = threads.Flag(), background.write
    monkeypatch.setattr(background, "write", lambda *arguments: (go.wait(), plain(*arguments)))
    return go


@pytest.mark.parametrize("saves", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_steps_during_a_save_are_not_in_it(tmp_path: Path, saves: int) -> None:
    random = np.random.default_rng(0)
    params = {"W": random.random((100, 100), np.float32), "b": np.asfortranarray(random.random((30, 50)))}
    gradients = [random.random(p.shape).astype(p.dtype) for p in params.values()]
    optimizer = ol.Adam(params, lr=0.1)
    optimizer.step(grads=gradients)
    for _ in range(saves):
        before = {"model": {key: a.copy() for key, a in params.items()}, "optimizer": optimizer.state_dict()}
        saving = ol.save(tmp_path / "a", background=True, fsync=False, model=params, optimizer=optimizer)
        optimizer.step(grads=gradients)
        while not saving.done:
            optimizer.step(grads=gradients)
            time.sleep(1e-5)             # who only lets go of the GIL for moments starves other threads for seconds
        assert same(ol.load(tmp_path / "a"), before)
        assert not same(params["W"], before["model"]["W"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_layout_are_copied_for_it(
        tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PIECE", 256)
    array = np.asarray(LAYOUTS[layout](np.random.default_rng(0).random((60, 70)).astype(">f8")))
    before = array.copy()
    saving = ol.save(tmp_path / "a", background=True, x=array, progress=lambda *_: None)
    if array.flags.writeable:
        array[...] = 0
    saving.wait()
    assert same(ol.load(tmp_path / "a")["x"], before)


def test_a_save_returns_before_it_is_written(tmp_path: Path, slow: threads.Flag) -> None:
    array = np.arange(10.0)
    told: list[tuple[int, int]] = []
    saving = ol.save(tmp_path / "a", background=True, part=array, progress=lambda *bytes: told.append(bytes))
    assert (saving.done, saving.written, saving.total) == (False, 0, 80)
    assert os.listdir(tmp_path) == []
    array[:] = 0
    slow.set()
    assert same(ol.load(tmp_path / "a"), {"part": np.arange(10.0)})       # reading waits for it
    assert (saving.done, saving.written, told) == (True, 80, [(80, 80)])


@pytest.mark.parametrize("call", ["save", "background save", "load", "restore", "wait"])
def test_a_failure_reaches_the_next_call_once(tmp_path: Path, call: str) -> None:
    ol.save(tmp_path / "a", part=1)
    saving = ol.save(tmp_path / "absent" / "a", background=True, part=1)
    calls = {"save": lambda: ol.save(tmp_path / "a", part=2), "load": lambda: ol.load(tmp_path / "a"),
             "background save": lambda: ol.save(tmp_path / "a", part=2, background=True), "wait": saving.wait,
             "restore": lambda: ol.restore(tmp_path / "a")}
    with pytest.raises(FileNotFoundError, match="absent"):
        calls[call]()
    calls[call]()
    assert ol.load(tmp_path / "a") == {"part": 2 if "save" in call else 1}


def test_a_failing_progress_stops_the_save(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", part=np.ones(3))
    saving = ol.save(tmp_path / "a", background=True, part=np.zeros(3), progress=lambda done, total: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        saving.wait()
    assert same(ol.load(tmp_path / "a"), {"part": np.ones(3)})
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(("end", "status"), [("", 1), ("sys.exit(3)", 1), ("saving.wait()", 1)])
def test_a_failed_last_save_fails_the_program(tmp_path: Path, end: str, status: int) -> None:
    done = run_python(f"""
        import atexit, sys, numpy as np, optimlite as ol
        atexit.register(print, "the first handler runs, too")
        saving = ol.save("absent/a", background=True, x=np.ones(3))
        {end}
    """, folder=tmp_path)
    assert done.returncode == status
    assert "FileNotFoundError" in done.stderr
    assert "the background save of '" in done.stderr
    assert "absent/a' failed: No such file or directory" in done.stderr
    assert done.stdout == "the first handler runs, too\n"


def test_a_failure_says_what_it_is_about(tmp_path: Path) -> None:
    ol.save(tmp_path / "absent" / "a", background=True, x=1)
    with pytest.raises(FileNotFoundError) as caught:
        ol.load(tmp_path / "b")
    assert f"the background save of '{tmp_path}/absent/a' failed" in str(caught.value)
    saving = ol.save(tmp_path / "a", background=True, x=np.ones(1), progress=lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as other:
        saving.wait()
    assert other.value.__notes__ == [f"the background save of '{tmp_path}/a' failed"]


def test_the_end_of_the_program_waits(tmp_path: Path) -> None:
    done = run_python("import numpy as np, optimlite as ol; ol.save('a', x=np.ones(3_000_000), background=True)",
                      folder=tmp_path)
    assert done.stderr == ""
    assert same(ol.load(tmp_path / "a"), {"x": np.ones(3_000_000)})


@pytest.mark.parametrize("late", [True, False])          # an exit handler from before the first save runs after its end
def test_a_save_in_the_background_from_an_exit_handler(tmp_path: Path, late: bool) -> None:
    done = run_python(f"""
        import atexit, numpy as np, optimlite as ol
        def last():
            ol.save("a", background=True, x=np.ones(3_000_000))
        {"ol.save('b', x=1)" if late else ""}
        atexit.register(last)
        ol.save("b", x=1)
    """, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert ol.load(tmp_path / "a")["x"].size == 3_000_000


def test_without_threads_a_save_goes_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threads, "start_new_thread", refused)
    big = np.arange(3_000_000.0)
    assert ol.save(tmp_path / "a", background=True, x=big).done
    assert same(ol.load(tmp_path / "a"), {"x": big})
    with pytest.raises(FileNotFoundError):
        ol.save(tmp_path / "absent" / "a", background=True, x=big)
    assert not background._pending


def test_a_forked_child_does_not_wait_for_its_parents_save(tmp_path: Path, slow: threads.Flag) -> None:
    ol.save(tmp_path / "a", background=True, part=np.ones(3))
    child = os.fork()
    if not child:
        try:
            background.write.__closure__[0].cell_contents.set()           # type: ignore[union-attr]
            ol.save(tmp_path / "b", part=1)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    slow.set()
    assert ol.load(tmp_path / "b") == {"part": 1}
    assert same(ol.load(tmp_path / "a"), {"part": np.ones(3)})


def test_a_wait_that_is_interrupted_in_the_middle_forgets_nothing(tmp_path: Path, slow: threads.Flag) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    ol.save(tmp_path / "a", background=True, x=1)
    try:
        for call in (lambda: ol.load(tmp_path / "a"), lambda: ol.save(tmp_path / "b", x=2), background.settle):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                call()
    finally:
        signal.signal(signal.SIGALRM, before)
    slow.set()
    assert ol.load(tmp_path / "a") == {"x": 1}


@pytest.mark.parametrize("path", ["a", "absent/a"])
def test_a_wait_that_is_interrupted_anywhere_forgets_nothing(tmp_path: Path, path: str) -> None:
    moment, was = 1, True
    while was:
        ol.save(tmp_path / path, background=True, fsync=False, x=moment)
        failed = False
        try:
            was = interrupted(background.settle, moment)
        except FileNotFoundError:
            was, failed = False, True
        if path == "a":
            assert ol.load(tmp_path / "a") == {"x": moment}
        elif not failed:
            with pytest.raises(FileNotFoundError, match=r"the background save of '.*absent/a' failed"):
                background.settle()
        moment += 1
    assert moment > 5
