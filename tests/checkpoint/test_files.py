"""Files of checkpoints: modes and links, the order of calls, several threads, checksums, mapped arrays."""

from __future__ import annotations

import _thread
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint import sums, system
from optimlite.checkpoint import transfer as transfer_module
from optimlite.checkpoint.reader import File
from optimlite.engine import threads as threads_module
from support.checkpoints import LAYOUTS, same, until


def test_mode_umask_symlink_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    try:
        ol.save("a", part=1)
        assert os.stat("a").st_mode & 0o777 == 0o640
        os.chmod("a", 0o604)
        ol.save("a", part=2)
        assert os.stat("a").st_mode & 0o777 == 0o604
    finally:
        os.umask(before)
    os.mkdir("folder")
    os.symlink("../a", "folder/link")
    os.symlink("new", "dangling")
    ol.save("folder/link", part=3)
    ol.save(Path("dangling"), part=4)
    assert os.readlink("folder/link") == "../a"
    assert (ol.load("a"), ol.load("new"), ol.load("folder/link")) == ({"part": 3}, {"part": 4}, {"part": 3})
    assert sorted(os.listdir()) == ["a", "dangling", "folder", "new"]
    with pytest.raises(IsADirectoryError):
        ol.save("folder", part=1)
    with pytest.raises(FileNotFoundError):
        ol.save("absent/a", part=1)
    with pytest.raises(FileNotFoundError):
        ol.load("absent")
    os.mkfifo("pipe")
    with pytest.raises(OSError, match="must be a regular file"):
        ol.save("pipe", part=1)
    for path in ("pipe", "folder"):
        with pytest.raises(ol.CheckpointError, match=f"{path}: a checkpoint must be a regular file"):
            ol.load(path)


def test_the_order_of_write_fsync_rename_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("pwritev", "fsync", "replace", "fchmod"):
        plain = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, plain=plain, name=name: (calls.append(name), plain(*a))[1])
    ol.save(tmp_path / "a", part=np.ones(3))
    assert calls == ["pwritev", "pwritev", "fsync", "replace", "fsync"]
    calls.clear()
    ol.save(tmp_path / "a", part=np.ones(3), fsync=False)
    assert calls == ["fchmod", "pwritev", "pwritev", "replace"]


def test_only_temporaries_that_nobody_holds_are_swept(tmp_path: Path) -> None:
    held, stale = tmp_path / f".optimlite-{'a' * 16}.tmp", tmp_path / f".optimlite-{'b' * 16}.tmp"
    others = [tmp_path / ".optimlite-note.tmp", tmp_path / "x.tmp", tmp_path / f".optimlite-{'c' * 16}.tmp.txt"]
    for path in (held, stale, *others):
        path.touch()
    os.symlink(others[0], tmp_path / f".optimlite-{'d' * 16}.tmp")
    with open(held, "rb") as file:
        system.lock(file.fileno())
        ol.save(tmp_path / "a", part=1)
        assert held.exists()
        assert not stale.exists()
        assert all(path.exists() for path in others)
    ol.save(tmp_path / "a", part=1)
    assert not held.exists()


def test_short_writes_and_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pwritev", "preadv"):
        plain = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd, buffers, at, plain=plain: plain(fd, [buffers[0][:7]], at))
    parts = {"a": np.arange(10), "b": [np.arange(3.0), np.zeros(0), np.array(2)]}
    ol.save(tmp_path / "a", **parts)
    assert same(ol.load(tmp_path / "a"), parts)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_large_arrays_over_any_number_of_threads(tmp_path: Path, count: int) -> None:
    ol.set_num_threads(count)
    random = np.random.default_rng(0)
    parts = {"model": {f"{k}": random.random(n, np.float32) for k, n in enumerate([3_000_001, 5, 700_000, 262_144, 1])},
             "f": np.asfortranarray(random.random((600, 700)))}
    told: list[tuple[int, int]] = []
    ol.save(tmp_path / "a", **parts, fsync=False, progress=lambda done, total: told.append((done, total)))
    total = parts["f"].nbytes + sum(array.nbytes for array in parts["model"].values())
    assert told[-1] == (total, total)
    assert told == sorted(told)
    assert len(told) > 2
    assert same(ol.load(tmp_path / "a"), parts)
    live = {"model": {k: np.zeros_like(a) for k, a in parts["model"].items()}, "f": np.zeros((600, 700)).T.copy().T}
    ol.restore(tmp_path / "a", **live)
    assert same(live, parts)
    with File(tmp_path / "a") as file:
        assert all(tensor.crc == zlib.crc32(a.tobytes()) for name, a in parts["model"].items()
                   for tensor in [file.tensors[f"model.{name}"]])


