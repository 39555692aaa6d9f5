"""What `minimize` returns: scipy's fields, and the inverse Hessian of L-BFGS as an operator."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..checks import shown
from ..engine.html import table
from ..native.arrays import parts

Pair = tuple[Sequence[np.ndarray], Sequence[np.ndarray]]        # s and y, an array for each unknown


def flattened(vectors: Sequence[Sequence[np.ndarray]], size: int) -> np.ndarray:
    rows = [np.concatenate([parts(array) for array in vector]) for vector in vectors]
    return np.array(rows, np.float64).reshape(len(rows), size)


class OptimizeResult(dict[str, Any]):
    """A dict whose items are attributes too: x, fun, jac, nit, nfev, njev, success, status and message, as in scipy;
    `hess_inv` for "lbfgs"; and `state`, with which `minimize` goes on."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the result has no `{name}`; it has {', '.join(self)}") from None

    def __new__(cls, *_: Any, **__: Any) -> OptimizeResult:
        """One of scipy's as well, where that is loaded, for those who ask by isinstance."""
        theirs = getattr(sys.modules.get("scipy.optimize"), "OptimizeResult", None)
        both = cls if theirs is None or issubclass(cls, theirs) else type(cls.__name__, (cls, theirs), {})
        return dict.__new__(both)

    def __reduce__(self) -> tuple[Any, ...]:
        return OptimizeResult, (dict(self),)

    def __dir__(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{key:>{width}}: {'{...}' if key == 'state' else repr(value)}" for key, value in self.items())

    def _repr_html_(self) -> str:
        shown = [(key, "{...}" if key == "state" else value) for key, value in self.items()]
        return table("success" if self.get("success") else "no success", (), shown)


class Intermediate(OptimizeResult):
    """What a callback gets: x and fun; the state is copied only if it is asked for."""

    def __init__(self, state: Callable[[], dict[str, Any]], **items: Any) -> None:
        super().__init__(**items)
        self._state: Callable[[], dict[str, Any]]
        object.__setattr__(self, "_state", state)

    @property
    def state(self) -> dict[str, Any]:
        return self._state()


def takes_whole(callback: Any) -> bool:
    """Whether a callback asks for an Intermediate, by the name of its only argument; refuses what can't be called."""
    if not callable(callback):
        raise TypeError(f"`callback` must be callable, got {shown(callback)}")
    try:
        return set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):              # built-in functions have no signature
        return False


def check_state(state: Any, keys: set[str], method: str | None, given: Any) -> None:
    """Refuses what isn't the `state` of a run, or is one of another method than was given."""
    if not isinstance(state, Mapping) or not set(state) >= keys:
        raise TypeError(f"`state` must be the `state` of a result, of a callback's intermediate_result or of an "
                        f"exception, got {shown(state)}")
    if method is not None and method != state["method"]:
        raise ValueError(f"`state` is one of method '{state['method']}', got method={shown(given)}; leave it out")


class InverseHessian:
    """The inverse Hessian that L-BFGS has come to, as an operator over all unknowns, one after another; of complex ones
    the real and imaginary parts by turns.

    `H @ v`, `H.matvec(v)` and `H(v)` multiply by it; `H.todense()` is the matrix.  Sums are in double.  With bounds it
    describes the variables that were free.
    """

    def __init__(self, pairs: Sequence[Pair], size: int) -> None:
        self._pairs = pairs
        self.shape, self.dtype, self.ndim = (size, size), np.dtype(np.float64), 2

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every s and y with s.y > 0, and 1 / s.y: made when somebody asks, which few do."""
        s, y = (flattened([pair[side] for pair in self._pairs], self.shape[0]) for side in (0, 1))
        products = np.einsum("ij,ij->i", s, y)
        good = products > 0.0
        return s[good], y[good], 1.0 / products[good]

    @property
    def n_corrs(self) -> int:
        return len(self.sk)

    @property
    def sk(self) -> np.ndarray:
        return self._rows[0]

    @property
    def yk(self) -> np.ndarray:
        return self._rows[1]

    @property
    def rho(self) -> np.ndarray:
        return self._rows[2]

    def __repr__(self) -> str:
        return f"InverseHessian({self.shape[0]} x {self.shape[1]}, from {self.n_corrs} pairs)"

    def matvec(self, vector: Any) -> np.ndarray:
        if np.asarray(vector).dtype.kind == "c":
            raise TypeError("the vector must be real, got complex numbers; use v.view(np.float64), their parts")
        q = np.array(vector, np.float64)
        if q.size != self.shape[1]:
            raise ValueError(f"the vector must have {self.shape[1]} elements, got shape {q.shape}")
        shape, q = q.shape, q.ravel()
        rows = list(zip(*self._rows, strict=True))
        alphas = []
        for s, y, rho in reversed(rows):
            alphas.append(rho * (s @ q))
            q -= alphas[-1] * y
        if rows:
            _, y, rho = rows[-1]
            q /= rho * (y @ y)
        for (s, y, rho), alpha in zip(rows, reversed(alphas), strict=True):
            q += (alpha - rho * (y @ q)) * s
        return q.reshape(shape)

    rmatvec = __call__ = matvec                  # it is symmetric

    def matmat(self, matrix: Any) -> np.ndarray:
        return np.column_stack([self.matvec(column) for column in np.asarray(matrix).T])

    def __matmul__(self, other: Any) -> np.ndarray:
        return self.matvec(other) if np.ndim(other) == 1 else self.matmat(other)

    dot = __matmul__

    def todense(self) -> np.ndarray:
        return self.matmat(np.eye(self.shape[0]))
