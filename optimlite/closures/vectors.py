"""Vector algebra over all parameters at once: what L-BFGS and conjugate gradients compute with.

A `Vector` holds one array for each parameter.  Every operation is one native call that reads its vectors once; products
are summed in double and in a fixed order, so they have the same bits for any number of threads and on every CPU level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _cpu
from .._core import Pieces, Vector, reduce, two_loops
from ..parameter import Parameter

NONE = np.zeros((1, 0))


class Seen(NamedTuple):
    """What is known of a gradient g after it was read, d being the direction."""

    slope: float                 # g.d
    largest: float               # max |g|
    square: float = math.nan     # g.g
    across: float = math.nan     # g.h, h being the gradient where the line starts


class Space:
    """The vectors over a list of parameters.

    `scale`: one factor for each parameter, a change of variables x = scale * z in which all vectors but the parameters
    live: gradients are multiplied by it, and so is what is added to the parameters.
    """

    def __init__(self, parameters: Sequence[Parameter], scale: Sequence[float] = ()) -> None:
        self.parameters = list(parameters)
        self.x = Vector([p.data for p in self.parameters])
        self.size = sum(p.size for p in self.parameters)
        self.eps = max((float(np.finfo(p.dtype).eps) for p in self.parameters), default=0.0)
        self.pieces = Pieces([p.size for p in self.parameters], [p.dtype.itemsize for p in self.parameters])
        self.rescale(scale)
        self.missing: dict[int, np.ndarray] = {}         # zeros in the place of gradients that are None

    def rescale(self, scale: Sequence[float]) -> None:
        self.scale = np.array(scale or [1.0], dtype=np.float64).reshape(-1, 1)

    def empty(self) -> Vector:
        return Vector([np.empty_like(p.data, subok=False) for p in self.parameters])

    def zeros(self) -> Vector:
        return Vector([np.zeros_like(p.data, subok=False) for p in self.parameters])

    def run(self, name: str, vectors: list[Vector], coefficients: Any = NONE, backwards: bool = False) -> list[float]:
        return self.pieces.run(_cpu.algebra(name, _cpu.level), vectors, coefficients, backwards)

    # Between the parameters and the vectors --------------------------------------------------------------------------

    def gradients(self) -> Vector:
        """The parameters' gradients as they lie in memory; copied where they are strided, zero where they are None."""
        arrays = []
        for index, parameter in enumerate(self.parameters):
            gradient, data = parameter.grad, parameter.data
            if gradient is None:
                if index not in self.missing:
                    self.missing[index] = np.zeros_like(data, subok=False)
                gradient = self.missing[index]
            same = gradient.flags.c_contiguous if data.flags.c_contiguous else gradient.flags.f_contiguous
            if not (same and gradient.flags.aligned):
                own = np.empty_like(data, subok=False)
                np.copyto(own, gradient)
                gradient = own
            arrays.append(gradient)
        return Vector(arrays)

    def observe(self, out: Vector, sign: float, direction: Vector) -> Seen:
        """out = sign * scale * gradients."""
        return Seen(*self.run("observe", [out, self.gradients(), direction], sign * self.scale))

    def compare(self, out: Vector, sign: float, direction: Vector, before: Vector) -> Seen:
        """out = sign * scale * gradients, with their products with themselves and with the gradient before."""
        square, slope, across, largest = self.run("compare", [out, self.gradients(), direction, before],
                                                  sign * self.scale)
        return Seen(slope, largest, square, across)

    def depart(self, start: Vector, step: float, direction: Vector) -> None:
        """start = parameters; parameters += step * scale * direction."""
        self.run("depart", [self.x, start, direction], step * self.scale)

    def launch(self, start: Vector, step: float, direction: Vector, gradient: Vector, beta: float,
               ) -> tuple[float, float, float]:
        """direction = beta * direction - gradient, and `depart` along it; returns d.d, g.d and max |d|."""
        coefficients = np.concatenate([np.full_like(self.scale, beta), step * self.scale], axis=1)
        square, slope, largest = self.run("launch", [self.x, start, direction, gradient], coefficients)
        return square, slope, largest

    def move(self, start: Vector, step: float, direction: Vector, box: tuple[Vector, Vector] | None = None) -> None:
        """parameters = start + step * scale * direction, projected onto the box if there is one."""
        if box is None:
            self.run("move", [self.x, start, direction], step * self.scale)
        else:
            self.run("move_within", [self.x, start, direction, *box], step * self.scale)

    def restore(self, saved: Vector) -> None:
        self.run("copy", [self.x, saved])

    def save(self, out: Vector) -> None:
        self.run("copy", [out, self.x])

    # Among vectors ---------------------------------------------------------------------------------------------------

    def combine(self, out: Vector, gradient: Vector, c: float, rows: Sequence[Vector] = (),
                coefficients: Sequence[float] = ()) -> tuple[float, float]:
        """out = c * gradient + sum of coefficient * row, in one pass; returns gradient.out and max |out|."""
        slope, largest = self.run("combine", [out, gradient, *rows], np.array([[c, *coefficients]]), backwards=True)
        return slope, largest

    def renew(self, s: Vector, y: Vector, step: float, direction: Vector, new: Vector, old: Vector, gradient: Vector,
              rows: Sequence[Vector], resting: bool = False) -> tuple[float, float, float, list[float], list[float]]:
        """s = step * direction and y = new - old (0 where s is 0, if `resting`), and their part in a history.

        Returns s.y, y.y, s.s, and the products of `gradient`, and of y, with every row, s and y among them, all in one
        pass.  `s` may be the direction itself, if the step is 1.
        """
        yy, sy, ss, *products = self.run("renew", [s, y, direction, new, old, gradient, *rows],
                                         np.array([[step, float(resting)]]))
        return sy, yy, ss, products[::2], products[1::2]

    def reduce(self, name: str, a: Vector, b: Vector) -> float:
        """a.b ("dot") or sum |a| ("sum_abs")."""
        return reduce([(_cpu.reduction(name, x.dtype), x, y) for x, y in zip(a.arrays, b.arrays, strict=True)])

    def gram(self, a: Vector, b: Vector, rows: Sequence[Vector]) -> tuple[list[float], list[float]]:
        """The products of a, and of b, with every row, in one pass over the rows."""
        found = self.run("gram", [a, b, *rows])
        return found[::2], found[1::2]

    # Within a box ----------------------------------------------------------------------------------------------------

    def slope_within(self, gradient: Vector, direction: Vector, box: tuple[Vector, Vector]) -> float:
        """gradient.direction over the elements that haven't run into their bound."""
        return self.run("slope_within", [gradient, direction, self.x, *box])[0]

    def free_gradient(self, out: Vector, gradient: Vector, box: tuple[Vector, Vector]) -> Seen:
        """out = gradient, but 0 where a bound stops the descent; `largest` is max |P(x - g) - x|."""
        return Seen(math.nan, *self.run("free_gradient", [out, gradient, self.x, *box]))

    def turn_inward(self, direction: Vector, gradient: Vector, box: tuple[Vector, Vector]) -> tuple[float, float]:
        """direction = 0 where it would leave the box at once; returns gradient.direction and max |direction|."""
        slope, largest = self.run("turn_inward", [direction, gradient, self.x, *box])
        return slope, largest


__all__ = ["Seen", "Space", "Vector", "two_loops"]