@pytest.mark.parametrize("distance", [0, 16, 48, 64, 2048, 4080])
def test_wherever_an_array_stands_it_gets_the_files_bytes(tmp_path: Path, distance: int) -> None:
    """Where a direct copy would be slow, the bytes take another way."""
    values = np.random.default_rng(0).random(700_001)
    others = {"first": np.arange(5), "t": values.reshape(-1, 1)[:300_000:2, 0], "small": np.ones(3)}
    ol.save(tmp_path / "a", a=values, **others)
    with File(tmp_path / "a") as file:
        begin = file.tensors["a"].begin
    memory = np.zeros(values.nbytes + 8192, np.uint8)
    start = (begin + distance - memory.ctypes.data) % 4096
    live = memory[start:start + values.nbytes].view(np.float64)
    assert transfer_module.at_odds(live.ctypes.data, begin) == (distance in (16, 48))
    for verify in (True, False):
        live[...] = 0
        rest = {name: np.zeros_like(array) for name, array in others.items()}
        ol.restore(tmp_path / "a", a=live, **rest, verify=verify)
        assert same(live, values)
        assert all(same(rest[name], array) for name, array in others.items())
    assert not memory[:start].any()
    assert not memory[start + values.nbytes:].any()


def test_one_thread_writes_while_another_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None) -> None:
    """The file is the one that a single thread writes; a fault of either thread comes out, and ends both."""
    monkeypatch.setattr(transfer_module, "PIECE", 512)
    monkeypatch.setattr(transfer_module, "THREADED", 0)
    before = _thread._count()
    raw = np.random.default_rng(0).standard_normal((40, 60))
    parts = {name: np.asarray(layout(raw)) for name, layout in LAYOUTS.items()} | {"big": raw.astype(">f8")}
    for count in (1, 2):
        ol.set_num_threads(count)
        ol.save(tmp_path / str(count), parts=parts)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    with monkeypatch.context() as ending:                # as at the end of a program since CPython 3.12
        def refused(*_: Any) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        ending.setattr(threads_module, "start_new_thread", refused)
        ol.save(tmp_path / "2", parts=parts)
        assert all(same(found, parts[name]) for name, found in ol.load(tmp_path / "2")["parts"].items())
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    for name in ("full", "take"):
        with monkeypatch.context() as broken:
            calls = iter(range(30))
            whole = getattr(transfer_module, name)

            def fails(*args: Any, calls: Any = calls, whole: Any = whole) -> Any:
                if next(calls, None) is None:
                    raise OSError("as it should")
                return whole(*args)

            broken.setattr(transfer_module, name, fails)
            with pytest.raises(OSError, match="as it should"):
                ol.save(tmp_path / "2", parts={**parts, "more": raw})
        assert until(lambda: _thread._count() == before)
        assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_checksums_are_zlibs() -> None:
    data = np.random.default_rng(0).integers(0, 256, 70_000, np.uint8)
    for size in [*range(0, 1300), 4096, 65_535, 65_536, 65_537]:
        for start in (0, 1, 7):
            part = data[start:start + size]
            assert sums.crc32(part) == zlib.crc32(part)
    for cut in (0, 1, 63, 64, 5000):
        moved = sums.times(sums.shift(len(data) - cut), zlib.crc32(data[:cut]))
        assert moved ^ zlib.crc32(data[cut:]) == zlib.crc32(data)


def test_a_mapped_file_is_read_only_and_survives_the_next_save(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", part=np.arange(1000.0))
    mapped = ol.load(tmp_path / "a", mmap=True)["part"]
    assert not mapped.flags.writeable
    assert mapped.ctypes.data % 64 == 0
    ol.save(tmp_path / "a", part=np.zeros(3))
    assert same(np.array(mapped), np.arange(1000.0))
