"""Checkpoints of many ranks: one file, read by any number of ranks, or by a process without MPI."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from optimlite.checkpoint.reader import File
from optimlite.mpi import checkpoint, sharded
from optimlite.mpi.shares import Range
from support.ranks import Params, alone, gradients, model, same_bits, summed


def make(params: Params, form: str | None = "int8") -> ol.Optimizer:
    return ol.Adam(params, lr=0.01, amsgrad=True, state_dtype=form, seed=3)


def saved(ranks: int, path: Path, form: str | None = "int8") -> None:
    """Three steps, whose gradients are those of two ranks' whoever has them, and a file."""
    def train(comm: Any) -> None:
        params = model()
        opt = mpi.Sharded(make(params, form), comm, reduce="sum")
        for step in range(3):
            own = summed(params, 2, step) if comm.rank == 0 else dict.fromkeys(params)
            opt.step(grads=own, grad_scale=0.5)
        mpi.save(path, model=params, optimizer=opt, epoch=3 + comm.rank, fsync=False)

    mpi.simulate(ranks, train)


def resumed(ranks: int, path: Path, form: str | None = "int8") -> list[Params]:
    """A step of as many ranks, after what the file has."""
    def train(comm: Any) -> Params:
        params = {name: np.zeros_like(array) for name, array in model().items()}
        opt = mpi.Sharded(make(params, form), comm, reduce="sum")
        assert mpi.restore(path, model=params, optimizer=opt)["epoch"] == 3
        opt.step(grads=summed(params, 2, 3) if comm.rank == 0 else dict.fromkeys(params), grad_scale=0.5)
        return params

    return mpi.simulate(ranks, train)


@pytest.mark.parametrize(("form", "writers"), [
    ("int8", 4), *(pytest.param(*row, marks=pytest.mark.slow) for row in [(None, 4), ("bfloat16", 3), ("int8", 1)])])
