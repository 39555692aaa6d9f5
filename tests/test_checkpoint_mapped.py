"""Restoring from the file's pages in memory: the same bytes, and no signal whatever happens to the file meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.native import runtime
from optimlite.checkpoint import CheckpointError, mapped, transfer

if not mapped.fcntl:
    pytest.skip("leases are Linux's", allow_module_level=True)


def lease(path: Path) -> mapped.Mapped | None:
    """As for a file that is read; the caller closes the lease."""
    return mapped.Mapped.of(os.open(path, os.O_RDONLY))


@pytest.fixture(autouse=True)
def leases(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    if not (found := lease(tmp_path / "x")):
        pytest.skip("no leases in this file system")
    found.close()
    os.close(found.fd)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Everything is mapped that may be; whether each batch was."""
    monkeypatch.setattr(transfer, "PIECE", 4096)
    monkeypatch.setattr(transfer, "THREADED", 0)
    for name in ("LEAST", "WORTH", "A_FAULT"):
        monkeypatch.setattr(mapped, name, 1)
    found: list[bool] = []
    read = mapped.Mapped.read

    def watched(self: mapped.Mapped, batch: list[Any], use: Any) -> bool:
        found.append(read(self, batch, use))
        return found[-1]

    monkeypatch.setattr(mapped.Mapped, "read", watched)
    return found


def parts() -> dict[str, np.ndarray]:
    raw = np.random.default_rng(0).integers(0, 256, 120_000, np.uint8)
    return {"doubles": (raw[:80_000].astype(float) / 7).reshape(200, 400), "odd": raw[:33_333].astype(">i2"),
            "columns": np.asfortranarray(raw.reshape(300, 400).astype(np.float32)), "bools": raw[:7] > 9,
            "one": raw[:1], "apart": raw.astype(np.int32)[::3], "none": raw[:0], "bytes": raw.copy()}


def zeros() -> dict[str, np.ndarray]:
    return {"doubles": np.zeros((400, 200)).T, "odd": np.zeros(66_666, ">i2")[::2],
            "columns": np.zeros((300, 400), np.float32), "bools": np.ones(7, bool), "one": np.zeros(1, np.uint8),
            "apart": np.zeros(40_000, np.int32), "none": np.zeros(0, np.uint8),
            "bytes": np.zeros(120_001, np.uint8)[1:]}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in b)


@pytest.mark.parametrize("verify", [True, False])
def test_arrays_of_any_kind_come_from_the_mapped_file(tmp_path: Path, used: list[bool], verify: bool) -> None:
    ol.save(tmp_path / "a", model=parts())
    live = zeros()
    ol.restore(tmp_path / "a", model=live, verify=verify)
    assert same(live, parts())
    assert len(used) > 10
    assert all(used)
    used.clear()
    assert same(ol.load(tmp_path / "a")["model"], parts())
    assert used
    assert all(used)


def test_damage_is_found_there_too(tmp_path: Path, used: list[bool]) -> None:
    ol.save(tmp_path / "a", model=parts())
    data = bytearray((tmp_path / "a").read_bytes())
    for place in range(len(data) - 1, len(data) - 900_000, -90_001):
        data[place] ^= 8
        (tmp_path / "a").write_bytes(data)
        data[place] ^= 8
        live = zeros()
        with pytest.raises(CheckpointError, match="is damaged: its checksum"):
            ol.restore(tmp_path / "a", model=live)
        assert same(live, zeros())
    assert used
    assert all(used)


CUT = "import os, sys; file = open(sys.argv[1], 'r+b'); file.truncate(100)"


