"""Background saves: what is on disk is the moment of the call, and no failure is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint import background, transfer
from support.checkpoints import LAYOUTS, same


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writing waits until the event is set."""
    go = threading.Event()
    plain = background.write
    monkeypatch.setattr(background, "write", lambda *arguments: (go.wait(20), plain(*arguments))[1])
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


def test_a_save_returns_before_it_is_written(tmp_path: Path, slow: threading.Event) -> None:
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


@pytest.mark.parametrize("path", ["a", "absent/a"])
def test_the_end_of_the_program_waits_and_tells_of_failures(tmp_path: Path, path: str) -> None:
    script = "import sys, numpy as np, optimlite as ol; ol.save(sys.argv[1], x=np.ones(3_000_000), background=True)"
    result = subprocess.run([sys.executable, "-c", script, tmp_path / path], capture_output=True, text=True)
    if path == "a":
        assert result.stderr == ""
        assert same(ol.load(tmp_path / "a"), {"x": np.ones(3_000_000)})
    else:
        assert "FileNotFoundError" in result.stderr


def test_a_forked_child_does_not_wait_for_its_parents_save(tmp_path: Path, slow: threading.Event) -> None:
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