def test_a_file_goes_on_on_any_number_of_ranks_and_without_any(form: str | None, writers: int, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    expected, _ = alone(lambda params: make(params, form), 2, 4)
    saved(writers, path, form)
    for ranks in (1, 2, 3, 8):
        assert all(same_bits(params, expected) for params in resumed(ranks, path, form)), ranks
    params = {name: np.zeros_like(array) for name, array in model().items()}
    opt = make(params, form)
    ol.restore(path, model=params, optimizer=opt)
    opt.step(grads=summed(params, 2, 3), grad_scale=0.5)
    assert same_bits(params, expected)
    assert os.listdir(tmp_path) == ["run.safetensors"]


def test_a_file_of_one_process_goes_on_on_ranks(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    params, opt = alone(make, 2, 3)
    ol.save(path, model=params, optimizer=opt, epoch=3)
    expected, _ = alone(make, 2, 4)
    assert all(same_bits(params, expected) for params in resumed(3, path))


def test_the_file_is_that_of_one_process(tmp_path: Path) -> None:
    params, opt = alone(make, 2, 3)
    ol.save(tmp_path / "one", model=params, optimizer=opt, epoch=3)
    saved(4, tmp_path / "four")
    assert (tmp_path / "four").read_bytes() == (tmp_path / "one").read_bytes()


def test_each_rank_writes_a_part_of_a_large_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what all have, an average here, too; what isn't in C order is one rank's."""
    written = dict[threading.Thread, list[int]]()
    write = checkpoint.transfer.write

    def noted(fd: int, jobs: Any, report: Any) -> Any:
        written[threading.current_thread()] = sorted(array.size for _, array in jobs)
        return write(fd, jobs, report)

    def parts() -> dict[str, Any]:
        rng = np.random.default_rng(0)
        params = {"w": rng.standard_normal(100_001, np.float32), "f": np.asfortranarray(rng.random((300, 300)))}
        return {"model": params, "average": ol.Average({"w": params["w"]}, decay=0.5)}

    ol.save(tmp_path / "one", **parts())
    monkeypatch.setattr(checkpoint.transfer, "write", noted)
    mpi.simulate(3, lambda comm: mpi.save(tmp_path / "three", comm, **parts()))
    assert (tmp_path / "three").read_bytes() == (tmp_path / "one").read_bytes()
    sizes = sorted(written.values())
    assert [sum(33_333 <= size <= 33_334 for size in own) for own in sizes] == [2, 2, 2]
    assert sorted(size for own in sizes for size in own if size == 90_000) == [90_000]


def test_there_must_be_something_to_save(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="there is nothing to save"):
        mpi.simulate(2, lambda comm: mpi.save(tmp_path / "run", comm))
    assert os.listdir(tmp_path) == []


def test_a_state_dict_of_the_whole_is_loaded_and_forgotten() -> None:
    """Of one process, and one that ranks have put together; each takes its part."""
    whole = alone(make, 2, 2)[1].state_dict()

    def train(comm: Any, given: Any, taken: int) -> Any:
        params, _ = alone(make, 2, taken)
        opt = mpi.Sharded(make(params), comm, reduce="sum")
        opt.load_state_dict(given)
        opt.step(grads=summed(params, 2, taken) if comm.rank == 0 else dict.fromkeys(params), grad_scale=0.5)
        gathered = mpi.gathered(opt)
        opt.state = {}
        assert mpi.gathered(opt)["state"] == {}
        for name, array in model().items():      # and begins again
            params[name][...] = array
        opt.step(grads=summed(params, 2, 0) if comm.rank == 0 else dict.fromkeys(params), grad_scale=0.5)
        return gathered, params

    given, anew = whole, alone(make, 2, 1)[0]
    for steps, ranks in ((3, 3), (4, 2)):
        found = mpi.simulate(ranks, train, given, steps - 1)
        given = found[0][0]
        assert all(same_bits(params, anew) for _, params in found)
        expected = alone(make, 2, steps)[1].state_dict()["state"]
        for at, entries in expected.items():
            assert same_bits(given["state"][at], entries)


def test_another_format_is_converted(tmp_path: Path) -> None:
    saved(3, tmp_path / "run", "int8")
    params = {name: np.zeros_like(array) for name, array in model().items()}
    opt = make(params, None)
    ol.restore(tmp_path / "run", model=params, optimizer=opt)
    opt.step(grads=summed(params, 2, 3), grad_scale=0.5)
    assert all(same_bits(found, params) for found in resumed(2, tmp_path / "run", None))


def test_state_that_came_before_is_spread_and_gathered() -> None:
    def train(comm: Any) -> Any:
        _params, opt = alone(make, 2, 2)
        shared = mpi.Sharded(opt, comm)
        return mpi.gathered(shared), opt.state_dict()["state"]

    expected = alone(make, 2, 2)[1].state_dict()
    for found, left in mpi.simulate(3, train):
        assert left == {}
        assert found["param_groups"] == expected["param_groups"]
        for at, entries in expected["state"].items():
            assert list(found["state"][at]) == list(entries)
            for key, array in entries.items():
                assert found["state"][at][key].tobytes() == array.tobytes(), (at, key)


def test_where_one_rank_fails_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "run"
    saved(2, path)
    before = path.read_bytes()

    def save_badly(comm: Any) -> None:
        mpi.save(path, comm, model=model(), bad=object() if comm.rank == 1 else 1)

    def damaged(comm: Any) -> None:
        params = model()
        opt = mpi.Sharded(make(params), comm)
        with pytest.raises((mpi.RankError, ol.CheckpointError)):
            mpi.restore(path, model=params, optimizer=opt)
        assert same_bits(params, model())
        assert not len(opt.state)

    with pytest.raises(TypeError, match="'bad' must be an array"):
        mpi.simulate(2, save_badly)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run"]
    path.write_bytes(before[:-100] + bytes(byte ^ 1 for byte in before[-100:]))
    mpi.simulate(3, damaged)


def test_rotating_checkpoints_of_all_ranks_with_an_average(tmp_path: Path) -> None:
    """The newest two and the best stay; a damaged one is skipped on all ranks; another number of ranks goes on."""
    def train(comm: Any, first: int, last: int) -> Any:
        params = model()
        opt, average = mpi.Sharded(make(params), comm, reduce="sum"), ol.Average(params, decay=0.5)
        checkpoints = mpi.Checkpoints(tmp_path / "run", comm, keep=2, best="loss")
        values = checkpoints.restore(model=params, optimizer=opt, average=average)
        assert (values["epoch"] if values else 0) == first
        for step in range(first, last):
            opt.step(grads=summed(params, 2, step) if comm.rank == 0 else dict.fromkeys(params), grad_scale=0.5)
            average.update()
            with average.swapped():              # a model is saved as it is, not as its average
                checkpoints.save(model=params, optimizer=opt, average=average, epoch=step + 1, fsync=False,
                                 loss=abs(step - 1) + comm.rank)
        return [os.path.basename(path)[-13:-12] for path in checkpoints.paths], params, average.averages

    def expected(steps: int) -> Any:
        params = model()
        opt, average = make(params), ol.Average(params, decay=0.5)
        for step in range(steps):
            opt.step(grads=summed(params, 2, step), grad_scale=0.5)
            average.update()
        return params, average.averages

    for numbers, _, _ in mpi.simulate(2, train, 0, 5):
        assert numbers == ["2", "4", "5"]
    newest = tmp_path / "run" / "checkpoint-000005.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="skipped a damaged"):
        resumed = mpi.simulate(3, train, 4, 6)
    params, averages = expected(6)
    for numbers, own, own_averages in resumed:
        assert numbers == ["2", "6", "7"]
        assert same_bits(own, params)
        assert [one.tobytes() for one in own_averages] == [one.tobytes() for one in averages]
    found = ol.Checkpoints(tmp_path / "run", best="loss").restore(best=True, model=model(), optimizer=make(model()),
                                                                   average=ol.Average(model()))
    assert found["epoch"] == 2


def test_rotation_fails_on_all_ranks_alike(tmp_path: Path) -> None:
    def train(comm: Any) -> None:
        checkpoints = mpi.Checkpoints(tmp_path / "run", comm, best="loss")
        with pytest.raises((ValueError, mpi.RankError), match="must be given as a number"):
            checkpoints.save(model=model())
        checkpoints.save(model=model(), loss=1)
        with pytest.raises((ValueError, mpi.RankError), match="doesn't fit"):
            checkpoints.restore(model={"other": np.ones(2)} if comm.rank else model())
        with pytest.raises((ValueError, mpi.RankError), match="`keep` must be"):
            mpi.Checkpoints(tmp_path / "run", comm, keep=comm.rank)

    mpi.simulate(2, train)


def test_a_disk_that_fails_one_rank_fails_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(2, tmp_path / "run")
    whole = File.read

    def read(self: File, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is unlucky[0]:
            raise OSError(5, "Input/output error")
        return whole(self, *args, **kwargs)

    def train(comm: Any) -> None:
        params = model()
        opt = mpi.Sharded(make(params), comm)
        if comm.rank == 1:
            unlucky.append(threading.current_thread())
        comm.Barrier()
        with pytest.raises((OSError, mpi.RankError), match="Input/output error"):
            mpi.restore(tmp_path / "run", model=params, optimizer=opt)

    unlucky: list[threading.Thread] = []
    monkeypatch.setattr(File, "read", read)
    mpi.simulate(2, train)


def test_no_rank_has_a_state_dict_of_all(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"optimlite\.mpi\.save"):
        mpi.simulate(1, lambda comm: mpi.Sharded(ol.Adam(model()), comm).state_dict())
    def train(comm: Any) -> None:
        opt = mpi.Sharded(ol.Adam(model()), comm)
        with pytest.raises(TypeError, match=r"optimlite\.mpi\.save"):
            ol.save(tmp_path / "run", optimizer=opt)
        mpi.save(tmp_path / "run", optimizer=opt)
        with pytest.raises(TypeError, match=r"use optimlite\.mpi\.restore, on every rank"):
            ol.restore(tmp_path / "run", optimizer=opt)

    mpi.simulate(2, train)
    assert gradients(model(), 1, 0)["C"] is None                     # as the tests above take for granted


def test_a_last_part_of_one_element() -> None:
    """Its scales are as many as its elements."""
    def train(comm: Any) -> Any:
        params = {"W": np.ones(3 * 16_384 + 1, np.float32)}
        opt = mpi.Sharded(ol.Adam(params, state_dtype="int8"), comm)
        opt.step(grads={"W": np.arange(params["W"].size, dtype=np.float32)})
        return params, mpi.gathered(opt)["state"][0], opt.share.param_groups[0]["params"]

    [(params, expected, _)] = mpi.simulate(1, train)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded, "assigned", lambda tensors, ranks: [[Range(0, 0, 3 * 16_384)],
                                                                  [Range(0, 3 * 16_384, 3 * 16_384 + 1)]])
        found = mpi.simulate(2, train)
    assert found[1][2][0].data.size == 1
    for own, state, _ in found:
        assert same_bits(own, params)
        assert same_bits(state, expected)
