"""Checkpoints where there is no POSIX, as far as this system can act one that has none.

No calls at an offset, no locks, no modes; and files that are open can't be renamed, replaced or removed by anybody.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint import atomic, system

DESCRIPTORS = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs to see which files are open")


def is_open(path: Any) -> bool:
    return any(os.path.realpath(each) == os.path.realpath(path) for each in DESCRIPTORS.iterdir())


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("preadv", "pwritev", "pread", "fchmod"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(system, "POSIX", False)
    monkeypatch.setattr(system, "fcntl", None)

    def strict(call: Any) -> Any:
        def checked(*paths: Any) -> Any:
            if taken := [path for path in paths if is_open(path)]:
                raise PermissionError(errno.EACCES, "the file is open", str(taken[0]))
            return call(*paths)
        return checked

    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, strict(getattr(os, name)))


@pytest.mark.parametrize("background", [False, True])
def test_a_checkpoint_comes_back(background: bool, tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "run"
    model = {"w": rng.random((1100, 1024)), "strided": rng.random((300, 7)).T, "none": np.zeros(0)}    # on threads
    optimizer = ol.Adam(model)
    for _ in range(2):                           # the second replaces a file
        optimizer.step(grads={name: np.ones_like(each) for name, each in model.items()})
        ol.save(path, model=model, optimizer=optimizer, background=background).wait()
    saved = {name: each.copy() for name, each in model.items()}
    optimizer.step(grads={name: np.ones_like(each) for name, each in model.items()})
    ol.restore(path, model=model, optimizer=optimizer)
    assert all((model[name] == saved[name]).all() for name in model)
    assert os.listdir(tmp_path) == ["run"]


def test_a_save_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    ol.save(path, part=1)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ol.save(path, part=np.ones(9), progress=stop)
    with open(path, "rb"), pytest.raises(PermissionError):
        ol.save(path, part=2)
    assert ol.load(path)["part"] == 1
    assert os.listdir(tmp_path) == ["run"]


def test_old_temporaries_that_nobody_has_open_are_swept(tmp_path: Path) -> None:
    fresh, old, held = (tmp_path / f".optimlite-{letter * 16}.tmp" for letter in "abc")
    for path in (fresh, old, held):
        path.touch()
    for path in (old, held):
        os.utime(path, (0, 0))
    with open(held, "rb"):
        atomic.sweep(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == [fresh, held]
