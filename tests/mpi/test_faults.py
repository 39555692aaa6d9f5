"""Where ranks differ, or one fails: all raise, and none has stepped."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from support.ranks import Params, adam, after_two_steps, alone, copied, each_raises, gradients, model, same_bits


def lock(opt: Any, locked: bool) -> Any:
    """Of "W", which is cut: this rank steps a view of it that was made before."""
    opt.param_groups[0]["params"][0].data.flags.writeable = not locked
    return opt


FAULTS: dict[str, Any] = {
    "closure": lambda opt, grads: opt.step(lambda: 1 / 0),
    "argument": lambda opt, grads: opt.step(gards=grads),
    "option": lambda opt, grads: opt.step(grads=grads, grad_scale=-1.0),
    "gradient": lambda opt, grads: opt.step(grads={**grads, "W": np.ones(3, np.float32)}),
    "locked": lambda opt, grads: lock(opt, True).step(grads=grads),
    "rate": lambda opt, grads: (opt.param_groups[0].update(lr=-1.0), opt.step(grads=grads)),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_where_one_rank_fails_none_steps(kind: str) -> None:
    def train(comm: Any) -> Any:
        params, opt = after_two_steps(comm)
        before = copied(params), mpi.gathered(opt)["state"]
        grads = gradients(params, comm.rank, 2)
        with pytest.raises((mpi.RankError, TypeError, ValueError, ZeroDivisionError)) as caught:
            FAULTS[kind](opt, grads) if comm.rank == 1 else opt.step(grads=grads)
        assert (caught.type is mpi.RankError) == (comm.rank != 1)
        if comm.rank != 1:
            assert "rank 1 failed" in str(caught.value)
        assert same_bits(params, before[0])
        assert repr(mpi.gathered(opt)["state"]) == repr(before[1])
        opt.param_groups[0]["lr"] = 0.01
        lock(opt, False)
        opt.step(grads=grads)
        return params

    expected, _ = alone(adam, 3, 3)
    assert all(same_bits(params, expected) for params in mpi.simulate(3, train))


@pytest.mark.parametrize("new_state", [False, True])
def test_where_a_rank_can_not_prepare_its_share_none_steps(new_state: bool) -> None:
    class Failing(ol.Adam):
        def coefficients(self, group: Any, state: Any, first: bool) -> dict[str, float]:
            if threading.current_thread() in failing:
                raise MemoryError("no room")
            return super().coefficients(group, state, first)

    failing: set[threading.Thread] = set()

    def train(comm: Any) -> Any:
        params = model()
        opt = mpi.Sharded(Failing(params, lr=0.01), comm)
        steps = 0 if new_state else 2
        for step in range(steps):
            opt.step(grads=gradients(params, comm.rank, step))
        before = copied(params)
        if comm.rank == 2:
            failing.add(threading.current_thread())
        with pytest.raises((mpi.RankError, MemoryError), match="no room"):
            opt.step(grads=gradients(params, comm.rank, steps), max_grad_norm=1.0)
        assert same_bits(params, before)
        assert bool(len(opt.state)) != new_state
        failing.discard(threading.current_thread())
        for step in range(steps, 3):
            opt.step(grads=gradients(params, comm.rank, step))
        return params

    expected, _ = alone(adam, 3, 3)
    assert all(same_bits(params, expected) for params in mpi.simulate(3, train))


@pytest.mark.parametrize("act", [lambda opt: next(opt.swapped().gen), lambda opt: mpi.broadcast(opt, opt.comm)])
def test_parameters_that_one_rank_has_locked_stay_as_they_are(act: Any) -> None:
    def train(comm: Any) -> None:
        w = np.ones(20_000)
        opt = mpi.Sharded(ol.ScheduleFreeSGD([w], lr=0.1), comm)
        for _ in range(2):
            opt.step(grads=[w])
        before = w.copy()
        lock(opt, comm.rank == 1)
        with pytest.raises(ValueError if comm.rank == 1 else mpi.RankError, match="and became read-only since it was"):
            act(opt)
        assert (w == before).all()
        lock(opt, False)
        opt.step(grads=[w])

    mpi.simulate(2, train)


def test_no_memory_for_the_sums_ends_the_step_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(comm: Any) -> Params:
        params = model()
        shared = mpi.Sharded(ol.Adam(params), comm)
        reserve = shared._traffic.reserve

        def out_of_memory(flags: Any) -> None:
            raise MemoryError("none left")

        if comm.rank == 1:
            shared._traffic.reserve = out_of_memory
        before = copied(params)
        with pytest.raises(MemoryError if comm.rank == 1 else mpi.RankError, match="none left"):
            shared.step(grads=gradients(params, comm.rank, 0))
        assert same_bits(params, before)
        shared._traffic.reserve = reserve
        shared.step(grads=gradients(params, comm.rank, 0))           # and goes on
        return params

    first, second = mpi.simulate(2, train)
    assert same_bits(first, second)


def test_a_communicator_that_fails_between_passes_moves_no_parameter() -> None:
    params = model()
    opt = ol.DoG(params)

    def fails(measured: Any) -> Any:
        raise ConnectionError("gone")

    opt.over = fails
    with pytest.raises(ConnectionError, match="gone"):
        opt.step(grads=gradients(params, 0, 0))
    assert same_bits(params, model())
    assert opt.param_groups[0]["rbar"] == 0.0


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
def test_where_a_hook_of_one_rank_fails_all_raise(register: str) -> None:
    """Before the step, nothing has changed then; behind it, all have stepped."""
    def fails(opt: Any, args: Any, kwargs: Any) -> None:
        raise LookupError("a hook")

    def train(comm: Any) -> Any:
        params, opt = after_two_steps(comm)
        before = copied(params)
        handle = getattr(opt, register)(fails) if comm.rank == 1 else None
        with pytest.raises((mpi.RankError, LookupError), match="a hook"):
            opt.step(grads=gradients(params, comm.rank, 2))
        assert same_bits(params, before) == ("pre" in register)
        assert opt.steps_taken == 2 + ("post" in register)
        if handle:
            handle.remove()
        for step in range(opt.steps_taken, 4):
            opt.step(grads=gradients(params, comm.rank, step))
        return params

    expected, _ = alone(adam, 3, 4)
    assert all(same_bits(params, expected) for params in mpi.simulate(3, train))


def test_a_hook_of_one_rank_is_called_around_its_steps_alone() -> None:
    def train(comm: Any) -> list[str]:
        params = model()
        opt, calls = mpi.Sharded(adam(params), comm), list[str]()
        if comm.rank == 1:
            opt.register_step_pre_hook(lambda opt, args, kwargs: calls.append("before"))
            opt.register_step_post_hook(lambda opt, args, kwargs: calls.append("after"))
        opt.step(grads=gradients(params, comm.rank, 0))
        return calls

    assert mpi.simulate(3, train) == [[], ["before", "after"], []]


ALONE: dict[str, Any] = {
    "`mpi.save`": lambda opt, params, path, _: mpi.save(path, model=params, optimizer=opt),
    "`mpi.restore`": lambda opt, params, path, _: mpi.restore(path, model=params, optimizer=opt),
    "`gathered`": lambda opt, params, path, _: mpi.gathered(opt),
    "`swapped`": lambda opt, params, path, _: next(opt.swapped().gen),
    "`offload`": lambda opt, params, path, _: opt.offload(path.parent),
    "`broadcast`": lambda opt, params, path, _: mpi.broadcast(params, opt.comm),
    "`average_gradients`": lambda opt, params, path, _: mpi.average_gradients(opt.optimizer, opt.comm),
    "`Checkpoints`": lambda opt, params, path, _: mpi.Checkpoints(path.parent, opt.comm),
    "`mpi.Sharded`": lambda opt, params, path, _: mpi.Sharded(adam(params), opt.comm),
    "a function that is summed": lambda opt, params, path, _: mpi.summed(lambda: 1.0, opt.comm)(),
    "`step` of SGD over 1 parameter": lambda opt, params, path, other: other.step()}


@pytest.mark.parametrize("what", ALONE)
def test_what_one_rank_does_alone_is_named(what: str, tmp_path: Path) -> None:
    """All raise, nothing is changed, and they go on."""
    def train(comm: Any) -> Any:
        params, opt = after_two_steps(comm)
        other = mpi.Sharded(ol.SGD([np.zeros(2)]), comm)
        mpi.save(tmp_path / "run", comm, model=params, optimizer=opt, fsync=False)
        before = copied(params)
        with pytest.raises(mpi.RankError) as caught:
            ALONE[what](opt, params, tmp_path / "run", other) if comm.rank == 0 else opt.step(
                grads=gradients(params, comm.rank, 2))
        assert str(caught.value) == (
            f"ranks must do the same, but rank 0 is at {what}, ranks 1, 2 are at `step` of Adam over 4 parameters; "
            f"every rank must make the same calls, in the same order")
        assert same_bits(params, before)
        opt.step(grads=gradients(params, comm.rank, 2))
        return params

    expected, _ = alone(adam, 3, 3)
    assert all(same_bits(params, expected) for params in mpi.simulate(3, train))


def test_where_threads_run_out_no_simulated_rank_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    start, left = threading.Thread.start, iter([True, True])

    def limited(thread: threading.Thread) -> None:
        if not next(left, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        mpi.simulate(4, lambda comm: comm.allgather(comm.rank))
    assert not [thread for thread in threading.enumerate() if "simulate" in thread.name or "run" in thread.name]


def test_a_rank_that_has_ended_is_not_waited_for() -> None:
    def train(comm: Any) -> None:
        params = model()
        opt = mpi.Sharded(adam(params), comm)
        if comm.rank == 0:
            opt.step(grads=gradients(params, 0, 0))

    with pytest.raises(mpi.RankError, match="another rank has ended"):
        mpi.simulate(2, train)


# Where ranks differ -------------------------------------------------------------------------------------------------

def test_ranks_that_count_differently_compare_in_the_same_step() -> None:
    """Where one of them is due, all do: nobody waits for a comparison that the others don't make."""
    def train(comm: Any) -> None:
        params, opt = after_two_steps(comm, check_every=3)
        opt.steps_taken += comm.rank == 1
        opt.step(grads=gradients(params, comm.rank, 2))

    assert set(each_raises(3, train)) == {
        "RankError: ranks must agree, but `steps_taken` is 2 on ranks 0, 2; `steps_taken` is 3 on rank 1; "
        "change hyper-parameters, and load checkpoints, on all ranks alike"}


