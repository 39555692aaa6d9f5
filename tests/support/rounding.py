"""Backward error bounds of any formula in NumPy: it is evaluated on arrays that carry their own bound."""

from __future__ import annotations

from typing import Any

import numpy as np

U = 2.0**-24                     # what a rounding to float32 changes at most, relatively
SMALL = 2.0**-12                 # relative errors up to which squares of them don't count


class Terms(np.lib.mixins.NDArrayOperatorsMixin):
    """A value in float64; the sum of the magnitudes of the terms it is made of; the roundings on its longest path.

    In float32 the value then comes out with an error of at most roundings * u * size, to first order (Higham 2002,
    chapter 3).  Where nothing cancels, size = |value|.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, value: Any, size: Any = None, roundings: float = 0) -> None:
        self.value = np.array(value, np.float64)
        self.size = np.array(abs(self.value) if size is None else size, np.float64)
        self.roundings = roundings

    @classmethod
    def coefficient(cls, value: float) -> Terms:
        """A number that is cast to float32 first: a rounding, unless it fits."""
        return cls(value, roundings=int(float(np.float32(value)) != value))

    @property
    def resolved(self) -> np.ndarray:
        """The size where enough is left of the terms for a first order in a quotient or a root, else infinite."""
        return np.where(self.roundings * U * self.size <= SMALL * abs(self.value), self.size, np.inf)

    @property
    def bound(self) -> np.ndarray:
        return 1.001 * self.roundings * U * self.size

    def __setitem__(self, index: Any, other: Any) -> None:
        other = other if isinstance(other, Terms) else Terms(other)
        self.value[index], self.size[index], self.roundings = other.value, other.size, other.roundings

    def __bool__(self) -> bool:
        return bool(self.value)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        assert method == "__call__"
        assert not kwargs
        x, y = (*(a if isinstance(a, Terms) else Terms(a) for a in inputs), Terms(1))[:2]
        value = ufunc(*(each.value for each in (x, y)[:len(inputs)]))
        both = x.roundings + y.roundings
        match ufunc.__name__:
            case "add" | "subtract":
                return Terms(value, x.size + y.size, max(x.roundings, y.roundings) + 1)
            case "multiply":
                return Terms(value, x.size * y.size, both + 1)
            case "divide":               # a divisor in which terms cancel makes the quotient as much worse
                return Terms(value, x.size / abs(y.value) * (y.resolved / abs(y.value)), both + 1)
            case "sqrt":                 # halves a relative error
                return Terms(value, np.where(x.size > 0, x.resolved / value, 0), x.roundings / 2 + 1)
            case "maximum":
                return Terms(value, np.maximum(x.size, y.size), max(x.roundings, y.roundings))
            case "negative" | "absolute":
                return Terms(value, x.size, x.roundings)
            case "greater" | "less" | "equal" | "not_equal":
                return value
        raise AssertionError(ufunc.__name__)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        assert function is np.where
        x, y = (a if isinstance(a, Terms) else Terms(a) for a in args[1:])
        return Terms(np.where(args[0], x.value, y.value), np.where(args[0], x.size, y.size),
                     max(x.roundings, y.roundings))
