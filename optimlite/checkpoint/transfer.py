"""Moves arrays between memory and a file in pieces, and sums them, over a few threads.

Pieces are summed apart, in any order, and their sums combined: the result is the plain CRC-32 of the array.
"""

from __future__ import annotations

import errno
import sys
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..engine.threads import Crew
from ..native.threads import get_num_threads
from .files import quoted
from .header import Tensor
from .sums import Sums
from .system import read_at, write_at

PIECE = 1 << 20                      # bytes that are copied, summed and written at a time: they stay in the cache
SUMMED = 4                           # pieces that are read and summed at a time: these, too, stay there
READ = 12                            # pieces that are only read: of fewer, threads wait for the interpreter
BUFFERS = 512                        # in one call of the system, which takes up to 1024
THREADED = 8 << 20                   # bytes from which on threads pay
PAGE = 4096                          # bytes
MAX_THREADS = 4                      # more would only wait for the memory
WRITERS = 2                          # one writes while the other sums: a file takes one thread's bytes at a time
Batch = TypeVar("Batch")


class Piece(NamedTuple):
    key: int                         # of its array
    array: Any                       # a part of it, or the number of bytes that are read only to be summed
    offset: int                      # in the file
    nbytes: int


def pieces(array: np.ndarray, itemsize: int, most: int, offset: int = 0) -> Iterator[np.ndarray]:
    """Parts of an array of any strides, of at most `most` bytes, which follow each other in C order.

    Those of an array without gaps end where the file, in which it begins at `offset`, has a multiple of `most`: the
    system keeps what comes so in large pages, which are faster to read again.
    """
    if not array.flags.c_contiguous:
        yield from rows(array, itemsize, most)
        return
    flat, step = array.reshape(-1), max(1, most // itemsize)
    start, stop = 0, -offset % most // itemsize or step
    while start < flat.size:
        yield flat[start:stop]
        start, stop = stop, stop + step


def rows(array: np.ndarray, itemsize: int, most: int) -> Iterator[np.ndarray]:
    """Parts of an array along its axes, of at most `most` bytes, which follow each other in C order."""
    nbytes = array.size * itemsize
    if nbytes <= most:
        yield array
        return
    axis = next(axis for axis, length in enumerate(array.shape) if length > 1)
    step = max(1, most // (nbytes // array.shape[axis]))
    for start in range(0, array.shape[axis], step):
        yield from rows(array[(slice(None),) * axis + (slice(start, start + step),)], itemsize, most)


def cut(jobs: Iterable[tuple[Tensor, np.ndarray | None]], most: int) -> Iterator[list[Piece]]:
    """Batches of at most `most` bytes, in pieces that follow each other in the file.

    A tensor without an array is read only to be summed.
    """
    batch: list[Piece] = []
    total = 0
    for piece in every(jobs, most):
        apart = batch and (batch[-1].offset + batch[-1].nbytes != piece.offset or piece.offset % most == 0)
        if apart or len(batch) == BUFFERS or total + piece.nbytes > most:
            if batch:
                yield batch
            batch, total = [], 0
        batch.append(piece)
        total += piece.nbytes
    if batch:
        yield batch


def every(jobs: Iterable[tuple[Tensor, np.ndarray | None]], most: int) -> Iterator[Piece]:
    for key, (tensor, array) in enumerate(jobs):
        offset, itemsize = tensor.begin, tensor.dtype.itemsize if array is not None else 1
        parts: Iterable[Any] = (pieces(array, itemsize, most, offset) if array is not None else
                                (min(most, tensor.end - start) for start in range(offset, tensor.end, most)))
        for part in parts:
            nbytes = part.size * itemsize if array is not None else part
            if nbytes:
                yield Piece(key, part, offset, nbytes)
            offset += nbytes


def each(batches: Iterator[Batch], work: Callable[[Batch, np.ndarray], None], nbytes: int,
         most: int = MAX_THREADS, tell: Callable[[], None] | None = None) -> None:
    """Calls `work(batch, scratch)` for every batch, on several threads if there is much to do.

    `tell` is called by this thread alone, now and then.  Whatever interrupts it, no other thread is at work any more
    when it returns.
    """
    lock = allocate_lock()
    faults: list[BaseException] = []

    def loop(tell: Callable[[], None] | None = None) -> None:
        scratch = np.empty(min(nbytes, max(READ, SUMMED) * PIECE) + PAGE, np.uint8)
        try:
            while not faults:
                with lock:
                    batch = next(batches, None)
                if batch is None:
                    return
                work(batch, scratch)
                if tell:
                    tell()
        except BaseException as fault:
            faults.append(fault)

    crew = Crew()
    try:
        for _ in range(min(get_num_threads(), most) - 1 if nbytes >= THREADED else 0):
            if not crew.start(loop):
                break
        loop(tell)
    except BaseException as fault:
        faults.append(fault)
    while True:
        try:
            crew.wait()
            break
        except BaseException as fault:           # ends the others, which are waited for all the same
            faults.append(fault)
    if faults:
        try:
            raise faults[0]
        finally:
            faults.clear()                       # the fault refers to this frame, and the frame must not refer to it
    if tell:
        tell()


def write(fd: int, jobs: list[tuple[Tensor, np.ndarray]], report: Callable[[int], None]) -> list[int]:
    """Writes arrays to their places in a file; returns their checksums. `report` is told the bytes, by this thread.

    Every byte of an array is read once, into a buffer which is summed and written: other threads may change the array
    meanwhile.
    """
    sums, written = Sums(len(jobs)), list[int]()

    def work(batch: list[Piece], scratch: np.ndarray) -> None:
        first, end = batch[0].offset, 0
        for piece in batch:
            begin, end = piece.offset - first, piece.offset - first + piece.nbytes
            take(piece.array, scratch[begin:end])
            sums.add(piece.key, piece.offset, scratch[begin:end])
        full(write_at, fd, [scratch[:end]], first)
        written.append(end)

    def tell() -> None:
        while written:
            report(written.pop())

    each(cut(jobs, PIECE), work, sum(tensor.end - tensor.begin for tensor, _ in jobs), WRITERS, tell)
    return sums.results()


def read(fd: int, jobs: list[tuple[Tensor, np.ndarray | None]], verify: bool) -> None:
    """Reads tensors into arrays of their dtype and shape, or only their sums; ValueError if a checksum differs."""
    sums = Sums(len(jobs))

    def use(piece: Piece, buffer: np.ndarray) -> None:
        if verify:
            sums.add(piece.key, piece.offset, buffer)
        if isinstance(piece.array, np.ndarray):
            put(piece.array, buffer)

    def work(batch: list[Piece], scratch: np.ndarray) -> None:
        first = batch[0].offset
        shift = (first + PAGE // 2 - scratch.__array_interface__["data"][0]) % PAGE      # far from what `at_odds` tells
        buffers = []
        for piece in batch:
            if direct := isinstance(piece.array, np.ndarray) and piece.array.flags.c_contiguous:
                buffer = piece.array.reshape(-1).view(np.uint8)
                direct = piece.nbytes < PAGE or not at_odds(buffer.__array_interface__["data"][0], piece.offset)
            if not direct:
                begin = shift + piece.offset - first
                buffer = scratch[begin:begin + piece.nbytes]
            buffers.append((buffer, direct))
        full(read_at, fd, [buffer for buffer, _ in buffers], first)
        for piece, (buffer, direct) in zip(batch, buffers, strict=True):
            if not direct:
                use(piece, buffer)
            elif verify:
                sums.add(piece.key, piece.offset, buffer)

    nbytes = sum(tensor.end - tensor.begin for tensor, _ in jobs)
    each(cut(jobs, (SUMMED if verify else READ) * PIECE), work, nbytes)
    if verify:
        for (tensor, _), crc in zip(jobs, sums.results(), strict=True):
            if tensor.crc is not None and tensor.crc != crc:
                raise ValueError(f"{quoted(tensor.name)} is damaged: "
                                 f"its checksum is {crc:08x} instead of {tensor.crc:08x}")


def at_odds(address: int, offset: int) -> bool:
    """Whether a copy from the file's page to memory takes three times as long on some CPUs (AMD's Zen 3 and 4).

    Their instruction for copies stumbles where the target stands less than a cache line behind the source, page for
    page; NumPy's large arrays stand 16 bytes behind the start of a page.  Two copies by way of the scratch are faster.
    """
    return 0 < (address - offset) % PAGE < 64


def put(array: np.ndarray, buffer: np.ndarray) -> None:
    """Copies bytes, in C order, into an array of any strides."""
    np.copyto(array, buffer.view(array.dtype).reshape(array.shape))


def take(array: np.ndarray, buffer: np.ndarray) -> None:
    """Copies an array of any strides into bytes, in C order, little-endian."""
    little = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" or sys.byteorder == "big" else array.dtype
    np.copyto(buffer.view(little).reshape(array.shape), array)


def full(call: Callable[..., int], fd: int, buffers: list[np.ndarray], offset: int) -> None:
    """Repeats a `write_at` or `read_at` until it has moved all bytes."""
    buffers = list(buffers)
    while buffers:
        moved = call(fd, buffers, offset)
        if not moved:
            if call is read_at:
                raise ValueError(f"the file was cut short at byte {offset} while it was read")
            raise OSError(errno.EIO, "the file takes no more bytes")
        offset += moved
        while buffers and moved >= buffers[0].nbytes:
            moved -= buffers.pop(0).nbytes
        if buffers:
            buffers[0] = buffers[0][moved:]
