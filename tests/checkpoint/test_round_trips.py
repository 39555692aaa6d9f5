"""Saving and restoring: every dtype and layout, the safetensors library on either side, live objects, mismatches."""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import optimlite as ol
from optimlite.checkpoint import sums, system
from optimlite.checkpoint import transfer as transfer_module
from optimlite.checkpoint.reader import File
from optimlite.engine import threads as threads_module
from support.checkpoints import LAYOUTS, bits, same, training, until

DTYPES = ["?", "i1", "u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">i4", "<u4", ">u4", "<i8", ">i8", "<u8", ">u8", "<f2",
          ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", ">c8", "<c16", ">c16"]

# Values --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("piece", [1 << 20, 64])             # the second cuts every array into several
def test_every_dtype_layout_and_byte_order(
        tmp_path: Path, dtype: str, layout: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_module, "PIECE", piece)
    raw = np.random.default_rng(0).integers(0, 256, 12 * 10 * 16, np.uint8)
    array = raw[:120].reshape(12, 10) % 2 == 1 if dtype == "?" else raw.view(dtype)[:120].reshape(12, 10)
    array = np.asarray(LAYOUTS[layout](array))
    before = array.tobytes()
    ol.save(tmp_path / "a", part=array, fsync=False)
    assert array.tobytes() == before
    assert same(ol.load(tmp_path / "a")["part"], array)
    assert same(np.array(ol.load(tmp_path / "a", mmap=True)["part"]), array)
    live = np.zeros((2, *array.shape)[::-1], array.dtype).T[0] if array.ndim else np.zeros((), array.dtype)
    ol.restore(tmp_path / "a", part=live)
    assert same(live, array)
    if array.dtype.kind != "c" or array.itemsize == 8:
        assert same(safetensors.numpy.load_file(tmp_path / "a")["part"].reshape(array.shape), array)


def test_types_of_ml_dtypes(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        array = np.arange(-8, 8).astype(getattr(ml_dtypes, name)).reshape(4, 4).T
        ol.save(tmp_path / "a", part=array)
        assert same(ol.load(tmp_path / "a")["part"], array)
        live = np.zeros((4, 4), array.dtype)
        ol.restore(tmp_path / "a", part=live)
        assert same(live, array)


@pytest.mark.parametrize("value", [
    None, True, 0, -1, 2**200, 0.1, -0.0, float("nan"), float("inf"), float("-inf"), "", "é\x00\ud800\U0001f600", [],
    {}, (),
    [1, (2, [3.5, None])], {"a": {"b": ()}}, {1: "x", "1": "y", None: 0, 2.5: 1, False: 2},
    {"$array": "model"}, {"$tuple": [1]}, {"": {"": 1}}, {"a.b": 1, "a": {"b": 2}},
    np.random.default_rng(5).bit_generator.state, "x" * 100_000], ids=lambda value: repr(value)[:30])
def test_plain_values_come_back_as_they_were(tmp_path: Path, value: Any) -> None:
    ol.save(tmp_path / "a", part=value)
    assert same(ol.load(tmp_path / "a"), {"part": value})
    assert same(dict(ol.restore(tmp_path / "a", part=None)), {"part": value})
    assert same(dict(ol.restore(tmp_path / "a")), {"part": value})


def test_arrays_whose_paths_collide_or_are_unfit_for_names(tmp_path: Path) -> None:
    parts = {"__metadata__": np.arange(2), "a": {"b": np.arange(3), "": np.arange(7)}, "a.b": np.arange(4),
             "c": {"\n": np.arange(5), "\ud800": np.arange(6), 3: np.arange(8), "3": np.arange(9)}}
    ol.save(tmp_path / "a", **parts)
    assert same(ol.load(tmp_path / "a"), parts)
    assert len(safetensors.numpy.load_file(tmp_path / "a")) == 8


def test_numpy_scalars_generators_and_named_pairs(tmp_path: Path) -> None:
    W = ol.Parameter(np.arange(3.0), "W")
    ol.save(tmp_path / "a", scalar=np.float32(0.5), count=np.int64(3), pairs=[("W", W)], made=(x for x in [np.ones(2)]))
    assert same(ol.load(tmp_path / "a"),
                {"scalar": 0.5, "count": 3, "pairs": {"W": np.arange(3.0)}, "made": [np.ones(2)]})


@pytest.mark.parametrize("part", [
    np.array(["a"]), np.array([None]), np.array(0, "M8[s]"), np.zeros(2, [("x", "f4")]), np.longdouble(1), object(),
    b"x",
    np.ma.masked_array([1.0], [True]), 1j, {(1, 2): 3}, [ol.SGD([np.zeros(1)], lr=1)], np.array(1, np.longdouble)],
    ids=lambda part: str(getattr(part, "dtype", type(part).__name__)))
def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path: Path, part: Any) -> None:
    ol.save(tmp_path / "a", part=1)
    with pytest.raises(TypeError, match="part"):
        ol.save(tmp_path / "a", first=np.ones(3), part=part)
    assert ol.load(tmp_path / "a") == {"part": 1}
    assert os.listdir(tmp_path) == ["a"]


def test_a_nesting_that_contains_itself_is_refused(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested too deeply"):
        ol.save(tmp_path / "a", part=loop)


# The safetensors library ---------------------------------------------------------------------------------------------

def test_the_library_reads_ours_and_we_read_the_librarys(tmp_path: Path) -> None:
    parts = training()
    ol.save(tmp_path / "ours", **parts)
    theirs = safetensors.numpy.load_file(tmp_path / "ours")
    assert same(theirs["model.W"], parts["model"]["W"].data)
    arrays = {"layer.W": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(3, dtype=np.int16)}
    safetensors.numpy.save_file(arrays, tmp_path / "theirs", metadata={"format": "np"})
    assert same(dict(sorted(ol.load(tmp_path / "theirs").items(), reverse=True)), arrays)
    live = {"layer": {"W": np.zeros((2, 3), np.float32)}, "b": np.zeros(3, np.int16)}
    ol.restore(tmp_path / "theirs", model=live)
    assert same(live["layer"]["W"], arrays["layer.W"])
    assert same(live["b"], arrays["b"])


def test_a_file_that_the_library_wrote_anew_keeps_its_checksums(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", **training(), note="x")
    with safetensors.safe_open(tmp_path / "a", "np") as file:
        metadata = file.metadata()
    arrays = safetensors.numpy.load_file(tmp_path / "a")
    safetensors.numpy.save_file(arrays, tmp_path / "b", metadata)
    assert same(ol.load(tmp_path / "b"), ol.load(tmp_path / "a"))
    with File(tmp_path / "b") as file:
        assert all(tensor.crc is not None for tensor in file.tensors.values())
    arrays["model.W"] = arrays["model.W"] + 1
    safetensors.numpy.save_file(arrays, tmp_path / "b", metadata)
    with pytest.raises(ol.CheckpointError, match=r"'model.W' is damaged"):
        ol.load(tmp_path / "b")


# Restoring -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("stepped", [0, 2])                   # state that is made anew, and state that is there
def test_restore_writes_into_the_live_memory(tmp_path: Path, verify: bool, stepped: int) -> None:
    saved, live = training(), training(seed=1, steps=stepped)
    ol.save(tmp_path / "a", **saved, epoch=7)
    memory = [array.ctypes.data for array in live["optimizer"].state.arrays()]
    assert ol.restore(tmp_path / "a", verify=verify, **live) == {"epoch": 7}
    assert bits(live) == bits(saved)
    after = [array.ctypes.data for array in live["optimizer"].state.arrays()]
    assert after == memory if stepped else set(memory) < set(after)
    gradients = [np.ones((6, 5), np.float32), np.ones((3, 4))]
    for parts in (saved, live):
        parts["optimizer"].step(grads=gradients)
        parts["scheduler"].step()
    assert bits(live) == bits(saved)


def test_state_comes_back_in_its_order(tmp_path: Path) -> None:
    optimizer = ol.RMSprop([np.ones(3)])
    optimizer.step(grads=[np.ones(3)])
    optimizer.param_groups[0]["centered"] = True          # what the next step would add is saved, too
    ol.save(tmp_path / "a", optimizer=optimizer)
    fresh = ol.RMSprop([np.ones(3)])
    ol.restore(tmp_path / "a", optimizer=fresh)
    orders = [list(each.state_dict()["state"][0]) for each in (optimizer, fresh)]
    assert orders == [["square_avg", "step", "grad_avg"]] * 2


@pytest.mark.parametrize("kind", [ol.Adam, ol.RMSprop, ol.Muon, ol.LBFGS, ol.ConjugateGradient])
@pytest.mark.parametrize("order", ["C", "F"])
def test_state_of_another_type_is_laid_out_as_its_parameter(tmp_path: Path, kind: Any, order: Any) -> None:
    def step(optimizer: ol.Optimizer, W: np.ndarray) -> np.ndarray:
        optimizer.step(lambda: (float((W**2).sum()), {"W": np.asarray(2 * W, order=order)}))
        return W

    W = np.asarray(np.linspace(1, 2, 12).reshape(3, 4), np.float32, order=order)
    saved = kind({"W": W})
    step(saved, W)
    ol.save(tmp_path / "a", optimizer=saved)
    wide = [W.astype(np.float64, order="K") for _ in range(2)]
    by_file, by_dict = (kind({"W": each}) for each in wide)
    ol.restore(tmp_path / "a", optimizer=by_file)
    by_dict.load_state_dict(saved.state_dict())
    assert step(by_file, wide[0]).tobytes() == step(by_dict, wide[1]).tobytes()


def test_no_two_parameters_get_one_array(tmp_path: Path) -> None:
    """Even if the file says that their state is the same."""
    optimizer = ol.Adam([np.ones(3), np.ones(3)])
    optimizer.step(grads=[np.ones(3)] * 2)
    odd = optimizer.state_dict()
    odd["param_groups"][0]["params"] = [0, 0]
    del odd["state"][1]
    ol.save(tmp_path / "a", optimizer=odd)
    fresh = ol.Adam([np.ones(3), np.ones(3)])
    ol.restore(tmp_path / "a", optimizer=fresh)
    fresh.step(grads=[np.ones(3)] * 2)
    assert [state["step"] for state in fresh.state_dict()["state"].values()] == [2, 2]


def test_an_array_among_a_groups_own_keys(tmp_path: Path) -> None:
    optimizer = ol.SGD([np.ones(3)], lr=1)
    optimizer.param_groups[0]["note"] = {"seen": [np.arange(3), np.int64(7)]}
    ol.save(tmp_path / "a", optimizer=optimizer)
    fresh = ol.SGD([np.ones(3)], lr=1)
    with pytest.raises(ValueError, match="unexpected: optimizer: `note` of group 0"):    # it may be a later version's
        ol.restore(tmp_path / "a", optimizer=fresh)
    fresh.param_groups[0]["note"] = None
    ol.restore(tmp_path / "a", optimizer=fresh)
    assert same(fresh.param_groups[0]["note"], {"seen": [np.arange(3), 7]})
    ol.save(tmp_path / "b", optimizer=fresh)
    damage(tmp_path / "a", "optimizer.param_groups.0.note.seen.0")
    with pytest.raises(ol.CheckpointError, match=r"note.seen.0' is damaged"):
        ol.restore(tmp_path / "a", optimizer=fresh)


def damage(path: Path, name: str) -> None:
    with File(path) as file:
        begin = file.tensors[name].begin
    data = bytearray(path.read_bytes())
    data[begin] ^= 1
    path.write_bytes(data)


def test_a_damaged_count_is_a_fault_where_it_is_restored(tmp_path: Path) -> None:
    optimizer = ol.Adam({"a": np.ones(3), "b": np.ones(4)})
    optimizer.step(grads={"a": np.ones(3), "b": np.ones(4)})
    ol.save(tmp_path / "a", optimizer=optimizer)
    damage(tmp_path / "a", "optimizer.state.1.step")
    a, b = ol.Adam({"a": np.ones(3)}), ol.Adam({"b": np.ones(4)})
    assert ol.restore(tmp_path / "a", optimizer=a, strict=False).missing == []
    assert a.state["a"]["step"] == 1
    with pytest.raises(ol.CheckpointError, match=r"'optimizer.state.1.step' is damaged"):
        ol.restore(tmp_path / "a", optimizer=b, strict=False)


def test_a_mismatch_names_every_key_and_changes_nothing(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", **training(), epoch=1, other=np.ones(2))
    live = training(seed=1)
    wrong = {"W": live["model"]["W"], "b": np.zeros((4, 3)), "c": np.zeros(2)}
    frozen = np.zeros((6, 5), np.float32)
    frozen.flags.writeable = False
    before = bits(live)
    with pytest.raises(ValueError, match="doesn't fit") as caught:
        ol.restore(tmp_path / "a", **{**live, "model": wrong}, absent=3)
    text = str(caught.value)
    for line in (str(tmp_path / "a"), "missing: model.c, part 'absent'",
                 "unexpected: part 'other'", "misshapen: model.b has shape (3, 4) in the file, not (4, 3)"):
        assert line in text
    assert bits(live) == before
    with pytest.raises(ValueError, match=r"model.W is read-only"):
        ol.restore(tmp_path / "a", strict=True, model={"W": frozen, "b": np.zeros((3, 4))})
    rest = ol.restore(tmp_path / "a", strict=False, **{**live, "model": wrong}, absent=3)
    assert (rest.missing, rest.unexpected) == (["model.c", "part 'absent'"], ["part 'other'"])
    assert len(rest.misshapen) == 1
    assert rest == {"epoch": 1}
    assert same(live["model"]["W"].data, training()["model"]["W"].data)


def test_an_optimizer_or_scheduler_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", **training())
    live = training(seed=1)
    before = bits(live)
    other = ol.Adam([np.zeros((6, 5), np.float32)])
    with pytest.raises(ValueError, match="part 'optimizer' doesn't fit"):
        ol.restore(tmp_path / "a", model=live["model"], optimizer=other, scheduler=live["scheduler"])
    other = ol.lr_scheduler.StepLR(ol.SGD([np.zeros(1)], lr=1), 3)
    with pytest.raises(ValueError, match="part 'scheduler' doesn't fit"):
        ol.restore(tmp_path / "a", model=live["model"], optimizer=live["optimizer"], scheduler=other)
    swapped = ol.AdamW({"W": np.zeros((6, 5), np.float32), "b": np.zeros((4, 3))})
    with pytest.raises(ValueError, match=r"misshapen: optimizer: state\['b'\]"):
        ol.restore(tmp_path / "a", model=live["model"], optimizer=swapped, scheduler=live["scheduler"])
    assert bits(live) == before


class Average:
    """Somebody's own object with a state, which refuses negative values."""

    def __init__(self, value: float) -> None:
        self.values, self.count = np.full(4, value), 0

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values.copy(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        if (state["values"] < 0).any():
            raise ValueError("values must be >= 0")
        self.values[:] = state["values"]


def test_objects_with_a_state_dict_are_put_back_together_or_not_at_all(tmp_path: Path) -> None:
    good, bad = Average(2), Average(-1)
    good.count = bad.count = 5
    W = np.ones(3)
    ol.save(tmp_path / "a", W=W, one=good, two=bad)
    one, two, live = Average(0), Average(0), np.zeros(3)
    with pytest.raises(ValueError, match="must be >= 0"):
        ol.restore(tmp_path / "a", W=live, one=one, two=two)
    assert (one.values == 0).all()
    assert one.count == two.count == 0
    assert (live == 0).all()
    ol.save(tmp_path / "a", W=W, one=good)
    ol.restore(tmp_path / "a", W=live, one=one)
    assert (one.values == 2).all()
    assert one.count == 5


def test_averages_are_restored_in_place(tmp_path: Path) -> None:
    def average(value: float, updates: int) -> tuple[ol.Average, np.ndarray]:
        W = np.full((3, 4), value, np.float32)
        made = ol.Average({"W": W}, decay=0.5)
        for _ in range(updates):
            made.update()
            W += 1
        return made, W

    saved, _ = average(1.0, 3)
    ol.save(tmp_path / "a", average=saved)
    live, _ = average(7.0, 1)
    memory = live.averages[0].ctypes.data
    ol.restore(tmp_path / "a", average=live)
    assert same(live.state_dict(), saved.state_dict())
    assert live.averages[0].ctypes.data == memory
    other = ol.Average({"W": np.ones((4, 3), np.float32)}, decay=0.9)
    with pytest.raises(ValueError, match="average of 'W' must be"):
        ol.restore(tmp_path / "a", average=other)
    assert other.n_averaged == 0


def test_values_are_cast_only_where_none_is_lost(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", part=np.array([1.0, np.nan, 0.5]))
    live = np.zeros(3, np.float32)
    ol.restore(tmp_path / "a", part=live)
    assert same(live, np.array([1.0, np.nan, 0.5], np.float32))
    for values, dtype in (([0.1], np.float32), ([1.5], np.int64), ([1j], np.float64), ([300], np.uint8)):
        ol.save(tmp_path / "a", part=np.array(values))
        live = np.zeros(1, dtype)
        with pytest.raises(ValueError, match=r"misshapen: part is .* would lose values as"):
            ol.restore(tmp_path / "a", part=live)
        assert live[0] == 0


# Files ---------------------------------------------------------------------------------------------------------------

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


def test_importing_costs_nothing_until_used() -> None:
    code = ("import sys, numpy; before = set(sys.modules); import optimlite; new = set(sys.modules) - before\n"
            "heavy = {'json', 'zlib', 'mmap', 'fcntl', 'threading', 'atexit', 'safetensors'} & new\n"
            "assert not heavy, heavy")
    subprocess.run([sys.executable, "-c", code], check=True)
