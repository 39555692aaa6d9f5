"""Steps of many ranks: what they have in common with those of one, and what happens where ranks differ or fail."""

from __future__ import annotations

import doctest
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from optimlite.engine.parts import BLOCK
from optimlite.mpi import reduction
from optimlite.mpi.shares import Tensor, assigned
from support.ranks import Params, alone, gradients, model, same_bits, spread, summed


def adam(params: Params) -> ol.Optimizer:
    return ol.Adam(params, lr=0.01)


# Shares --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 64])
def test_shares_are_equal_and_cut_at_blocks_alone(ranks: int) -> None:
    sizes = [100 * BLOCK * ranks, 7, 33 * BLOCK * ranks + 5000, 0, 40_000, 12 * BLOCK * ranks + 1]
    tensors = [Tensor(size, 8 if at == 4 else 4, at not in (1, 4)) for at, size in enumerate(sizes)]
    shares = assigned(tensors, ranks)
    loads = [sum((stop - start) * tensors[at].itemsize for at, start, stop in share) for share in shares]
    assert max(loads) / (sum(loads) / ranks) < 1.02
    for at, size in enumerate(sizes):
        ranges = sorted(one for share in shares for one in share if one.parameter == at)
        assert all(start % BLOCK == 0 for _, start, _ in ranges)
        bounds = [start for _, start, _ in ranges] + [size]
        assert bounds[0] == 0
        assert all(stop == after for (_, _, stop), after in zip(ranges, bounds[1:], strict=True))
        assert len(ranges) == 1 or tensors[at].divisible


def test_whole_tensors_go_to_who_has_least() -> None:
    shares = assigned([Tensor(size, 4, False) for size in (10, 50, 30, 40, 20)], 2)
    assert [[one.parameter for one in share] for share in shares] == [[0, 1, 4], [2, 3]]


def test_state_is_of_the_share_alone() -> None:
    def train(comm: Any) -> Any:
        params = {"W": np.zeros((1000, 2200), np.float32), "b": np.zeros(100, np.float32)}
        opt = mpi.Sharded(ol.AdamW(params), comm)
        opt.step(grads={name: np.ones_like(array) for name, array in params.items()})
        return opt.memory()

    found = mpi.simulate(4, train)
    for memory in found:
        assert memory.parameters == 4 * 2_200_100
        assert sum(memory.state.values()) == pytest.approx(2 * memory.parameters / 4, rel=0.02)


def test_buffers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    whole = reduction.Buffers.taken

    def counted(self: reduction.Buffers, *args: Any) -> list[np.ndarray]:
        made.append(self)
        return whole(self, *args)

    monkeypatch.setattr(reduction.Buffers, "taken", counted)
    monkeypatch.setattr(reduction, "ROOM", 50_000)
    found = spread(adam, 3, 2)                   # in many rounds
    assert len({*map(id, made)}) == 3            # one for each rank, which it keeps
    assert 0 < max(one.data.nbytes for one in made) <= 50_000
    monkeypatch.undo()
    assert same_bits(found[0][0], spread(adam, 3, 2)[0][0])
    assert reduction.ROOM == 32 << 20


# What belongs to all ranks together ----------------------------------------------------------------------------------

def test_the_norm_and_the_skip_are_of_all_ranks() -> None:
    def train(comm: Any) -> Any:
        params = model()
        opt = mpi.Sharded(adam(params), comm)
        grads = gradients(params, comm.rank, 0)
        if comm.rank == 2:
            grads["W"][3, 4] = np.inf            # type: ignore[index]
        opt.step(grads=grads, skip_nonfinite=True, zero_grad=True)
        return params, opt.skipped_steps, opt.last_grad_norm, grads["W"].any()       # type: ignore[union-attr]

    for params, skipped, norm, left in mpi.simulate(3, train):
        assert same_bits(params, model())
        assert skipped == 1
        assert norm == np.inf
        assert not left
    _, expected = alone(adam, 3, 2, max_grad_norm=1.0)
    assert {opt.last_grad_norm for _, opt in spread(adam, 3, 2, max_grad_norm=1.0)} == {expected.last_grad_norm}


