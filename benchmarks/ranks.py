"""A step of four ranks of a real MPI on one machine: sharded, against Allreduce and a whole step on each.

All ranks run all contenders in turns, in one job; a step begins and ends where all ranks meet.  The ranks share this
machine's CPUs and memory: it is the software that is measured, not a network.  How fast they send and add is measured
in the same turns, and with that, `python -m optimlite plan` says how long a step takes.  `python -m benchmarks.ranks
ELEMENTS ROUNDS` is what a rank runs.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import optimlite as ol
from optimlite import mpi
from optimlite.cli.plan import planned

from .cases import WORKS, Case
from .measure import median, medians
from .peers import InPlace
from .problem import Array, Problem
from .rows import Result, Row

RANKS, ELEMENTS, ROUNDS = 4, 1536 * 16_384, 15
CASE, HAND, RATIO = "4 ranks, 25 M", "Allreduce, NumPy in-place", 1.5
PLAN = 0.5                       # the shorter of planned and measured seconds, in times of the longer, at least
[ADAM] = (work for work in WORKS if work.name == "Adam")


class Counting:
    """A communicator that counts what this rank sends to others: gradients and parameters, without the few bytes of
    what ranks tell each other.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.sent = comm, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comm, name)

    def Ialltoallv(self, mine: Any, to: Any) -> Any:     # noqa: N802 - mpi4py's names
        values, (counts, _) = mine
        self.sent += values.itemsize * (sum(counts) - counts[self.comm.rank])
        return self.comm.Ialltoallv(mine, to)

    def Iallgatherv(self, mine: Array, to: Any) -> Any:  # noqa: N802
        self.sent += mine.nbytes * (self.comm.size - 1)
        return self.comm.Iallgatherv(mine, to)


class ByHand(InPlace):
    """What MPI programs without this library do: sum all gradients on all ranks, and step everything on each."""

    def __init__(self, problem: Problem, comm: Any) -> None:
        super().__init__(problem)
        self.comm, self.total = comm, [np.empty_like(p) for p in self.arrays]
        self.step = self.summed                  # type: ignore[method-assign]

    def summed(self, gradients: list[Array]) -> None:
        for g, total in zip(gradients, self.total, strict=True):
            self.comm.Allreduce(g, total)
            np.divide(total, self.comm.size, out=total)
        self.adam(self.total)


def averaged(params: list[Array], gradients: list[Array], comm: Any) -> Callable[[], None]:
    """The same with this library, without shares."""
    opt = ol.Adam([ol.Parameter(array) for array in params], **ADAM.arguments)

    def step() -> None:
        for p, g in zip(opt.param_groups[0]["params"], gradients, strict=True):
            p.grad = g
        mpi.average_gradients(opt, comm)
        opt.step()

    return step


def machine(comm: Any, elements: int) -> dict[str, tuple[Callable[[], Any], float]]:
    """What a plan is told, and the bytes: all ranks send as much as a step does one way, and all add, at once."""
    a, b = np.ones(elements, np.float32), np.ones(elements, np.float32)
    return {"bandwidth": (lambda: comm.Alltoall(a, b), a.nbytes * (comm.size - 1) / comm.size),
            "memory": (lambda: np.add(a, b, out=b), 3.0 * a.nbytes)}


def run(comm: Any, elements: int, rounds: int) -> dict[str, Any]:
    """Seconds of each contender in each round, the bytes that a rank has sent in a sharded step, and the model's."""
    problems = [Problem(Case("", ((elements,),)), ADAM, "persistent") for _ in range(4)]
    gradients = problems[0].sets[0]
    for g in gradients:
        g += comm.rank
    for problem in problems:
        problem.sets = [gradients, gradients]
    counting, (a, b, c, d) = Counting(comm), (problem.params for problem in problems)
    sharded = mpi.Sharded(ol.Adam(a, **ADAM.arguments), counting)
    fast = mpi.Sharded(ol.Adam(b, **ADAM.arguments), comm, order="fast")
    contenders: dict[str, Callable[[], Any]] = {
        "optimlite": lambda: sharded.step(grads=gradients), "optimlite, fast": lambda: fast.step(grads=gradients),
        "optimlite, not sharded": averaged(c, gradients, comm), HAND: ByHand(problems[3], comm)}
    given = machine(comm, elements)
    work = contenders | {name: move for name, (move, _) in given.items()}
    samples: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name in list(work)[::1 if turn % 2 else -1]:
            comm.Barrier()
            start = time.perf_counter()
            work[name]()
            comm.Barrier()
            samples[name] += [time.perf_counter() - start] if turn else []
    if not all(comm.allgather([np.allclose(a[0], other[0], atol=1e-5) for other in (b, c, d)] == [True] * 3)):
        raise RuntimeError("the contenders don't do the same work")
    sent = comm.allgather(counting.sent / (rounds + 1))
    speeds = {name: nbytes / median(samples.pop(name)) for name, (_, nbytes) in given.items()}
    plan = planned(elements, comm.size, state=8.0, **speeds)
    return {"samples": samples, "sent": max(sent), "planned": plan["sent"], **speeds,
            "planned_seconds": plan["seconds"]["step"]}


class Job(Row):
    """The whole row in one job of MPI."""

    def run(self) -> Result:
        command = [*launcher(), "-n", str(RANKS), sys.executable, "-m", "benchmarks.ranks",
                   str(self.about["elements"]), str(self.rounds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600,
                              env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        result = json.loads(done.stdout.splitlines()[-1])
        seconds = medians(result["samples"])
        return {"kind": self.kind, "case": self.case, **self.about, "rounds": self.rounds, "seconds": seconds, **result,
                "ratio": {name: value / seconds["optimlite"] for name, value in seconds.items()}}


def mpiexec() -> str | None:
    """The launcher of the MPI library that mpi4py finds: that of this environment, if it has one."""
    return shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@functools.cache
def launcher() -> list[str]:
    """The beginning of a command, for more ranks than CPUs, also in a container."""
    found = mpiexec() or "mpiexec"
    version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    root = ["--allow-run-as-root"] * (os.getuid() == 0)
    return [found, *(["--oversubscribe", *root] if "Open MPI" in version else [])]


def rows() -> Iterator[Row]:
    if mpiexec() and importlib.util.find_spec("mpi4py"):
        yield Job("ranks", CASE, {"optimizer": "Adam", "elements": ELEMENTS}, ROUNDS, dict)


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """In the form of report.targets."""
    for result in results:
        if result["kind"] == "ranks":
            for what, ratio, least in ((f"{HAND} / optimlite", result["ratio"][HAND], RATIO),
                                       ("bytes that the plan says / that were sent", result["planned"] / result["sent"],
                                        1.0),
                                       ("seconds that the plan says, or measured ones, whichever is less / the other",
                                        min(plan := result["planned_seconds"] / result["seconds"]["optimlite"],
                                            1 / plan), PLAN)):
                yield {"what": f"{result['case']}: {what}", "target": f">= {least:g}", "measured": ratio,
                       "met": ratio >= least}


if __name__ == "__main__":
    from mpi4py import MPI

    found = run(MPI.COMM_WORLD, int(sys.argv[1]), int(sys.argv[2]))
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(found))
