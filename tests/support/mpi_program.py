"""What ranks of a real MPI run, for tests/mpi/test_mpiexec.py: `mpiexec -n 4 python mpi_program.py WHAT FOLDER`."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from typing import Any

import numpy as np

import optimlite as ol
from optimlite import mpi
from support import halves
from support.paths import ROOT
from support.ranks import Params, by_leaves, gradients, model
from support.ranks_product import ROWS


def digest(params: Params) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in params.values())).hexdigest()


def train(comm: Any, order: str = "rank") -> tuple[Params, mpi.Sharded]:
    params = model()
    opt = mpi.Sharded(ol.Adam(params, lr=0.01, state_dtype="int8"), comm, order=order)
    for step in range(3):
        opt.step(grads=gradients(params, comm.rank, step), max_grad_norm=1.0)
    return params, opt


def bits(comm: Any, folder: str) -> str:
    """Of all that is done with buffers: one hash."""
    params, opt = train(comm)
    mpi.save(f"{folder}/run", model=params, optimizer=opt, epoch=3)
    tree, _ = train(comm, f"leaves:{comm.size}") if comm.size in (1, 2, 4, 8) else (params, opt)
    fast, _ = train(comm, "fast")
    assert all(np.allclose(fast[name], params[name], rtol=1e-3, atol=1e-2) for name in params)
    replicated = {name: array + array.dtype.type(comm.rank) for name, array in model().items()}
    mpi.broadcast(replicated, comm)
    parameters = ol.Adam(replicated).param_groups[0]["params"]
    for p in parameters:
        p.grad = gradients(replicated, comm.rank, 0)[p.name]
    mpi.average_gradients(parameters, comm)
    read = {name: np.zeros_like(array) for name, array in params.items()}
    resumed = mpi.Sharded(ol.Adam(read, lr=0.01, state_dtype="int8"), comm)
    mpi.restore(f"{folder}/run", comm, model=read, optimizer=resumed)
    for one, own in ((opt, params), (resumed, read)):
        one.step(grads=gradients(own, comm.rank, 3))
    assert digest(read) == digest(params)
    return " ".join(digest(one) for one in (params, tree, replicated, {p.name: p.grad for p in parameters}))


def product(comm: Any, folder: str) -> str:
    """Every optimizer × format, twice: a hash each."""
    found = []
    for row in ROWS:
        one, other = row.spread(comm), row.spread(comm)
        assert one == other, row.id
        found.append(one)
    return " ".join(found)


def tree(comm: Any, folder: str) -> str:
    """Micro-batches that any number of ranks shares."""
    return " ".join(digest(by_leaves(comm, make, form)) for make, form in (
        (ol.Adam, None), (ol.Adam, "bfloat16"), (ol.Adam, "int8"), (ol.Prodigy, "bfloat16"), (ol.LAMB, None)))


def halved(comm: Any, folder: str) -> str:
    """Parameters of 16 bits, which MPI has no type for, that each rank has a whole optimizer over."""
    params = {half: halves.made(model()["v"] + comm.rank, half) for half in ("bfloat16", "float16")}
    mpi.broadcast(params, comm, root=comm.size - 1)
    opt = ol.Adam(params, lr=0.01)
    for step in range(2):
        for p in params.values():
            drawn = np.random.default_rng((comm.rank, step)).standard_normal(p.shape)
            p.grad = halves.made(drawn, str(p.name)).data
        mpi.average_gradients(opt, comm)
        opt.step()
    return digest({name: p.data for name, p in params.items()})


def distributed(comm: Any, folder: str) -> str:
    """L-BFGS and conjugate gradients over unknowns that are spread, each coupled with all others."""
    found = []
    for make in (ol.LBFGS, ol.ConjugateGradient):
        x = np.array_split(np.linspace(-1.0, 2.0, 40), comm.size)[comm.rank].copy()
        opt: Any = make([x], max_iter=8, line_search_fn="hager_zhang", comm=comm)

        def closure(x: np.ndarray = x) -> tuple[float, list[np.ndarray]]:
            total = sum(comm.allgather(float(x.sum())))
            return float((x ** 4).sum()) + total ** 2 / comm.size, [4 * x ** 3 + 2 * total]

        found.append(repr(opt.step(closure)))
        found += [one.tobytes().hex() for one in comm.allgather(x)]
    return " ".join(found)


def save(comm: Any, folder: str) -> str:
    """Two steps, and a file."""
    params, opt = begun(comm)
    for step in range(2):
        opt.step(grads=shared(comm, params, step), max_grad_norm=1.0)
    mpi.save(f"{folder}/run", model=params, optimizer=opt)
    return digest(params)


def go_on(comm: Any, folder: str) -> str:
    """From the file of `save`, on other ranks."""
    params, opt = begun(comm)
    mpi.restore(f"{folder}/run", model=params, optimizer=opt)
    for step in range(2, 4):
        opt.step(grads=shared(comm, params, step), max_grad_norm=1.0)
    return digest(params)


def begun(comm: Any) -> tuple[Params, mpi.Sharded]:
    params = model()
    return params, mpi.Sharded(ol.Adam(params, lr=0.01, state_dtype="int8"), comm, "sum")


def shared(comm: Any, params: Params, step: int) -> dict[str, Any]:
    """Gradients whose sum doesn't depend on how many ranks there are."""
    return gradients(params, 0, step) if comm.rank == 0 else dict.fromkeys(params)