def test_sum_and_mean() -> None:
    def train(comm: Any, reduce: str) -> list[float]:
        w = np.zeros(2)
        mpi.Sharded(ol.SGD([w], lr=1.0), comm, reduce).step(grads=[np.array([1.0, comm.rank])])
        return w.tolist()

    assert mpi.simulate(4, train, "sum") == [[-4.0, -6.0]] * 4
    assert mpi.simulate(4, train, "mean") == [[-1.0, -1.5]] * 4


def test_schedulers_groups_averages_and_accumulated_gradients() -> None:
    def run(opt: ol.Optimizer, params: Params, ranks: list[int]) -> Params:
        schedule = ol.lr_scheduler.CosineAnnealingLR(opt, 5)
        average = ol.Average(params, decay=0.5)
        parameters = [p for group in opt.param_groups for p in group["params"]]
        for step in range(4):
            for half in (0, 1):                  # powers of two: sums of halves are the same in any order
                for p in parameters:
                    p.accumulate_grad(np.full_like(p.data, float(sum(2 ** (r + half + step) for r in ranks))))
            opt.step(grad_scale=2.0 ** -4)
            opt.zero_grad()
            schedule.step()
            average.update()
        return params | {f"mean {at}": array for at, array in enumerate(average.averages)}

    def groups(params: Params) -> list[dict[str, Any]]:
        return [{"params": [params["W"], params["b"]], "lr": 0.1}, {"params": [params["v"]], "weight_decay": 0.1}]

    def train(comm: Any) -> Params:
        params = model()
        del params["C"]
        return run(mpi.Sharded(ol.AdamW(groups(params)), comm, reduce="sum"), params, [comm.rank])

    params = model()
    del params["C"]
    expected = run(ol.AdamW(groups(params)), params, [0, 1, 2])
    assert all(same_bits(found, expected) for found in mpi.simulate(3, train))


@pytest.mark.parametrize("make", [ol.DoG, ol.Prodigy, ol.DAdaptAdam, lambda params: ol.Lookahead(ol.DoG(params), k=2)],
                         ids=["dog", "prodigy", "dadapt", "lookahead"])
def test_numbers_of_groups_are_those_of_all_ranks(make: Any, tmp_path: Any) -> None:
    """Also on ranks that have nothing of a group, or nothing at all, and after a restart on as many others."""
    def grouped(params: Params) -> Any:
        return make([{"params": {name: params[name]}} for name in params])

    def totals(opt: Any) -> list[bytes]:
        return [group[name].tobytes() for group in opt.param_groups for name in opt.totals(group)]

    def train(comm: Any, first: int, last: int) -> tuple[Params, list[bytes]]:
        params = model()
        opt = mpi.Sharded(grouped(params), comm)
        if first:
            mpi.restore(tmp_path / "run", model=params, optimizer=opt)
        for step in range(first, last):
            own = summed(params, 3, step) if comm.rank == 0 else dict.fromkeys(params)
            opt.step(grads=own, grad_scale=comm.size / 3)
        mpi.save(tmp_path / "run", model=params, optimizer=opt, fsync=False)
        return params, totals(opt)

    expected, opt = alone(grouped, 3, 4)
    for ranks, first, last in ((8, 0, 3), (2, 3, 4)):
        found = mpi.simulate(ranks, train, first, last)
    assert all(same_bits(params, expected) and numbers == totals(opt) for params, numbers in found)
    params = model()
    restored = grouped(params)
    ol.restore(tmp_path / "run", model=params, optimizer=restored)
    assert totals(restored) == totals(opt)


def test_no_memory_for_the_sums_ends_the_step_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(comm: Any) -> Params:
        params = model()
        shared = mpi.Sharded(ol.Adam(params), comm)
        reserve = shared._traffic.reserve

        def out_of_memory(flags: Any) -> None:
            raise MemoryError("none left")

        if comm.rank == 1:
            shared._traffic.reserve = out_of_memory
        before = {name: array.copy() for name, array in params.items()}
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


@pytest.mark.parametrize("make", [lambda params: ol.Lookahead(ol.Adam(params), k=2),
                                  lambda params: ol.ScheduleFreeAdamW(params, lr=0.1)],
                         ids=["lookahead", "schedule-free"])
