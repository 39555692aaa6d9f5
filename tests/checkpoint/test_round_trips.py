"""Values come back as they were: every dtype, layout and plain value, with the safetensors library on either side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import optimlite as ol
from optimlite.checkpoint import transfer as transfer_module
from optimlite.checkpoint.reader import File
from support.checkpoints import LAYOUTS, same, training

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
