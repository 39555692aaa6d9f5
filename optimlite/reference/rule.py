"""What a twin is made of.

A rule takes the finished coefficients `h` (each cast once to the arrays' type), the parameter, the finished gradient
and the state arrays, in the order in which the optimizer's `rule` names them.  It moves the state and returns the
update, which is subtracted from the parameter; few rules write the parameter themselves.

A pass before the last returns numbers for each element.  They are combined over a tensor or over more, and a function
of float64 coefficients `c`, of the sums and of their count makes the tensor's own numbers of them: `keep` and `scale`
in p = keep * p - scale * update; `against`, which takes the place of `scale` where update and gradient don't have the
same sign; and fields of `h`.  It may move scalars of state, given as a list: the tensor's own, or those of a group.  It
returns False to cancel the last pass; scalars then stand still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any      # of elements, as are the bounds that tests compute with


class Pass(NamedTuple):
    """One that measures, before the last."""

    measure: Callable[..., tuple[Array, ...]]
    how: tuple[str, ...]                 # "sum", "squares", "products" (with the number after it), "largest"
    between: Callable[..., Any]          # of rows: what each row's own numbers are; else whether to go on
    moves: bool = False                  # it stores the state that it has moved
    scope: str = "tensor"                # or "group", "everything", "rows"; "lines": squares by row and by column
    of_update: bool = False              # it measures the update that the last pass will make


class Rule(NamedTuple):
    update: Callable[..., Any]
    passes: tuple[Pass, ...] = ()
    whole: bool = False                  # writes the parameter itself
    lines: Callable[..., Array] | None = None        # what the rule finds in the place of a state: row times column
    own_scalars: int = 0                 # scalars of state, the last, that a pass moves for each tensor
    row_states: int = 0                  # state arrays, the last, with a number for each row


def towards(a: Array, b: Array, weight: Any) -> Array:
    """A choice, since a + 1 * (b - a) is not b but b rounded."""
    return b if weight == 1 else a + weight * (b - a)


def decayed(g: Array, decay: Any, p: Array) -> Array:
    return g + decay * p if decay != 0 else g


def root(x: float) -> float:
    return float(np.sqrt(np.float64(x)))


def quotient(a: float, b: float) -> float:
    return float(np.float64(a) / np.float64(b))


def sign(x: Array) -> Any:
    """torch's sign: 0 for NaN."""
    return np.subtract(x > 0, x < 0, dtype=x.dtype)
