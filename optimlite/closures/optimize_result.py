"""What `minimize` returns: scipy's fields, and the inverse Hessian of L-BFGS as an operator."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..engine.html import table
from ..native.arrays import parts

Pair = tuple[Sequence[np.ndarray], Sequence[np.ndarray]]        # s and y, an array for each unknown


def product(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    return sum(float(np.vdot(np.float64(parts(u)), np.float64(parts(v)))) for u, v in zip(a, b, strict=True))


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


class InverseHessian:
    """The inverse Hessian that L-BFGS has come to, as an operator over all unknowns, one after another; of complex ones
    the real and imaginary parts by turns.

    `H @ v`, `H.matvec(v)` and `H(v)` multiply by it; `H.todense()` is the matrix.  Sums are in double.  With bounds it
    describes the variables that were free.
    """

    def __init__(self, pairs: Sequence[Pair], size: int) -> None:
        self.pairs = [pair for pair in pairs if product(*pair) > 0.0]
        self.rho = [1.0 / product(s, y) for s, y in self.pairs]
        self.shape, self.dtype, self.ndim = (size, size), np.dtype(np.float64), 2

    @property
    def n_corrs(self) -> int:
        return len(self.pairs)

    @property
    def sk(self) -> np.ndarray:
        return flattened([s for s, _ in self.pairs], self.shape[0])

    @property
    def yk(self) -> np.ndarray:
        return flattened([y for _, y in self.pairs], self.shape[0])

    def __repr__(self) -> str:
        return f"InverseHessian({self.shape[0]} x {self.shape[1]}, from {len(self.pairs)} pairs)"

    def matvec(self, vector: Any) -> np.ndarray:
        if np.asarray(vector).dtype.kind == "c":
            raise TypeError("the vector must be real, got complex numbers; use v.view(np.float64), their parts")
        q = np.array(vector, np.float64)
        if q.size != self.shape[1]:
            raise ValueError(f"the vector must have {self.shape[1]} elements, got shape {q.shape}")
        shape, q = q.shape, q.ravel()
        flat = list(zip(self.sk, self.yk, strict=True))
        alphas = []
        for (s, y), rho in zip(reversed(flat), reversed(self.rho), strict=True):
            alphas.append(rho * (s @ q))
            q -= alphas[-1] * y
        if flat:
            s, y = flat[-1]
            q *= (s @ y) / (y @ y)
        for (s, y), rho, alpha in zip(flat, self.rho, reversed(alphas), strict=True):
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
