"""Arrays with a column for each of many problems, and sums whose bits don't depend on how many there are.

The order of NumPy's own sums along an axis, of `einsum` and of BLAS depends on layout, length and alignment: a problem
would have other bits beside other problems.  Elementwise operations depend on nothing of that; sums are made of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray


def additions(terms: Array) -> list[tuple[Array, Array]]:
    """The additions of a sum along the first axis: the second half to the first, and so on; terms[0] is the sum."""
    rows, found = len(terms), []
    while rows > 1:
        half = (rows + 1) // 2
        found.append((terms[:rows - half], terms[half:rows]))
        rows = half
    return found


def dots(*factors: tuple[Array, Array]) -> Array:
    """The products of the columns of each a with those of its b, a row each."""
    rows, columns = factors[0][0].shape
    terms = np.empty((rows, len(factors), columns))
    for index, (a, b) in enumerate(factors):
        np.multiply(a, b, out=terms[:, index])
    return summed(terms, additions(terms))


def summed(terms: Array, of: list[tuple[Array, Array]]) -> Array:
    """The sum along the first axis, by its `additions`; the terms are overwritten."""
    for first, second in of:
        np.add(first, second, out=first)
    found: Array = terms[0]
    return found


def dot(a: Array, b: Array) -> Array:
    """The product of each column of a with that of b."""
    found: Array = dots((a, b))[0]
    return found


def overlaid(new: Array, old: Array, columns: Array) -> Array:
    """`new`, which is overwritten, with these columns of `old`: less work than a choice for each element."""
    if len(columns):
        new[..., columns] = old[..., columns]
    return new


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
