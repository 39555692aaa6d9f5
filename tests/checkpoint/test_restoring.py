"""Restoring into what is alive: paths that print alike, arrays of any strides, names of parts, what can't be done."""

from __future__ import annotations

import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.checkpoints import same

# Paths that print alike ----------------------------------------------------------------------------------------------

ALIKE: dict[str, Any] = {
    "dots": lambda x, y: {"a": {"b": x}, "a.b": y}, "dots, the other way": lambda x, y: {"a.b": x, "a": {"b": y}},
    "integers": lambda x, y: {0: x, "0": y}, "lists": lambda x, y: {"a": [x], "a.0": y},
    "empty": lambda x, y: {"a": {"": x}, "a.": y}, "none": lambda x, y: {None: x, "None": y},
    "deep": lambda x, y: [{"a": {"b": {"c": x}, "b.c": y}}, {"a.b.c": np.arange(9)}]}


@pytest.mark.parametrize("form", ALIKE)
def test_paths_that_print_alike_are_told_apart(tmp_path: Path, form: str) -> None:
    ol.save(tmp_path / "a", model=ALIKE[form](np.arange(3), np.arange(3) + 10))
    live = ALIKE[form](np.zeros(3, int), np.zeros(3, int))
    ol.restore(tmp_path / "a", model=live)
    assert same(live, ALIKE[form](np.arange(3), np.arange(3) + 10))
    ol.save(tmp_path / "b", model=ALIKE[form](np.arange(3), 7))       # a file that lacks one of them
    with pytest.raises(ValueError, match=r"missing: model"):
        ol.restore(tmp_path / "b", model=live)
    rest = ol.restore(tmp_path / "b", model=live, strict=False)
    assert (len(rest.missing), rest.unexpected) == (1, [])
    values = ol.restore(tmp_path / "b", model=live, strict=False)["model"]
    assert list(values.values()) == [7]