def split(comm: Any, folder: str) -> str:
    """Two trainings beside each other, each with half of the ranks, on communicators that end before the program."""
    half = comm.Split(comm.rank % 2)
    params, opt = train(half)
    mpi.save(f"{folder}/{comm.rank % 2}", half, model=params, optimizer=opt)
    half.Free()
    return digest(params)


def fault(comm: Any, folder: str) -> str:
    """An exception on one rank reaches all; what is raised is caught, and the run goes on."""
    params, opt = train(comm)
    before = digest(params)
    try:
        opt.step((lambda: 1 / 0) if comm.rank == 1 else None, grads=None if comm.rank == 1 else
                 gradients(params, comm.rank, 3))
    except (mpi.RankError, ZeroDivisionError) as caught:
        said = str(caught)
    assert comm.rank == 1 or "rank 1 failed" in said
    assert digest(params) == before
    opt.step(grads=gradients(params, comm.rank, 3))
    return digest(params)


def inversion(comm: Any, folder: str) -> str:
    """`minimize` over unknowns that are spread: the example's."""
    sys.path.insert(0, str(ROOT / "examples"))
    import distributed_inversion

    result, before, after = distributed_inversion.invert(comm, 200)
    return repr((result.fun, result.nit, result.nfev, before, after)) + result.message


def replicated(comm: Any, folder: str) -> str:
    """`minimize` over unknowns that all ranks have, each of them with other data; and a callback that one rank answers.
    """
    rows = np.random.default_rng(comm.rank).standard_normal((30, 9))

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        odds = np.exp(-(rows * x).sum(axis=1))
        return float(np.log1p(odds).sum() + x @ x), 2 * x - (rows.T * (odds / (1 + odds))).sum(axis=1)

    seen: list[int] = []

    def callback(x: np.ndarray) -> bool:
        seen.append(1)
        return comm.rank == 0 and len(seen) == 4

    found = ol.minimize(mpi.summed(loss, comm), np.zeros(9), jac=True, callback=mpi.summed(callback, comm))
    return found.x.tobytes().hex() + repr((found.fun, found.nit, found.nfev, found.message))


def groups(comm: Any, folder: str) -> str:
    """A rule with numbers of whole groups, of which some ranks have nothing, and rotating checkpoints."""
    params = model()
    opt = mpi.Sharded(ol.Prodigy([{"params": {name: array}} for name, array in params.items()]), comm)
    checkpoints = mpi.Checkpoints(f"{folder}/{type(comm).__module__}", comm, keep=2)
    for step in range(3):
        opt.step(grads=gradients(params, comm.rank, step))
        checkpoints.save(model=params, optimizer=opt, step=step)
    opt.step(grads=gradients(params, comm.rank, 3))
    assert checkpoints.restore(model=params, optimizer=opt)["step"] == 2
    opt.step(grads=gradients(params, comm.rank, 3))
    return f"{digest(params)} {float(opt.param_groups[-1]['d'])!r} {len(checkpoints.paths)}"


