"""Shares of state in files: the bits of shares in memory, one file of all, and no rank goes on where one fails."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from optimlite.engine import parts, streaming
from support.cases import CASES, Case
from support.offload import make_small
from support.ranks import Params, adam, after_two_steps, alone, copied, gradients, model, same_bits, spread

FORMATS = (None, "bfloat16", "int8")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


def taken(case: Case, form: str | None) -> bool:
    try:
        case.optimizer([np.ones(case.fit(3))], **case.options, state_dtype=form)         # type: ignore[call-arg]
    except (TypeError, ValueError):
        return form is None
    return True


ROWS = [pytest.param(case, form, id=f"{case.id}-{form}") for case in CASES if case.optimizer is not ol.SparseAdam
        for form in FORMATS if taken(case, form)]
FIRST = [row for row in ROWS if row.id in ("AdamW(lr=0.01)-int8", "LAMB()-bfloat16", "Prodigy()-None", "Muon()-None")]


def run_case(case: Case, form: str | None, folder: Path) -> None:
    def make(params: Params) -> ol.Optimizer:
        return case.optimizer(params, **case.options, **({"state_dtype": form, "seed": 5} if form else {}))

    def fit(shape: tuple[int, ...]) -> tuple[int, ...]:
        return case.fit(tuple(min(n, 70) for n in shape) if case.whole else shape)

    expected, opt = alone(make, 3, 3, fit, max_grad_norm=40.0, skip_nonfinite=True)
    found = spread(make, 3, 3, fit, folder=folder, max_grad_norm=40.0, skip_nonfinite=True)
    assert all(same_bits(params, expected) for params, _ in found)
    large = any(array.nbytes >= 4096 for state in opt.state.values() for array in state.values())
    assert any(sharded.memory().in_files for _, sharded in found) == large


@pytest.mark.parametrize(("case", "form"), FIRST)
def test_shares_in_files_have_the_bits_of_shares_in_memory(case: Case, form: str | None, tmp_path: Path) -> None:
    run_case(case, form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "form"), ROWS)
def test_of_every_optimizer_and_format(case: Case, form: str | None, tmp_path: Path) -> None:
    run_case(case, form, tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_a_part_of_a_tensor_goes_in_several_buckets(form: str | None, tmp_path: Path) -> None:
    """Whose random bits are those of the tensor's elements."""
    def train(comm: Any, folder: Path | None) -> bytes:
        w = np.ones(100_000, np.float32)
        opt = mpi.Sharded(ol.Adam([w], state_dtype=form), comm)
        opt.offload(folder)
        for step in range(3):
            opt.step(grads=[np.random.default_rng([step, comm.rank]).standard_normal(w.size, np.float32)])
        if folder:
            moved = [bucket for bucket in opt.state.folder.stream.buckets if bucket.moves]       # type: ignore[union-attr]
            assert len(moved) > 2
        return w.tobytes()

    assert mpi.simulate(2, train, tmp_path) == mpi.simulate(2, train, None)


def test_one_checkpoint_of_all_files_and_into_files(tmp_path: Path) -> None:
    def made(comm: Any, folder: Path | None) -> tuple[Params, mpi.Sharded]:
        params = model()
        opt = mpi.Sharded(ol.AdamW(params, lr=0.01, state_dtype="bfloat16"), comm)
        opt.offload(folder)
        return params, opt

    def train(comm: Any, name: str, folder: Path | None) -> None:
        params, opt = made(comm, folder)
        for step in range(2):
            opt.step(grads=gradients(params, comm.rank, step))
        mpi.save(tmp_path / name, model=params, optimizer=opt, fsync=False)

    def go_on(comm: Any, folder: Path | None) -> tuple[Params, int]:
        params, opt = made(comm, folder)
        mpi.restore(tmp_path / "in files", model=params, optimizer=opt)
        for step in range(2, 4):
            opt.step(grads=gradients(params, comm.rank, step))
        assert opt.memory().total == opt.memory().parameters + opt.memory().gradients + sum(opt.memory().state.values())
        return params, opt.memory().in_files

    mpi.simulate(4, train, "in memory", None)
    mpi.simulate(4, train, "in files", tmp_path)
    assert (tmp_path / "in files").read_bytes() == (tmp_path / "in memory").read_bytes()
    [(expected, none), *_] = mpi.simulate(3, go_on, None)
    found = mpi.simulate(3, go_on, tmp_path)
    assert none == 0
    assert all(same_bits(params, expected) and in_files for params, in_files in found)


