# An inversion whose unknowns are spread over ranks: each has a stretch of a profile, and knows its neighbours' ends.
#
#     mpiexec -n 4 python examples/distributed_inversion.py      (pip install mpi4py mpich)
#     python examples/distributed_inversion.py --simulate 4
#
# The data are running means of the profile over a few points, with noise; the regularisation is a smoothed total
# variation, which keeps edges.  Both reach over the ends of a stretch by HALO points.
from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import optimlite as ol
from optimlite import mpi

HALO, WIDTH, WEIGHT, EPS = 4, 9, 0.02, 0.02
Array = np.ndarray


def profile(n: int) -> Array:
    """Layers: the truth."""
    return np.select([np.arange(n) / n < edge for edge in (0.2, 0.33, 0.6, 0.8)], [0.2, 0.9, 0.4, 0.7], 0.1)


class Stretch:
    """A rank's points of the profile, its data, and its terms of the loss."""

    def __init__(self, comm: Any, n: int) -> None:
        self.comm = comm
        bounds = [n * rank // comm.size for rank in range(comm.size + 1)]
        self.first, self.last = bounds[comm.rank], bounds[comm.rank + 1]
        self.truth = profile(n)[self.first : self.last]
        noise = np.random.default_rng(0).standard_normal(n)[self.first : self.last]  # the same for any number of ranks
        self.data = self.mean(self.with_halo(self.truth)) + 0.02 * noise

    def with_halo(self, x: Array) -> Array:
        """The stretch and its neighbours' ends; beyond the profile, its last value again."""
        ends = self.comm.allgather((x[:HALO].copy(), x[-HALO:].copy()))
        left = ends[self.comm.rank - 1][1] if self.comm.rank else np.repeat(x[:1], HALO)
        right = ends[self.comm.rank + 1][0] if self.comm.rank + 1 < self.comm.size else np.repeat(x[-1:], HALO)
        return np.concatenate([left, x, right])

    def collected(self, padded: Array) -> Array:
        """The adjoint of `with_halo`: what was found in a halo belongs to who has the point."""
        own = padded[HALO:-HALO].copy()
        halos = self.comm.allgather((padded[:HALO].copy(), padded[-HALO:].copy()))
        if self.comm.rank:
            own[:HALO] += halos[self.comm.rank - 1][1]
        else:
            own[0] += padded[:HALO].sum()
        if self.comm.rank + 1 < self.comm.size:
            own[-HALO:] += halos[self.comm.rank + 1][0]
        else:
            own[-1] += padded[-HALO:].sum()
        return own

    @staticmethod
    def mean(padded: Array) -> Array:
        return np.convolve(padded, np.ones(WIDTH) / WIDTH, "valid")

    def loss(self, x: Array) -> tuple[float, Array]:
        """This rank's terms, and the gradient of the whole loss by its points."""
        padded = self.with_halo(x)
        residual = self.mean(padded) - self.data
        gradient = np.convolve(residual, np.ones(WIDTH) / WIDTH, "full")  # the adjoint of the mean
        step = np.diff(padded[HALO - 1 : -HALO])  # to each point from the one before it
        length = np.sqrt(step * step + EPS * EPS)
        slope = WEIGHT * step / length
        gradient[HALO:-HALO] += slope
        gradient[HALO - 1 : -HALO - 1] -= slope
        return float(0.5 * residual @ residual + WEIGHT * length.sum()), self.collected(gradient)


def error(comm: Any, x: Array, truth: Array) -> float:
    """The root mean square over all ranks."""
    sums = comm.allgather((float(((x - truth) ** 2).sum()), x.size))
    return float(np.sqrt(sum(square for square, _ in sums) / sum(size for _, size in sums)))


def invert(comm: Any, n: int) -> tuple[Any, float, float]:
    """The result of `minimize` on this rank, and the errors of the data and of the solution."""
    stretch = Stretch(comm, n)
    result = ol.minimize(stretch.loss, stretch.data.copy(), jac=True, comm=comm)
    return result, error(comm, stretch.data, stretch.truth), error(comm, result.x, stretch.truth)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=400)
    parser.add_argument("--simulate", type=int, metavar="RANKS", help="threads instead of MPI's processes")
    options = parser.parse_args()
    if options.simulate:
        result, before, after = mpi.simulate(options.simulate, invert, options.points)[0]
    else:
        from mpi4py import MPI

        result, before, after = invert(MPI.COMM_WORLD, options.points)
        if MPI.COMM_WORLD.rank:
            return
    print(f"loss {result.fun:.6f} after {result.nit} iterations: {result.message}")
    print(f"error {before:.3f} of the data, {after:.3f} of the solution")
    if not (result.success and after < 0.6 * before):
        sys.exit("the solution should be nearer to the truth than the data")


if __name__ == "__main__":
    main()
