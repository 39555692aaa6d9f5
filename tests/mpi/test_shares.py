"""What each rank has: an equal share, cut at blocks alone, its state, and buffers of bounded size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import mpi
from optimlite.engine.parts import BLOCK
from optimlite.mpi import reduction
from optimlite.mpi.shares import Tensor, assigned
from support.ranks import adam, same_bits, spread


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