def test_ranks_may_compare_as_often_as_one_of_them_says() -> None:
    def train(comm: Any) -> Params:
        params, opt = after_two_steps(comm, check_every=[None, 1, 2][comm.rank])
        opt.step(grads=gradients(params, comm.rank, 2))
        return params

    expected, _ = alone(adam, 3, 3)
    assert all(same_bits(params, expected) for params in mpi.simulate(3, train))


def test_other_hyper_parameters_are_named() -> None:
    def train(comm: Any) -> None:
        params, opt = after_two_steps(comm, check_every=1)
        opt.param_groups[0]["lr"] = 0.02 if comm.rank == 1 else 0.01
        opt.step(grads=gradients(params, comm.rank, 2))

    assert set(each_raises(3, train)) == {
        "RankError: ranks must agree, but `lr` of group 0 is 0.01 on ranks 0, 2; `lr` of group 0 is 0.02 on rank 1; "
        "change hyper-parameters, and load checkpoints, on all ranks alike"}


def test_other_parameters_are_named() -> None:
    def train(comm: Any) -> None:
        params, opt = after_two_steps(comm, check_every=2, check_parameters=True)
        params["b"][0] += comm.rank == 1
        opt.step(grads=gradients(params, comm.rank, 2))

    assert all("the checksum of 'b'" in said and "on rank 1" in said for said in each_raises(2, train))


def test_other_models_are_named() -> None:
    def shapes(comm: Any) -> None:
        mpi.Sharded(ol.SGD({"w": np.zeros(3 + (comm.rank == 2))}), comm)

    def values(comm: Any) -> None:
        mpi.Sharded(ol.SGD({"w": np.full(3, float(comm.rank == 2))}), comm)

    assert all("parameter 'w' is ((4,), 'float64', 'C') on rank 2" in said for said in each_raises(3, shapes))
    assert all("mpi.broadcast(params)" in said for said in each_raises(3, values))


def test_other_options_of_a_step_are_named() -> None:
    def train(comm: Any) -> None:
        params = model()
        mpi.Sharded(adam(params), comm).step(grads=gradients(params, 0, 0), max_grad_norm=1.0 if comm.rank else None)

    assert all("max_grad_norm=1.0" in said and "on rank 1" in said for said in each_raises(2, train))
