"""State in files where something goes wrong: interrupts, full and failing disks, forks, refusals."""

from __future__ import annotations

import copy
import os
import pickle
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from optimlite.engine.threads import Crew
from support.helpers import values
from support.interrupts import everywhere
from support.offload import make_small, train
from support.ranks import model


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.mark.parametrize("every", [pytest.param((97, 13), marks=pytest.mark.slow), (1601, 401)])
def test_interrupts_leave_a_whole_step_or_none(every: tuple[int, int], tmp_path: Path) -> None:
    params = model()

    def begun(extra: int = 0, taken: int = 0) -> ol.Optimizer:
        arrays = {"v": model()["v"]}
        optimizer = ol.Adam(arrays)
        optimizer.offload(tmp_path)
        for _ in range(taken + extra):
            step(optimizer)
        return optimizer

    def step(optimizer: ol.Optimizer) -> None:
        optimizer.step(grads={"v": params["v"]})

    for taken in (0, 1):
        none, whole, both = (values(begun(extra, taken)) for extra in (0, 1, 2))

        def check(optimizer: ol.Optimizer, none: Any = none, whole: Any = whole, both: Any = both) -> None:
            left = values(optimizer)
            assert left in (none, whole)
            for _ in range(1 + (left == none)):
                step(optimizer)
            assert values(optimizer) == both

        assert everywhere(lambda taken=taken: begun(0, taken), step, check, every[taken]) >= 2


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("steps", [0, 1])
def test_an_interrupt_as_the_step_ends_is_raised_behind_it(steps: int, threads: bool, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """And the state is that of the step, also if it was the first one."""
    params, expected = model(), model()
    optimizer, other = ol.Adam(params), ol.Adam(expected)
    optimizer.offload(tmp_path)
    train(optimizer, params, range(steps))
    train(other, expected, range(steps + 2))
    wait, moments = Crew.wait, iter([True] if threads else [False, True])    # first for buckets, without

    def late(crew: Crew) -> None:
        wait(crew)
        if threading.current_thread() is threading.main_thread() and next(moments, False):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if not threads:
            patched.setattr(Crew, "start", lambda crew, task: False)
        patched.setattr(Crew, "wait", late)
        with pytest.raises(KeyboardInterrupt):
            train(optimizer, params, [steps])
    optimizer.param_groups[0]["lr"] *= 0.5
    train(optimizer, params, [steps + 1])
    assert values(optimizer) == values(other)


@pytest.fixture
def limited() -> Iterator[Callable[[int | None], None]]:
    """Limits the size of files, as a full disk does; None: no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)


def test_a_disk_that_is_full_changes_nothing(tmp_path: Path, limited: Callable[[int | None], None]) -> None:
    params, others = model(), model()
    optimizer, other = ol.Adam(params), ol.Adam(others)
    limited(1 << 15)
    with pytest.raises(OSError, match=r"`folder` must take 335,872 bytes of state, got 'File too large' in '.*'; make"):
        optimizer.offload(tmp_path)
    assert optimizer.memory().in_files == 0
    limited(None)
    optimizer.offload(tmp_path)
    train(optimizer, params, range(2))
    train(other, others, range(2))
    for one in (optimizer, other):                       # which needs more than was foreseen
        one.add_param_group({"params": {"late": np.ones(30_000, np.float32)}})
    gradients = {**dict.fromkeys("WbC"), "v": params["v"].copy(), "late": np.ones(30_000, np.float32)}
    before = values(optimizer)
    limited(1 << 15)
    with pytest.raises(OSError, match="`folder` must take 122,880 bytes of state"):
        optimizer.step(grads=gradients)
    assert values(optimizer) == before
    limited(400_000)                                     # has no room for what may come later, too
    for one in (optimizer, other):
        one.step(grads=gradients)
    assert values(optimizer) == values(other)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    call, count = getattr(os, name), iter(range(1000))

    def fails(*given: Any) -> int:
        if next(count) >= after:
            raise OSError(5, "Input/output error")
        done: int = call(*given)
        return done

    monkeypatch.setattr(os, name, fails)


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = model()
    optimizer = ol.Adam(params)
    optimizer.offload(tmp_path)
    train(optimizer, params, range(2))
    before = values(optimizer)
    with monkeypatch.context() as patch:                 # before the first bucket has stepped
        failing(patch, "preadv", 0)
        with pytest.raises(OSError, match="Input/output error"):
            train(optimizer, params, [2])
    assert values(optimizer) == before
    train(optimizer, params, [2])
    with monkeypatch.context() as patch:
        failing(patch, "pwritev", 1)
        with pytest.raises(RuntimeError, match=r"broke off in its middle \(OSError.*Input/output error"):
            train(optimizer, params, [3])
    for act in (lambda: train(optimizer, params, [3]), lambda: optimizer.offload(None)):
        with pytest.raises(RuntimeError, match="make the optimizer anew and restore a checkpoint"):
            act()


def test_what_a_broken_step_left_is_not_saved(tmp_path: Path) -> None:
    optimizer = ol.Adam([np.ones(10_000, np.float32)])
    optimizer.offload(tmp_path)
    optimizer.step(grads=[np.ones(10_000, np.float32)])
    optimizer.state.folder.torn = "OSError"
    for act in (optimizer.state_dict, lambda: copy.deepcopy(optimizer), lambda: pickle.dumps(optimizer),
                lambda: ol.save(tmp_path / "file", optimizer=optimizer)):
        with pytest.raises(RuntimeError, match="broke off in its middle"):
            act()
    assert not (tmp_path / "file").exists()


def test_a_child_would_change_its_parents_state(tmp_path: Path) -> None:
    params = model()
    optimizer = ol.Adam(params)
    optimizer.offload(tmp_path)
    train(optimizer, params, range(2))
    before = values(optimizer)

    child = os.fork()
    if not child:
        status = 1
        try:
            with pytest.raises(RuntimeError, match=r"is in files of process \d+, which a forked child would change"):
                train(optimizer, params, [2])
            train(copy.deepcopy(optimizer), params, [2])         # it may read
            assert values(optimizer)[0][1] == before[0][1]
            optimizer.offload(None)
            train(optimizer, params, [2])
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert values(optimizer) == before


def test_a_forked_child_may_not_load(tmp_path: Path) -> None:
    optimizer = ol.Adam([np.ones(10_000, np.float32)])
    optimizer.offload(tmp_path)
    optimizer.step(grads=[np.ones(10_000, np.float32)])
    saved = optimizer.state_dict()
    optimizer.state.folder.process -= 1                  # as a child sees it
    with pytest.raises(RuntimeError, match="forked child"):
        optimizer.load_state_dict(saved)
    optimizer.state.folder.process += 1
    optimizer.load_state_dict(saved)


def test_refused(tmp_path: Path) -> None:
    w = np.ones(5000, np.float32)
    with pytest.raises(TypeError, match="LBFGS has no state that files could keep"):
        ol.LBFGS([w]).offload(tmp_path)
    optimizer = ol.Adam([w])
    with pytest.raises(NotADirectoryError, match=r"`folder` must be a folder that exists, got '.*there'; make it"):
        optimizer.offload(tmp_path / "there")
    with pytest.raises(TypeError, match=r"`folder` must be a path .a str or a Path., got int; None takes state back"):
        optimizer.offload(3)                             # type: ignore[arg-type]

    def shared(comm: Any) -> None:
        optimizer.offload(tmp_path)
        with pytest.raises(TypeError, match=r"call opt.offload\(None\) before"):
            mpi.Sharded(optimizer, comm)

    mpi.simulate(1, shared)


def test_what_a_step_in_memory_refuses_leaves_one_in_files_as_it_was(tmp_path: Path) -> None:
    params = model()
    optimizer = ol.ScheduleFreeAdamW(params)
    optimizer.offload(tmp_path)
    train(optimizer, params, range(2))
    with optimizer.swapped(), pytest.raises(RuntimeError, match="swapped"):
        train(optimizer, params, [2])
    train(optimizer, params, [2])                        # it isn't said to have broken off
