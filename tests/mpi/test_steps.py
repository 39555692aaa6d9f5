"""Steps of many ranks have the bits of one process that has all gradients; sums in any order."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from optimlite.engine import parts
from optimlite.mpi import reduction
from support.ranks import Params, adam, alone, by_leaves, copied, gradients, model, same_bits, spread, summed

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


@pytest.mark.parametrize("make", [lambda params: ol.Lookahead(ol.Adam(params), k=2),
                                  lambda params: ol.ScheduleFreeAdamW(params, lr=0.1)],
                         ids=["lookahead", "schedule-free"])
def test_wrapped_and_swapped(make: Any, tmp_path: Path) -> None:
    expected, opt = alone(make, 2, 3)
    assert all(same_bits(params, expected) for params, _ in spread(make, 2, 3))
    if not hasattr(opt, "swapped"):
        return

    after = copied(expected)

    def train(comm: Any) -> Params:
        params = model()
        shared = mpi.Sharded(make(params), comm)
        for step in range(3):
            shared.step(grads=gradients(params, comm.rank, step))
        with shared.swapped():
            inside = copied(params)
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


def test_parameters_may_take_turns_in_any_way() -> None:
    """More ways than rounds are kept of."""
    def given(params: Params, rank: int, step: int) -> dict[str, Any]:
        return {name: g if step >> at & 1 else None for at, (name, g) in enumerate(gradients(
            params, rank, 0).items())}

    def train(comm: Any) -> Params:
        params = model()
        opt = mpi.Sharded(adam(params), comm)
        for step in range(1, 16):
            opt.step(grads=given(params, comm.rank, step), zero_grad=True)
        return params

    params = model()
    opt, whole = adam(params), summed(params, 3, 0)
    for step in range(1, 16):
        asked = given(params, 0, step)
        opt.step(grads={name: None if asked[name] is None else g for name, g in whole.items()}, grad_scale=1 / 3)
    assert all(same_bits(found, params) for found in mpi.simulate(3, train))


# Orders --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("make", "form"), [pytest.param(ol.Adam, None, marks=pytest.mark.slow), (ol.Adam, "int8"),
                                            (ol.Prodigy, "bfloat16")])
def test_leaves_have_the_same_bits_for_every_number_of_ranks(make: Any, form: str | None) -> None:
    expected = mpi.simulate(1, by_leaves, make, form)[0]
    for ranks in (2, 4, 8):
        assert all(same_bits(found, expected) for found in mpi.simulate(ranks, by_leaves, make, form)), ranks
    assert not same_bits(spread(lambda params: make(params, state_dtype=form), 8, 2, max_grad_norm=1.0)[0][0],
                         expected)


def test_a_leaf_takes_what_parameters_have_as_gradients() -> None:
    def train(comm: Any) -> Params:
        params = model()
        opt = mpi.Sharded(adam(params), comm, order="leaves:4")
        for leaf in (0, 1):
            for p in opt.param_groups[0]["params"]:
                p.grad = gradients(params, 2 * comm.rank + leaf, 0)[p.name]
            opt.leaf()
            assert all(p.grad is None for p in opt.param_groups[0]["params"])
        opt.step()
        return params

    expected = spread(adam, 4, 1, order="leaves:4")[0][0]
    assert all(same_bits(params, expected) for params in mpi.simulate(2, train))


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


# What overlaps -------------------------------------------------------------------------------------------------------

class Watched:
    """A communicator that notes when its rounds are begun, and when they are waited for."""

    def __init__(self, comm: Any, noted: list[str]) -> None:
        self.comm, self.noted = comm, noted

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comm, name)

    def _begun(self, name: str, mine: Any, to: Any) -> Any:
        request = getattr(self.comm, name)(mine, to)
        self.noted.append("begin")
        return SimpleNamespace(Wait=lambda: (request.Wait(), self.noted.append("wait")))

    def Ialltoallv(self, mine: Any, to: Any) -> Any: return self._begun("Ialltoallv", mine, to)      # noqa: N802
    def Iallgatherv(self, mine: Any, to: Any) -> Any: return self._begun("Iallgatherv", mine, to)    # noqa: N802


def test_rounds_overlap_with_adding_and_copying_and_the_step_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/mpi.md says."""
    elements = 6 * 16_384                        # of which each of two ranks has half
    monkeypatch.setattr(reduction, "ROOM", 4 * 4 * elements // 6)        # for a sixth of them in a round
    notes: dict[threading.Thread, list[str]] = {}

    def noting(what: str, module: Any, name: str) -> None:
        call = getattr(module, name)

        def noted(*args: Any) -> Any:
            notes[threading.current_thread()].append(what)
            return call(*args)

        monkeypatch.setattr(module, name, noted)

    noting("add", reduction, "over_arrays")
    noting("step", parts, "step")

    def train(comm: Any) -> list[str]:
        noted = notes[threading.current_thread()] = []
        w = np.ones(elements, np.float32)
        mpi.Sharded(adam({"w": w}), Watched(comm, noted)).step(grads=[w])
        return noted

    sums = ["begin", *["begin", "wait", "add"] * 5, "wait", "add"]
    spread = ["begin", *["begin", "wait"] * 5, "wait"]
    assert mpi.simulate(2, train) == [[*sums, "step", *spread]] * 2
