"""What makes a Parameter behave as its array in expressions: operators, indexing, attributes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

Kept = TypeVar("Kept")
Unary = Callable[[Any], np.ndarray]
Binary = Callable[[Any, Any], np.ndarray]


def unary(plain: Callable[[Any], Any]) -> Unary:
    def computed(self: AsArray) -> Any:
        return plain(self.array)

    return computed


def binary(plain: Callable[[Any, Any], Any]) -> Binary:
    def computed(self: AsArray, other: Any) -> Any:
        return plain(self.array, other.array if isinstance(other, AsArray) else other)

    return computed


def reflected(plain: Callable[[Any, Any], Any]) -> Binary:
    def computed(self: AsArray, other: Any) -> Any:
        return plain(other, self.array)

    return computed


def in_place(plain: Callable[[Any, Any], Any]) -> Callable[[Kept, Any], Kept]:
    def computed(self: Any, other: Any) -> Any:
        self.data = plain(self.array, other.array if isinstance(other, AsArray) else other)
        return self

    return computed


class AsArray:
    """The operators of `self.array`; written out one by one, so that type checkers see them."""

    __slots__ = ()
    array: np.ndarray

    __neg__, __pos__, __abs__ = unary(operator.neg), unary(operator.pos), unary(operator.abs)
    __lt__, __le__ = binary(operator.lt), binary(operator.le)
    __gt__, __ge__ = binary(operator.gt), binary(operator.ge)

    __add__, __radd__, __iadd__ = binary(operator.add), reflected(operator.add), in_place(operator.iadd)
    __sub__, __rsub__, __isub__ = binary(operator.sub), reflected(operator.sub), in_place(operator.isub)
    __mul__, __rmul__, __imul__ = binary(operator.mul), reflected(operator.mul), in_place(operator.imul)
    __mod__, __rmod__, __imod__ = binary(operator.mod), reflected(operator.mod), in_place(operator.imod)
    __pow__, __rpow__, __ipow__ = binary(operator.pow), reflected(operator.pow), in_place(operator.ipow)
    __matmul__, __rmatmul__ = binary(operator.matmul), reflected(operator.matmul)
    __imatmul__ = in_place(operator.imatmul)
    __truediv__, __rtruediv__ = binary(operator.truediv), reflected(operator.truediv)
    __itruediv__ = in_place(operator.itruediv)
    __floordiv__, __rfloordiv__ = binary(operator.floordiv), reflected(operator.floordiv)
    __ifloordiv__ = in_place(operator.ifloordiv)

    def __divmod__(self, other: Any) -> Any:
        return divmod(self.array, other)

    def __rdivmod__(self, other: Any) -> Any:
        return divmod(other, self.array)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        return bool(self.array)

    def __float__(self) -> float:
        return float(self.array)

    def __complex__(self) -> complex:
        return complex(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __format__(self, spec: str) -> str:
        return format(self.array, spec) if spec else str(self)

    # As an array -----------------------------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __getitem__(self, index: Any) -> Any:
        return self.array[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[index] = value

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)

    def __contains__(self, value: Any) -> bool:
        return value in self.array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def size(self) -> int:
        return self.array.size

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def T(self) -> np.ndarray:  # noqa: N802 - the array's own name
        return self.array.T

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"'Parameter' object has no attribute '{name}'")
        try:
            return getattr(self.array, name)     # .sum(), .reshape(), … as on .data
        except AttributeError:
            raise AttributeError(f"'Parameter' object has no attribute '{name}'") from None
