"""What `minimize` takes of second derivatives: products with a vector, or a matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import shown
from .differences import SCHEMES
from .unknowns import Unknowns


class Hessian:
    """The Hessian's products at the present x, as NewtonCG asks for them; counts the calls of the user's function."""

    def __init__(self, hess: Any, hessp: Any, unknowns: Unknowns, args: tuple[Any, ...]) -> None:
        if isinstance(hess, str) and hess in SCHEMES:
            hess = None                          # differences of gradients, which is what there is without
        for name, given in (("hess", hess), ("hessp", hessp)):
            if given is not None and not callable(given):
                raise TypeError(f"`{name}` must be a function, got {shown(given)}")
        if hess is not None and hessp is None and not unknowns.single:
            raise ValueError("`hess` needs one array of unknowns, got a nesting; give the products, `hessp(x, v)`")
        self.hess, self.hessp, self.unknowns, self.args = hess, hessp, unknowns, args
        self.calls = 0
        self.at: np.ndarray | None = None        # where the matrix was made
        self.matrix: Any = None

    @property
    def products(self) -> Callable[[list[np.ndarray]], list[Any]] | None:
        if self.hessp is not None:
            return self.by_products
        return None if self.hess is None else self.by_matrix

    def by_products(self, v: list[np.ndarray]) -> list[Any]:
        self.calls += 1
        made = self.hessp(self.unknowns.seen, self.unknowns.nest(v), *self.args)
        leaves = [made] if self.unknowns.single else self.unknowns.matched("the result of `hessp`", made)
        return [shaped("hessp", leaf, array) for leaf, array in zip(leaves, v, strict=True)]

    def by_matrix(self, v: list[np.ndarray]) -> list[Any]:
        x = self.unknowns.seen
        if self.at is None or not np.array_equal(self.at, x):
            self.calls += 1
            self.at, self.matrix = x.copy(), self.hess(x, *self.args)
        return [shaped("hess", self.matrix @ v[0].ravel(), v[0])]


def shaped(name: str, made: Any, array: np.ndarray) -> np.ndarray:
    found = np.asarray(made)
    if found.size != array.size:
        raise ValueError(f"`{name}` must give one number for each of {array.size} unknowns, got shape {found.shape}")
    return found.reshape(array.shape)