def test_plain_values_beside_arrays_are_told_apart_too(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", model={"W": np.ones(2), "a": {"b": 1}, "a.b": 2})
    assert ol.restore(tmp_path / "a", model={"W": np.zeros(2)}) == {"model": {"a.b": 1, "a.b~2": 2}}


def test_where_paths_are_unique_a_list_may_stand_for_a_dict(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", model={"0": np.ones(2), "1.x": np.zeros(3)})
    live = [np.zeros(2), {"x": np.ones(3)}]
    ol.restore(tmp_path / "a", model=live)
    assert same(live, [np.ones(2), {"x": np.zeros(3)}])


def test_objects_with_such_paths_are_restored_too(tmp_path: Path) -> None:
    class Model:
        def __init__(self, value: float) -> None:
            self.state = {"a": {"b": np.full(2, value)}, "a.b": np.full(3, value)}

        def state_dict(self) -> dict[str, Any]:
            return self.state

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.state = state

    ol.save(tmp_path / "a", model=Model(1))
    live = Model(0)
    ol.restore(tmp_path / "a", model=live)
    assert same(live.state, Model(1).state)


# Arrays of any strides -----------------------------------------------------------------------------------------------

STRIDED: dict[str, Any] = {
    "columns": lambda: np.zeros((700, 900))[:, :300], "every third": lambda: np.zeros((300, 1500))[::-1, ::3],
    "transposed": lambda: np.zeros((70, 60, 50)).transpose(1, 2, 0), "field": lambda: np.zeros(
        100_001, [("a", "u1"), ("x", "f8")])["x"], "column": lambda: np.zeros((300_001, 2))[:, 1:],
    "one row": lambda: np.zeros((2, 300_000))[:1, ::2], "scalar": lambda: np.zeros(3)[1:2].reshape(()),
    "nothing": lambda: np.zeros((0, 4))[:, ::2], "matrix": lambda: np.asmatrix(np.zeros((300, 200)))[:, ::2]}


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.usefixtures("threads")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")         # of np.matrix, which is to go
def test_arrays_of_any_strides_are_restored_in_place(tmp_path: Path, verify: bool, count: int,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    from optimlite.checkpoint import transfer

    monkeypatch.setattr(transfer, "PIECE", 1 << 14)
    monkeypatch.setattr(transfer, "THREADED", 0)
    ol.set_num_threads(count)
    live = {name: make() for name, make in STRIDED.items()}
    wholes = {name: array if array.base is None else array.base for name, array in live.items()}
    random = np.random.default_rng(0)
    values = {name: random.random(array.shape) for name, array in live.items()}
    ol.save(tmp_path / "a", model=values)
    ol.restore(tmp_path / "a", model=live, verify=verify)
    for name, array in live.items():
        assert np.array_equal(np.asarray(array), values[name]), name
        if wholes[name].dtype.names is None:             # and nothing beside it
            assert np.count_nonzero(np.asarray(wholes[name])) == np.count_nonzero(values[name])
    ol.save(tmp_path / "b", model=live)
    assert all(np.array_equal(found, values[name]) for name, found in ol.load(tmp_path / "b")["model"].items())


def test_restoring_into_strided_arrays_takes_little_memory(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((8000, 1000))
    ol.save(tmp_path / "a", fsync=False, model=values)
    live = np.zeros((8000, 2000))[:, ::2]
    tracemalloc.start()
    try:
        ol.restore(tmp_path / "a", model=live)
        ol.save(tmp_path / "a", fsync=False, model=live)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(live, values)
    assert peak < 52 << 20                               # of 64 MB: a buffer of 12 MB for each of at most 4 threads


# What can't be restored or saved -------------------------------------------------------------------------------------

def test_arrays_that_cannot_be_restored_into_are_blamed_themselves(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", model=np.ones(3))
    before = np.ma.masked_array(np.zeros(3), [True, False, False])
    with pytest.raises(TypeError, match="'model' must be a plain array to be restored into, got a masked one"):
        ol.restore(tmp_path / "a", model=before)
    assert before.data.tolist() == [0, 0, 0]
    for array in (np.zeros(3, object), np.zeros(3, "M8[s]"), np.zeros(3, "U4"), np.zeros(3, [("x", "f8")])):
        with pytest.raises(TypeError, match="'model' must be a numeric array to be restored into, got"):
            ol.restore(tmp_path / "a", model=array)
    shared = np.lib.stride_tricks.as_strided(np.zeros(1), (3,), (0,))
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    for array, words in ((shared, "has elements that share memory"), (frozen, "has read-only memory")):
        with pytest.raises(ValueError, match=f"model {words}.*let the model use that array"):
            ol.restore(tmp_path / "a", model=array)


def test_what_was_restored_is_true(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", model=np.ones(3))
    restored = ol.restore(tmp_path / "a", model=np.zeros(3))
    assert restored
    assert restored == {}
    checkpoints = ol.Checkpoints(tmp_path / "run")
    assert not checkpoints.restore(model=np.zeros(3))
    checkpoints.save(model=np.ones(3))
    assert checkpoints.restore(model=np.zeros(3))


OPTIONS = [(ol.save, "progress", np.ones(2)), (ol.save, "fsync", 3), (ol.save, "background", np.ones(2)),
           (ol.save, "background", {}), (ol.save, "progress", ol.SGD([np.ones(2)], lr=1)), (ol.restore, "strict", None),
           (ol.restore, "verify", np.ones(2))]


@pytest.mark.parametrize(("call", "name", "value"), OPTIONS)
def test_a_part_with_the_name_of_an_option_is_refused(tmp_path: Path, call: Any, name: str, value: Any) -> None:
    ol.save(tmp_path / "a", x=1)
    with pytest.raises(TypeError, match=f"`{name}` must be .*; it is an option, so give a part another name"):
        call(tmp_path / "a", x=2, **{name: value})
    checkpoints = ol.Checkpoints(tmp_path / "run")
    with pytest.raises(TypeError, match=f"`{name}` must be"):
        (checkpoints.save if call is ol.save else checkpoints.restore)(x=2, **{name: value})
    assert ol.load(tmp_path / "a") == {"x": 1}
    assert checkpoints.paths == []
    with pytest.raises(TypeError, match="`best` must be True or False"):
        checkpoints.restore(best=np.ones(2))                 # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["strict", "verify"])
def test_a_part_that_restore_could_not_be_given_is_not_saved(tmp_path: Path, name: str) -> None:
    ol.save(tmp_path / "a", x=1)
    with pytest.raises(TypeError, match=f"^`{name}` is an option of ol.restore, so give a part another name$"):
        ol.save(tmp_path / "a", **{name: np.ones(2)})
    assert ol.load(tmp_path / "a") == {"x": 1}


def test_a_save_of_nothing_is_refused(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", x=1)
    for act in (lambda: ol.save(tmp_path / "a"), lambda: ol.save(tmp_path / "a", background=True),
                ol.Checkpoints(tmp_path / "run").save):
        with pytest.raises(TypeError, match="there is nothing to save: give parts by name"):
            act()
    assert ol.load(tmp_path / "a") == {"x": 1}


@pytest.mark.parametrize("path", [{"W": np.ones(2)}, BytesIO(), None, 3])
@pytest.mark.parametrize("call", [ol.save, ol.load, ol.restore, ol.Checkpoints])
def test_what_is_no_path_is_named(path: Any, call: Any) -> None:
    with pytest.raises(TypeError, match=f"`path` must be a path .* got {type(path).__name__}; parts come after it"):
        call(path) if call in (ol.load, ol.Checkpoints) else call(path, x=1)


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    ol.Checkpoints("~/run").save(x=1)
    ol.save("~/a", x=2)
    ol.save(Path("~root"), x=3)                              # only one's own: this is a name like any other
    ol.save(b"bytes", x=4)
    assert ol.load("~/a") == ol.restore(tmp_path / "a") == {"x": 2}
    assert ol.load(tmp_path / "run" / "checkpoint-000001.safetensors") == {"x": 1}
    assert sorted(entry.name for entry in Path(".").iterdir()) == ["bytes", "~root"]
