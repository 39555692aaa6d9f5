"""An interrupt of one rank where ranks agree on a step: all make it whole, or none does, and they go on together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from optimlite import mpi
from optimlite.engine.threads import Crew
from support.offload import make_small
from support.ranks import Params, adam, after_two_steps, alone, copied, gradients, model, same_bits


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


def strike(owner: Any, name: str, act: Callable[..., Any]) -> None:
    """The next call of a method is one of `act`, which is given the method itself first."""
    method = getattr(owner, name)

    def once(*given: Any) -> Any:
        setattr(owner, name, method)
        return act(method, *given)

    setattr(owner, name, once)


def before(call: Callable[..., Any], *given: Any) -> None:
    raise KeyboardInterrupt


def behind(call: Callable[..., Any], *given: Any) -> None:
    call(*given)
    raise KeyboardInterrupt


def as_ranks_meet(opt: mpi.Sharded, act: Callable[..., None]) -> None:
    """Interrupts the last exchange before a step, which MPI carries out before Python sees an interrupt."""
    def ask(method: Callable[..., Any], *given: Any) -> None:
        strike(opt.comm, "Allgather", act)
        method(*given)

    strike(opt._commit, "ask", ask)


MOMENTS: dict[str, Callable[[mpi.Sharded], None]] = {
    "before": lambda opt: as_ranks_meet(opt, before),
    "in the exchange": lambda opt: as_ranks_meet(opt, behind),
    "behind it": lambda opt: strike(opt._commit, "ask", behind),
    "as the step goes on": lambda opt: strike(opt._commit, "meet", behind)}


WHERE = ["in memory", "in files", "in files, without a thread"]
ROWS = [(moment, where, steps, hooked) for moment in MOMENTS for where in WHERE for steps in (0, 2)
        for hooked in (False, True)
        if where != "in memory" or moment != "as the step goes on"]          # in memory that is compiled code


@pytest.mark.parametrize(("moment", "where", "steps", "hooked"), ROWS)
def test_all_ranks_step_or_none(moment: str, where: str, steps: int, hooked: bool, tmp_path: Path,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first step, and in one with state; a step that isn't made leaves none."""
    if where.endswith("without a thread"):
        monkeypatch.setattr(Crew, "start", lambda crew, task: False)

    def train(comm: Any) -> Params:
        params = model()
        opt = mpi.Sharded(adam(params), comm, check_every=1)
        opt.offload(None if where == "in memory" else tmp_path)
        for step in range(steps):
            opt.step(grads=gradients(params, comm.rank, step))
        old, called = copied(params), list[int]()
        if hooked and comm.rank == 2:
            opt.register_step_post_hook(lambda *_: called.append(1))
        if comm.rank == 1:
            MOMENTS[moment](opt)
        raised = KeyboardInterrupt if comm.rank == 1 else mpi.RankError if moment == "before" else None
        with pytest.raises(raised) if raised else nullcontext():
            opt.step(grads=gradients(params, comm.rank, steps))
        counts = {float(state["step"]) for part, state in opt.share.state.items() if part.name != "b" and state}
        assert counts == ({steps + (moment != "before")} - {0})
        if moment == "before":
            assert same_bits(params, old)
            opt.step(grads=gradients(params, comm.rank, steps))
        opt.step(grads=gradients(params, comm.rank, steps + 1))
        assert opt.steps_taken == steps + 2      # all compare in the same steps
        assert len(called) == 2 * (hooked and comm.rank == 2)
        return params

    expected, _ = alone(adam, 3, steps + 2)
    assert all(same_bits(params, expected) for params in mpi.simulate(3, train))


@pytest.mark.parametrize("moment", ["in the exchange", "behind it", "as the step goes on"])
def test_ranks_of_which_one_has_no_files_go_on(moment: str, tmp_path: Path) -> None:
    """The last: an interrupt where the files are ready, and not yet taken."""
    def train(comm: Any) -> Params:
        params, opt = after_two_steps(comm, None)
        if comm.rank == 1:
            MOMENTS[moment](opt)
            with pytest.raises(KeyboardInterrupt):
                opt.offload(tmp_path)
        else:
            opt.offload(tmp_path)
        assert (opt.state.folder is None) == (comm.rank == 1 and moment == "as the step goes on")
        for step in range(2, 4):
            opt.step(grads=gradients(params, comm.rank, step))
        return params

    expected, _ = alone(adam, 3, 4)
    assert all(same_bits(params, expected) for params in mpi.simulate(3, train))


@pytest.mark.parametrize("moment", ["in the exchange", "behind it"])
def test_gradients_of_an_interrupted_step_are_zeroed(moment: str) -> None:
    """Else they would be in the next step, too."""
    def train(comm: Any, interrupted: bool = True) -> Params:
        params = model()
        opt = mpi.Sharded(adam(params), comm)
        for step in range(3):
            for p, g in zip(opt._all, gradients(params, comm.rank, step).values(), strict=True):
                if g is not None:
                    p.accumulate_grad(g)
            strikes = interrupted and comm.rank == 1 and step == 1
            if strikes:
                MOMENTS[moment](opt)
            with pytest.raises(KeyboardInterrupt) if strikes else nullcontext():
                opt.step(zero_grad=True)
        return params

    expected = mpi.simulate(3, lambda comm: train(comm, False))
    assert all(same_bits(one, other) for one, other in zip(mpi.simulate(3, train), expected, strict=True))
