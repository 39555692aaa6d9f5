"""Arrays with a column for each of many problems, and sums whose bits don't depend on how many there are.

The order of NumPy's own sums along an axis, of `einsum` and of BLAS depends on layout, length and alignment: a problem
would have other bits beside other problems.  Elementwise operations depend on nothing of that; sums are made of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray


def total(terms: Array) -> Array:
    """The sum of each column; `terms` is overwritten.  The second half is added to the first, and so on."""
    rows = len(terms)
    while rows > 1:
        half = (rows + 1) // 2
        first = terms[:rows - half]
        np.add(first, terms[half:rows], out=first)
        rows = half
    found: Array = terms[0]
    return found


def dot(a: Array, b: Array, room: Array | None = None) -> Array:
    """The product of each column of a with that of b; valid until `room` is written to again."""
    return total(np.multiply(a, b, out=room))


def largest(a: Array) -> Array:
    """max |a| of each column: exact, in whatever order."""
    found: Array = abs(a).max(axis=0)
    return found


class Columns:
    """Its attributes that are arrays, or lists of them, have the problems that run along the last axis."""

    def keep(self, chosen: Array) -> None:
        """Forgets all columns but those at these places."""
        for name, value in vars(self).items():
            setattr(self, name, kept(value, chosen))


def kept(value: Any, chosen: Array) -> Any:
    if isinstance(value, list):
        return [kept(one, chosen) for one in value]
    return np.take(value, chosen, axis=-1) if isinstance(value, np.ndarray) else value