def files(comm: Any, folder: str) -> str:
    """State in files, which change no bit."""
    params = {"w": np.ones(3_000_000, np.float32)}
    opt = mpi.Sharded(ol.Adam(params, lr=0.01), comm)
    opt.offload(folder)
    grads = [np.random.default_rng((comm.rank, step)).standard_normal(3_000_000, np.float32) for step in range(3)]
    for g in grads[:2]:
        opt.step(grads=[g], max_grad_norm=1.0)
    assert any(comm.allgather(opt.memory().in_files))
    in_files = digest(params)
    opt.offload(None)
    opt.step(grads=grads[2:])
    return f"{in_files} {digest(params)}"


def alone(comm: Any, folder: str) -> str:
    """Rank 0 saves, and the others step."""
    params, opt = train(comm)
    if comm.rank == 0:
        mpi.save(f"{folder}/run", model=params, optimizer=opt)
    opt.step(grads=gradients(params, comm.rank, 3))
    return "went on"


def leaves(comm: Any, folder: str) -> str:
    """Rank 1 has fewer batches, and ends, or fails in its own code."""
    params, opt = train(comm)
    if comm.rank == 1:
        raise SystemExit(0) if folder.endswith("ends") else FileNotFoundError("batch-3")
    try:
        opt.step(grads=gradients(params, comm.rank, 3))
    except mpi.RankError as fault:
        print(f"told: {fault}", flush=True)
    opt.step(grads=gradients(params, comm.rank, 3))
    return "went on without rank 1"


def waits(comm: Any, folder: str) -> str:
    """Rank 1 fails in its own code, while the others wait for it in theirs."""
    train(comm)
    if comm.rank == 1:
        raise SystemExit("batch-3") if folder.endswith("exits") else FileNotFoundError("batch-3")
    comm.recv(source=1)
    return "went on without rank 1"


def finalizes(comm: Any, folder: str) -> None:
    """The program ends MPI itself."""
    from mpi4py import MPI

    params, _ = train(comm)
    comm.Barrier()
    print("result:", digest(params), flush=True)
    MPI.Finalize()
    sys.exit()


def unmet(comm: Any, folder: str) -> str:
    """One rank makes what all ranks are to call, and nobody calls it."""
    if comm.rank == 0:
        mpi.summed(lambda: 1.0, comm)
    return "ended"


def killed(comm: Any, folder: str) -> str:
    params, opt = train(comm)
    if comm.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    opt.step(grads=gradients(params, comm.rank, 3))
    return "went on without rank 1"


def killed_save(comm: Any, folder: str) -> str:
    """One rank is killed in the middle of a save."""
    from optimlite.mpi import checkpoint

    params, opt = train(comm)
    mpi.save(f"{folder}/run", model=params, optimizer=opt)
    if comm.rank == 0:
        os.rename(f"{folder}/run", f"{folder}/kept")
        os.link(f"{folder}/kept", f"{folder}/run")
    whole = checkpoint.transfer.write

    def write(fd: int, jobs: Any, report: Any) -> Any:
        found = whole(fd, jobs, report)
        if comm.rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    checkpoint.transfer.write = write
    opt.step(grads=gradients(params, comm.rank, 3))
    mpi.save(f"{folder}/run", model=params, optimizer=opt)
    return "saved without rank 2"


def endless(comm: Any, folder: str) -> str:
    """Goes on from the file, trains, and saves after each step, until a rank is killed.

    Its bytes in the folder say who this is, and whether it trains (1) or saves (2).
    """
    params = model()
    opt = mpi.Sharded(ol.Adam(params, lr=0.01, state_dtype="int8"), comm)
    average = ol.Average(params, decay=0.5)
    step = 0
    if os.path.exists(f"{folder}/run"):
        step = mpi.restore(f"{folder}/run", model=params, optimizer=opt, average=average)["step"]
    told = np.memmap(f"{folder}/told", np.int64, "r+", shape=(2, comm.size))
    told[:, comm.rank] = os.getpid(), 1
    while True:
        opt.step(grads=gradients(params, comm.rank, step), max_grad_norm=1.0)
        average.update()
        step += 1
        told[1, comm.rank] = 2
        mpi.save(f"{folder}/run", model=params, optimizer=opt, average=average, step=step)
        told[1, comm.rank] = 1


if __name__ == "__main__":
    from mpi4py import MPI

    said = MPI.COMM_WORLD.allgather(globals()[sys.argv[1]](MPI.COMM_WORLD, sys.argv[2]))
    assert len(set(said)) == 1, said
    if MPI.COMM_WORLD.rank == 0:
        print("result:", said[0])