@pytest.mark.parametrize("at", [0, 3])
def test_who_cuts_the_file_short_meanwhile_waits(
        tmp_path: Path, used: list[bool], at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lease, the first access behind the file's new end is a SIGBUS.  What is left is read from then on."""
    values, live = parts(), zeros()
    del values["odd"], live["odd"]               # which would be read, and cast, before the others
    ol.save(tmp_path / "a", model=values)
    put, calls, children = transfer.put, iter(range(10_000)), []

    def cutting(array: np.ndarray, buffer: np.ndarray) -> None:
        if next(calls) == at:
            children.append(subprocess.Popen([sys.executable, "-c", CUT, str(tmp_path / "a")]))
            with pytest.raises(subprocess.TimeoutExpired):
                children[0].wait(0.7)            # it waits
        put(array, buffer)

    monkeypatch.setattr(transfer, "put", cutting)
    count = ol.get_num_threads()
    ol.set_num_threads(1)
    try:
        ol.restore(tmp_path / "a", model=live, verify=False)
    finally:
        ol.set_num_threads(count)
    assert same(live, values)
    assert used[0]
    assert not used[-1]
    assert children[0].wait(20) == 0
    assert (tmp_path / "a").stat().st_size == 100
    with pytest.raises(CheckpointError, match="cut short"):
        ol.restore(tmp_path / "a", model=live)


def test_a_file_that_somebody_writes_to_is_read(tmp_path: Path, used: list[bool]) -> None:
    ol.save(tmp_path / "a", model=parts())
    with open(tmp_path / "a", "r+b"):
        live = zeros()
        ol.restore(tmp_path / "a", model=live)
        assert same(live, parts())
    assert not used


def test_the_lease_ends_with_the_call(tmp_path: Path, used: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    ol.save(tmp_path / "a", model=parts())
    ol.restore(tmp_path / "a", model=zeros())
    assert used
    os.close(os.open(tmp_path / "a", os.O_RDWR | os.O_NONBLOCK))         # EWOULDBLOCK if there is a lease

    def fails(*_: Any) -> None:
        raise OSError("as it should")

    monkeypatch.setattr(transfer, "put", fails)
    with pytest.raises(OSError, match="as it should"):
        ol.restore(tmp_path / "a", model=zeros())
    os.close(os.open(tmp_path / "a", os.O_RDWR | os.O_NONBLOCK))


def test_a_lease_that_is_lost_is_no_error(tmp_path: Path) -> None:
    found = lease(tmp_path / "x")
    assert found
    found.close()
    found.close()
    os.close(found.fd)


def test_small_pages_are_copied_instead(tmp_path: Path, used: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "A_FAULT", 1 << 60)
    monkeypatch.setattr(mapped, "MORE_FAULTS", -1)
    ol.save(tmp_path / "a", model=parts())
    live = zeros()
    ol.restore(tmp_path / "a", model=live, verify=False)
    assert same(live, parts())
    assert used[0]
    assert not used[-1]


def test_what_is_not_in_memory_is_read(tmp_path: Path, used: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    ol.save(tmp_path / "a", model=parts())
    monkeypatch.setattr(mapped, "resident", lambda data: False)
    live = zeros()
    ol.restore(tmp_path / "a", model=live)
    assert same(live, parts())
    assert used
    assert not any(used)


def test_who_is_in_memory_is_known(tmp_path: Path) -> None:
    assert _core.resident(np.zeros(0, np.uint8))
    data = np.random.default_rng(0).bytes(3 << 20)
    (tmp_path / "a").write_bytes(data)
    view = np.memmap(tmp_path / "a", np.uint8, "r")
    assert _core.resident(view)
    assert _core.resident(view[5_000:5_001])
    with open(tmp_path / "a", "rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], 1 << 20, os.RWF_NOWAIT)
        except BlockingIOError:
            assert not _core.resident(view)
            assert bytes(view) == data
            assert _core.resident(view)
        except OSError:
            pytest.skip("this file system can't tell")


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 200, 4096, 100_003])
def test_streams_have_every_byte_and_no_other(length: int) -> None:
    source = np.random.default_rng(length).integers(0, 256, length + 80, np.uint8)
    target = np.zeros(length + 200, np.uint8)
    for to in (0, 1, 31, 63, 64):
        for start in (0, 1, 17, 64):
            target[:] = 7
            _core.stream(target[to:to + length], source[start:start + length])
            assert target[to:to + length].tobytes() == source[start:start + length].tobytes()
            assert (target[:to] == 7).all()
            assert (target[to + length:] == 7).all()
    with pytest.raises(ValueError, match="the same length"):
        _core.stream(target[:2], source[:3])
