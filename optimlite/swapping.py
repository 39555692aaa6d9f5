"""Parameters that hold their averages for a while, and where their own values are meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from .engine import halves
from .engine.overlap import relation
from .engine.parameter import Parameter, check_still_writeable
from .engine.shadows import rounded
from .native.parameters import byte_bounds

Pairs = list[tuple[np.ndarray, np.ndarray]]


def with_shadows(parameters: Iterable[Parameter], arrays: list[np.ndarray],
                 ) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The parameters' arrays and their shadows; and what each is to hold for a while, in the same order."""
    pairs = [(parameter.data, np.array(rounded(array, parameter.data), order="K") if parameter.half else array)
             for parameter, array in zip(parameters, arrays, strict=True)]
    pairs += [(parameter.shadow, np.array(rounded(array, parameter.shadow), order="K"))
              for parameter, array in zip(parameters, arrays, strict=True) if parameter.shadow is not None]
    return [live for live, _ in pairs], [other for _, other in pairs]


class Swap:
    """What to exchange for averages to be in the parameters' place, and what to have everything back.

    `live`: the parameters' arrays, perhaps with their shadows behind them, as `with_shadows` returns them.

    `own`: arrays with the averages, made for it, which hold the parameters' own values meanwhile.  What has been
    written to the parameters in between is taken for the average: it goes to `averages`, if these are kept.
    Raises RuntimeError where others are in their place already, and ValueError where an array is read-only now.
    """

    def __init__(self, live: list[np.ndarray], own: list[np.ndarray], averages: list[np.ndarray] | None = None) -> None:
        if meets(live):
            raise RuntimeError("the averages are swapped in already")
        for array in live:
            check_still_writeable(array)
        self.live, self.own = live, own
        # 0, while the averages are there 1, afterwards 2: exchanged with the arrays, so true of them at any moment.
        self.state = np.array(0)
        self.into: Pairs = [*zip(live, own, strict=True), (self.state, np.array(1))]
        # shadows, behind, aren't averages, and those of 16 bits are float32
        kept = [] if averages is None else [pair for pair in zip(own, averages, strict=False)
                                            if pair[0].dtype == pair[1].dtype]
        self.back: Pairs = [*zip(live, own, strict=True), *kept, (self.state, np.array(2))]

    @property
    def there(self) -> bool:
        return bool(self.state == 1)


swaps: list[Swap] = []


def held(swap: Swap) -> Iterator[None]:
    """What a context manager does that has the averages in the parameters' place inside `with`."""
    from .native.files import exchange

    try:
        swaps.append(swap)
        exchange(swap.into)
        yield
    finally:
        if swap.state == 1:                      # no call before this one, in which an interrupt could come
            exchange(swap.back)
        swap.state[...] = 2
        present()                                # which forgets it


def present() -> list[Swap]:
    for swap in [swap for swap in swaps if swap.state == 2]:
        with contextlib.suppress(ValueError):    # another thread was here meanwhile
            swaps.remove(swap)
    return [swap for swap in swaps if swap.state == 1]


def meets(arrays: Iterable[np.ndarray]) -> bool:
    """Whether an average is in the place of any of the arrays."""
    live = [array for swap in present() for array in swap.live]
    return bool(live) and any(relation(array, other) for array in arrays for other in live)


def outside(array: np.ndarray) -> np.ndarray:
    """What the array holds when no average is swapped in: itself; if swapped parameters lie in it, other memory."""
    touched = list(_touched(array))
    if not touched:
        return array
    for live, own in touched:
        if (place := _part(array, live, own)) is not None:
            return place
    begins, ends = zip(*map(byte_bounds, (array, *(live for live, _ in touched))), strict=True)
    low = min(begins)
    memory = _memory(low, max(ends)).copy()      # all of one allocation, since they overlap
    for live, own in touched:
        np.ndarray(live.shape, live.dtype, memory, _address(live) - low, live.strides)[...] = own
    return np.ndarray(array.shape, array.dtype, memory, _address(array) - low, array.strides)


halves.own_values = outside      # masters are of a parameter's own values


def place_outside(array: np.ndarray) -> np.ndarray:
    """As `outside`, but to be written to."""
    touched = list(_touched(array))
    for live, own in touched:
        if (place := _part(array, live, own)) is not None:
            return place
    if touched:
        raise RuntimeError("averages are swapped in for a part of an array that is to be restored; leave "
                           "`with average.swapped()` before that")
    return array


def _touched(array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for swap in present():
        yield from ((live, own) for live, own in zip(swap.live, swap.own, strict=True)
                    if relation(array, live))


def _part(array: np.ndarray, live: np.ndarray, own: np.ndarray) -> np.ndarray | None:
    """The same part of `own` that the array is of `live`; None if it isn't all in there, or hard to tell."""
    if array is live or _place(array) == _place(live):
        return own
    (low, high), (begin, end) = byte_bounds(array), byte_bounds(live)
    if not (live.flags.forc and begin <= low <= high <= end):
        return None
    return np.ndarray(array.shape, array.dtype, _bytes(own), _address(array) - begin, array.strides)


def _bytes(own: np.ndarray) -> np.ndarray:
    """Memory of a contiguous array, as it lies there."""
    return (own if own.flags.c_contiguous else own.T).reshape(-1).view(np.uint8)


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _place(array: np.ndarray) -> tuple[Any, ...]:
    return _address(array), array.dtype, array.shape, array.strides


def _memory(low: int, high: int) -> np.ndarray:
    return np.asarray(SimpleNamespace(__array_interface__={"data": (low, True), "shape": (high - low,),
                                                           "typestr": "|u1", "version": 3}))