def test_wrapped_and_swapped(make: Any, tmp_path: Path) -> None:
    expected, opt = alone(make, 2, 3)
    assert all(same_bits(params, expected) for params, _ in spread(make, 2, 3))
    if not hasattr(opt, "swapped"):
        return

    after = {name: array.copy() for name, array in expected.items()}

    def train(comm: Any) -> Params:
        params = model()
        shared = mpi.Sharded(make(params), comm)
        for step in range(3):
            shared.step(grads=gradients(params, comm.rank, step))
        with shared.swapped():
            inside = {name: array.copy() for name, array in params.items()}
        assert same_bits(params, after)
        with pytest.raises(KeyError), shared.swapped():
            raise KeyError
        assert same_bits(params, after)
        with shared.swapped():                   # as without, a file has what is outside
            mpi.save(tmp_path / "swapped", comm, model=params)
        restored = model()
        ol.restore(tmp_path / "swapped", model=restored)
        assert same_bits(restored, after)
        return inside

    with opt.swapped():
        assert all(same_bits(inside, expected) for inside in mpi.simulate(2, train))


def test_parameters_of_any_layout() -> None:
    def make_model() -> Params:
        made = {name: np.asfortranarray(array) for name, array in model().items()}
        return made | {"C": np.zeros((6, 10))[::2, ::2]}

    def train(comm: Any) -> Params:
        params = make_model()
        opt = mpi.Sharded(ol.Adam(params, lr=0.01), comm)
        for step in range(2):
            opt.step(grads=gradients(params, comm.rank, step), max_grad_norm=1.0)
        return params

    params = make_model()
    opt = ol.Adam(params, lr=0.01)
    for step in range(2):
        opt.step(grads=summed(params, 3, step), grad_scale=1 / 3, max_grad_norm=1.0)
    assert all(same_bits(found, params) for found in mpi.simulate(3, train))


# Orders --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("make", "form"), [pytest.param(ol.Adam, None, marks=pytest.mark.slow), (ol.Adam, "int8"),
                                            (ol.Prodigy, "bfloat16")])
def test_leaves_have_the_same_bits_for_every_number_of_ranks(make: Any, form: str | None) -> None:
    def train(comm: Any) -> Params:
        params = model()
        opt = mpi.Sharded(make(params, state_dtype=form), comm, order="leaves:8")
        each = 8 // comm.size
        for step in range(2):
            for leaf in range(comm.rank * each, (comm.rank + 1) * each):
                grads = gradients(params, leaf, step)
                if leaf % 2 or each == 1:
                    opt.leaf(grads) if (leaf + 1) % each else opt.step(grads=grads, max_grad_norm=1.0)
                else:
                    opt.leaf(grads)
            # the last leaf came with the step
        return params

    expected = mpi.simulate(1, train)[0]
    for ranks in (2, 4, 8):
        assert all(same_bits(found, expected) for found in mpi.simulate(ranks, train)), ranks
    assert not same_bits(spread(lambda params: make(params, state_dtype=form), 8, 2, max_grad_norm=1.0)[0][0],
                         expected)


def test_leaves_are_counted() -> None:
    def train(comm: Any) -> None:
        params = model()
        opt = mpi.Sharded(adam(params), comm, order="leaves:4")
        with pytest.raises(ValueError, match="2 leaves on each rank, got 1"):
            opt.step(grads=gradients(params, comm.rank, 0))
        opt.leaf(gradients(params, comm.rank, 0))
        opt.leaf(gradients(params, comm.rank, 1))
        with pytest.raises(ValueError, match="call step"):
            opt.leaf(gradients(params, comm.rank, 0))
        opt.step()

    mpi.simulate(2, train)


def test_fast_is_as_good() -> None:
    expected, _ = alone(ol.SGD, 3, 3, max_grad_norm=1.0)
    for params, _ in spread(ol.SGD, 3, 3, order="fast", max_grad_norm=1.0):
        for name, array in expected.items():
            np.testing.assert_allclose(params[name], array, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("options", "message"), [
    ({"order": "leaves:3"}, "a power of two"), ({"order": "tree"}, "`order` must be"),
    ({"order": "leaves:2"}, "that the ranks divide"), ({"reduce": "max"}, "`reduce` must be"),
    ({"check_every": 0}, "`check_every`")])