def test_where_one_rank_has_no_folder_all_stay_as_they_are(tmp_path: Path) -> None:
    def train(comm: Any) -> Params:
        params, opt = after_two_steps(comm, tmp_path)
        files = {name for state in opt.state.values() for name in map(id, state.values())}
        absent = tmp_path / "there" if comm.rank == 1 else tmp_path
        with pytest.raises(NotADirectoryError if comm.rank == 1 else mpi.RankError, match="must be a folder that"):
            opt.offload(absent)
        with pytest.raises(mpi.RankError, match=r"whether state is to be in files is True on ranks 0, 1; .* on rank 2"):
            opt.offload(None if comm.rank == 2 else tmp_path)
        assert {name for state in opt.state.values() for name in map(id, state.values())} == files
        opt.offload(None)
        assert opt.memory().in_files == 0
        opt.step(grads=gradients(params, comm.rank, 2))
        return params

    expected, _ = alone(adam, 3, 3)
    assert all(same_bits(params, expected) for params in mpi.simulate(3, train))


@pytest.mark.parametrize("name", ["read", "write"])
def test_where_one_disk_fails_no_rank_goes_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, failing = getattr(streaming.Bucket, name), set[streaming.Bucket]()

    def fails(bucket: streaming.Bucket) -> None:
        if bucket in failing:
            raise OSError(5, "Input/output error")
        call(bucket)

    monkeypatch.setattr(streaming.Bucket, name, fails)

    def train(comm: Any) -> None:
        params, opt = after_two_steps(comm, tmp_path)
        if comm.rank == 1:
            failing.update(opt.state.folder.stream.buckets)              # type: ignore[union-attr]
        with pytest.raises((RuntimeError, mpi.RankError), match=r"broke off in its middle .*Input/output error"):
            opt.step(grads=gradients(params, comm.rank, 2))
        failing.clear()
        for act in (lambda: opt.step(grads=gradients(params, comm.rank, 3)), lambda: opt.offload(None),
                    lambda: mpi.save(tmp_path / "run", model=params, optimizer=opt)):
            with pytest.raises((RuntimeError, mpi.RankError), match="restore a checkpoint"):
                act()

    mpi.simulate(3, train)
    assert not (tmp_path / "run").exists()


def test_where_one_rank_has_torn_state_none_saves(tmp_path: Path) -> None:
    def train(comm: Any) -> None:
        params, opt = after_two_steps(comm, tmp_path)
        opt.state.folder.torn = "OSError" if comm.rank == 1 else ""          # type: ignore[union-attr]
        for act in (lambda: mpi.save(tmp_path / "run", model=params, optimizer=opt), lambda: mpi.gathered(opt)):
            with pytest.raises(RuntimeError if comm.rank == 1 else mpi.RankError, match="restore a checkpoint"):
                act()
        opt.state.folder.torn = ""                                           # type: ignore[union-attr]
        opt.step(grads=gradients(params, comm.rank, 2))

    mpi.simulate(3, train)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("in_files", [False, True])
def test_an_interrupt_of_one_rank_leaves_a_whole_step(in_files: bool, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """What it missed, all ranks have; it is raised on that rank alone."""
    step, interrupted = parts.step, set[threading.Thread]()

    def late(made: Any, *given: Any) -> None:
        step(made, *given)
        if threading.current_thread() in interrupted:
            interrupted.clear()
            raise KeyboardInterrupt

    monkeypatch.setattr(parts, "step", late)

    def train(comm: Any) -> Params:
        params, opt = after_two_steps(comm, tmp_path)
        if not in_files:
            opt.offload(None)
        before = copied(params)
        if comm.rank == 1:
            interrupted.add(threading.current_thread())
            with pytest.raises(KeyboardInterrupt):
                opt.step(grads=gradients(params, comm.rank, 2))
        else:
            opt.step(grads=gradients(params, comm.rank, 2))
        assert not same_bits(params, before)
        opt.step(grads=gradients(params, comm.rank, 3))
        return params

    expected, _ = alone(adam, 3, 4)
    assert all(same_bits(params, expected) for params in mpi.simulate(3, train))


def test_files_of_the_optimizer_itself_are_refused(tmp_path: Path) -> None:
    def train(comm: Any) -> None:
        optimizer = adam(model())
        optimizer.offload(tmp_path)
        mpi.Sharded(optimizer, comm)

    with pytest.raises(TypeError, match=r"call opt.offload\(None\) before, and offload\(folder\) of Sharded"):
        mpi.simulate(2, train)
