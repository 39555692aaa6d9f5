"""Sums in an order that everybody can keep: in 16 lanes, tile by tile, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray
BLOCK, TILE, TILE_ROWS = 16384, 1024, 64


def in_memory_order(x: Array, p: Array) -> Array:
    """The elements of x in the order in which those of p are stepped; x may have one more axis, of pairs."""
    if p.flags.fnc:
        return np.ravel(np.moveaxis(x, -1, 0) if x.ndim > p.ndim else x, "F")
    return np.ravel(x)


def sum_in_lanes(x: Array) -> Array:
    """Sums of numbers >= 0 along the last axis in an order that everybody can keep: in 16 lanes, then in halves."""
    x = np.concatenate([x, np.zeros((*x.shape[:-1], -x.shape[-1] % 16))], axis=-1)
    lane: Array = np.add.accumulate(x.reshape(*x.shape[:-1], -1, 16), axis=-2)[..., -1, :]
    for width in (8, 4, 2, 1):
        lane = lane[..., :width] + lane[..., width:2 * width]
    return lane[..., 0]


def blocks(p: Array, g: Array) -> Iterator[Array]:
    """The magnitudes of g in the order in which the parameter is stepped, in blocks of 16384."""
    x = np.abs(in_memory_order(g, p).astype(np.float64))
    return (x[start:start + 16384] for start in range(0, x.size, 16384))


def sum_squares(p: Array) -> float:
    return float(sum(sum_in_lanes(block * block) for block in blocks(p, p)))


def grad_norm(gradients: list[tuple[Array, Array]], norm_type: float = 2.0) -> float:
    """The norm of order 1, 2 or inf of all gradients together, in float64, given as (parameter, gradient).

    float32 goes before float64; elements are taken in the order of the parameter's steps, in blocks of 16384.
    """
    total: Any = np.float64(0)
    with np.errstate(all="ignore"):
        for p, g in sorted(gradients, key=lambda pair: pair[1].itemsize):
            for block in blocks(p, g):
                if norm_type == np.inf:
                    total = np.maximum(total, block.max())
                else:
                    total = total + sum_in_lanes(block * block if norm_type == 2 else block)
        return float(np.sqrt(total) if norm_type == 2 else total)


def tiles(x: Array) -> Iterator[list[Array]]:
    """The tiles of each block of a vector."""
    for start in range(0, x.size, BLOCK):
        block = x[start:start + BLOCK]
        yield [block[at:at + TILE] for at in range(0, block.size, TILE)]


def combined(how: str, x: Array, after: Array | None, begin: float = 0.0) -> float:
    """What a pass measures of x (and the number after it), in the order of memory, behind what `begin` is of."""
    x = x.astype(np.float64)
    if how == "largest":
        return larger(begin, float(np.abs(x).max())) if x.size else begin
    terms = {"sum": x, "squares": x * x}[how] if after is None else x * after.astype(np.float64)
    return float(sum((float(sum(map(sum_in_lanes, block))) for block in tiles(terms)), begin))


def squares_by_line(matrices: Array) -> tuple[Array, Array]:
    """Of each row, in lanes; of each column, from above.  Matrices of more than a tile's elements: tile by tile."""
    squares = matrices.astype(np.float64)**2
    large = squares[0].size > TILE if len(squares) else False
    across, down = (TILE, TILE_ROWS) if large else (squares.shape[2] or 1, squares.shape[1] or 1)
    by_row = [sum_in_lanes(squares[:, :, k:k + across]) for k in range(0, squares.shape[2], across)]
    by_column = [np.add.accumulate(squares[:, k:k + down], axis=1)[:, -1] for k in range(0, squares.shape[1], down)]
    rows: Any = np.add.accumulate(by_row)[-1]
    columns: Any = np.add.accumulate(by_column)[-1]
    return rows, columns


def larger(a: float, b: float) -> float:
    return b if b > a or b != b else a           # NaN wins