def test_what_options_can_not_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mpi.simulate(4, lambda comm: mpi.Sharded(adam(model()), comm, **options))


@pytest.mark.parametrize(("make", "message"), [
    (ol.SparseAdam, "use Adam"),
    (lambda params: ol.SAM(ol.SGD(params, lr=0.1)), "can't be a SAM"), (ol.LBFGS, "compiled rule")])
def test_what_can_not_be_spread(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        mpi.simulate(2, lambda comm: mpi.Sharded(make(model()), comm))


@pytest.mark.parametrize("parameter", [lambda: np.zeros(3, np.float16), lambda: np.zeros(3, np.complex64),
                                       lambda: ol.Parameter(np.zeros(3, np.float32), shadow=np.empty(3, np.float16))],
                         ids=["float16", "complex64", "shadow"])
def test_parameters_of_other_kinds_are_refused(parameter: Any) -> None:
    with pytest.raises(TypeError, match="'p' must be float32 or float64, without a shadow"):
        mpi.simulate(2, lambda comm: mpi.Sharded(ol.SGD({"p": parameter()}), comm))
    with pytest.raises(TypeError, match="must be float32 or float64, without a shadow"):
        mpi.simulate(2, lambda comm: mpi.average_gradients(ol.SGD({"p": parameter()}), comm))


def test_a_sparse_gradient_is_refused_on_all_ranks() -> None:
    def train(comm: Any) -> None:
        opt = mpi.Sharded(ol.SGD({"p": np.zeros((9, 2))}), comm)
        opt.step(grads=[ol.SparseGrad([comm.rank], np.ones((1, 2))) if comm.rank else np.ones((9, 2))])

    said = each_raises(3, train)
    assert "rank 1 failed" in said[0]
    assert all("the gradient of 'p' is sparse, which can't be summed over ranks; make it dense" in one for one in said)


def test_gradients_of_another_type_are_refused() -> None:
    def train(comm: Any) -> None:
        mpi.Sharded(ol.SGD({"p": np.zeros(3)}, cast_grads=True), comm).step(grads=[np.ones(3, np.float32)])

    with pytest.raises(TypeError, match="the gradient of 'p' is float32, and sums over ranks are float64"):
        mpi.simulate(2, train)


# Where ranks differ, or fail -----------------------------------------------------------------------------------------

def each_raises(ranks: int, train: Any) -> list[str]:
    """What each rank's exception says; all must raise."""
    def run(comm: Any) -> str:
        try:
            train(comm)
        except Exception as fault:
            return f"{type(fault).__name__}: {fault}"
        raise AssertionError(f"rank {comm.rank} raised nothing")

    return mpi.simulate(ranks, run)


def after_two_steps(comm: Any, **options: Any) -> tuple[Params, mpi.Sharded]:
    params = model()
    opt = mpi.Sharded(adam(params), comm, **options)
    for step in range(2):
        opt.step(grads=gradients(params, comm.rank, step))
    return params, opt


FAULTS: dict[str, Any] = {
    "closure": lambda opt, grads: opt.step(lambda: 1 / 0),
    "argument": lambda opt, grads: opt.step(gards=grads),
    "option": lambda opt, grads: opt.step(grads=grads, grad_scale=-1.0),
    "gradient": lambda opt, grads: opt.step(grads={**grads, "W": np.ones(3, np.float32)}),
    "rate": lambda opt, grads: (opt.param_groups[0].update(lr=-1.0), opt.step(grads=grads)),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_where_one_rank_fails_none_steps(kind: str) -> None:
    def train(comm: Any) -> Any:
        params, opt = after_two_steps(comm)
        before = {name: array.copy() for name, array in params.items()}, mpi.gathered(opt)["state"]
        grads = gradients(params, comm.rank, 2)
        with pytest.raises((mpi.RankError, TypeError, ValueError, ZeroDivisionError)) as caught:
            FAULTS[kind](opt, grads) if comm.rank == 1 else opt.step(grads=grads)
        assert (caught.type is mpi.RankError) == (comm.rank != 1)
        if comm.rank != 1:
            assert "rank 1 failed" in str(caught.value)
        assert same_bits(params, before[0])
        assert repr(mpi.gathered(opt)["state"]) == repr(before[1])
        opt.param_groups[0]["lr"] = 0.01
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
        before = {name: array.copy() for name, array in params.items()}
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


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
def test_where_a_hook_of_one_rank_fails_all_raise(register: str) -> None:
    """Before the step, nothing has changed then; behind it, all have stepped."""
    def fails(opt: Any, args: Any, kwargs: Any) -> None:
        raise LookupError("a hook")

    def train(comm: Any) -> Any:
        params, opt = after_two_steps(comm)
        before = {name: array.copy() for name, array in params.items()}
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


def test_an_option_that_needs_whole_tensors_comes_too_late() -> None:
    def train(comm: Any) -> None:
        params = model()
        opt = mpi.Sharded(adam(params), comm)
        opt.param_groups[0]["cautious"] = True
        opt.step(grads=gradients(params, 0, 0))

    assert any("'W' is spread over ranks" in said for said in each_raises(3, train))


def test_a_rank_that_has_ended_is_not_waited_for() -> None:
    def train(comm: Any) -> None:
        params = model()
        opt = mpi.Sharded(adam(params), comm)
        if comm.rank == 0:
            opt.step(grads=gradients(params, 0, 0))

    with pytest.raises(mpi.RankError, match="another rank has ended"):
        mpi.simulate(2, train)


def test_what_sharded_has_not() -> None:
    opt = mpi.simulate(1, lambda comm: mpi.Sharded(adam(model()), comm))[0]
    for call in (lambda: opt.add_param_group({"params": [np.ones(2)]}), lambda: opt.remove("b"), opt.watch,
                 lambda: opt.replace("b", np.ones(3, np.float32)), lambda: opt.step_parameter("b", np.ones(7))):
        with pytest.raises(TypeError, match="before Sharded"):
            call()
    with pytest.raises(TypeError, match="`comm` must be a communicator"):
        mpi.Sharded(adam(model()), "world")
    with pytest.warns(UserWarning, match="no parameter has a gradient on any rank"):
        opt.step()
    opt.step()                                   # warns once


# For replicated optimizers -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", ["rank", "leaves:4", "fast"])
def test_averaged_gradients_and_broadcast_parameters(order: str) -> None:
    def train(comm: Any) -> Params:
        params = {name: array + array.dtype.type(comm.rank) for name, array in model().items()}
        mpi.broadcast(params, comm, root=0)
        opt = ol.Prodigy(params)
        for step in range(2):
            grads = gradients(params, comm.rank, step)
            for group in opt.param_groups:
                for p in group["params"]:
                    p.grad = grads[p.name]
            mpi.average_gradients(opt, comm, order=order)
            opt.step()
        return params

    params = model()
    opt = ol.Prodigy(params)
    for step in range(2):
        total = summed(params, 4, step)
        opt.step(grads={name: None if g is None else g / g.dtype.type(4) for name, g in total.items()})
    for found in mpi.simulate(4, train):
        assert order != "rank" or same_bits(found, params)
        assert all(np.allclose(found[name], params[name], rtol=1e-4, atol=1e-6) for name in params)


def test_broadcast_names_what_differs() -> None:
    def train(comm: Any) -> None:
        mpi.broadcast({"w": np.zeros(2, np.float32 if comm.rank else np.float64)}, comm)

    assert all("parameter 'w'" in said and "float32" in said for said in each_raises(2, train))
    with pytest.raises(ValueError, match="`root` must be a rank, from 0 to 1"):
        mpi.simulate(2, lambda comm: mpi.broadcast([np.zeros(2)], comm, 2))


def test_the_examples_of_docstrings(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"np": np, "ol": ol, "mpi": mpi}
    for thing in (mpi.Sharded, mpi.broadcast, mpi.average_gradients, mpi.summed, mpi.Checkpoints):
        [test] = [one for one in doctest.DocTestFinder(recurse=False).find(thing, globs=names) if one.examples]
        assert doctest.DocTestRunner().run(test).failed == 0
