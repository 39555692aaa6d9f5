"""Vector algebra over all parameters at once: what L-BFGS and conjugate gradients compute with.

A `Vector` holds one array for each parameter.  Every operation is one native call that reads its vectors once; products
are summed in double and in a fixed order, so they have the same bits for any number of threads and on every CPU level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.parameter import Parameter, laid_out
from ..engine.sparse_grad import SparseGrad
from ..native import dispatch
from ..native.arrays import blocks_of
from ..native.vectors import Vector as Vector
from ..native.vectors import copy_each

NONE = np.zeros((1, 0))
Box = tuple[Vector, Vector]      # the lower and the upper limits


class GradientProducts(NamedTuple):
    """What is known of a gradient g after it was read, d being the direction."""

    slope: float                         # g.d
    largest: float                       # max |g|
    square: float = math.nan             # g.g
    g_dot_previous: float = math.nan     # g.h, h being the gradient where the line starts


class VectorSpace:
    """The vectors over a list of parameters.

    Vectors are expressed in z, where x = scale * z; parameters stay in x.  Gradients are multiplied by the scale when
    they are read (and by -1 to maximize), and so is what is added to the parameters.  Strided parameters are computed
    with in copies: `_run` fetches and returns their values.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = list(parameters)
        self.strided = [p.data.view(np.ndarray) for p in self.parameters if not p.data.flags.forc]
        self.gathered = [laid_out(array) for array in self.strided]
        copies = iter(self.gathered)
        self.x = Vector([p.data if p.data.flags.forc else next(copies) for p in self.parameters])
        self.size = sum(p.size * (2 if p.dtype.kind == "c" else 1) for p in self.parameters)
        self.eps = max((float(np.finfo(p.dtype).eps) for p in self.parameters), default=0.0)
        self.blocks = blocks_of([p.data for p in self.parameters])
        self.rescale([])
        self.missing: dict[int, np.ndarray] = {}         # zeros in the place of gradients that are None
        self.fixed: list[np.ndarray | None] = [None] * len(self.parameters)      # elements whose bounds are equal

    def rescale(self, scale: Sequence[float], sign: float = 1.0) -> None:
        """One factor for each parameter (none: 1), and the sign of the gradients: -1 to maximize."""
        self.scale = np.array(scale or [1.0], dtype=np.float64).reshape(-1, 1)
        self.gradient_scale = sign * self.scale

    def empty(self) -> Vector:
        return Vector([laid_out(p.data) for p in self.parameters])

    def rows(self, count: int, halves: bool = False) -> list[Vector]:
        """Vectors for a history, in one piece of memory for each parameter, since the system maps large pieces in large
        pages.  `halves`: of 16 bits an element."""
        pieces = [np.empty((count, *(p.shape[::-1] if p.data.flags.fnc else p.shape)), np.uint16 if halves else p.dtype)
                  for p in self.parameters]
        return [Vector([piece[k, ...].T if p.data.flags.fnc else piece[k, ...]
                        for p, piece in zip(self.parameters, pieces, strict=True)]) for k in range(count)]

    def real(self, vector: Vector) -> Vector:
        """The vector, widened if it has 16 bits."""
        if not vector.halves:
            return vector
        out = self.empty()
        self._run("widen", [out, vector])
        return out

    def zeros(self) -> Vector:
        return Vector([laid_out(p.data, np.zeros) for p in self.parameters])

    @property
    def kernels_finished(self) -> int:
        """Tells code that runs after an interrupt whether the last kernel completed."""
        return self.blocks.finished

    def _run(self, name: str, vectors: list[Vector], coefficients: Any = NONE, backwards: bool = False) -> list[float]:
        kernels, uses_x = dispatch.vector_kernels(name, dispatch.level), self.strided and self.x in vectors
        if uses_x:
            self.fetch()
        found = self.blocks.run(kernels, vectors, coefficients, backwards)
        if uses_x and vectors[0] is self.x:      # outputs come first
            copy_each(self.strided, self.gathered, False)
        return found

    def fetch(self) -> None:
        """The values of strided parameters, for who reads `x` without a kernel."""
        if self.strided:
            copy_each(self.strided, self.gathered, True)

    # Between the parameters and the vectors --------------------------------------------------------------------------

    def gradients(self) -> Vector:
        """The parameters' gradients as they lie in memory; copied where they are strided, zero where they are None."""
        return Vector([self._gradient(index) for index in range(len(self.parameters))])

    def _gradient(self, index: int) -> np.ndarray:
        parameter, fixed = self.parameters[index], self.fixed[index]
        gradient, data = parameter.grad, parameter.data
        if isinstance(gradient, SparseGrad):
            raise TypeError("closure methods take no sparse gradients, since they compute with whole vectors; "
                            "make it dense with gradient.to_dense(len(parameter))")
        if gradient is None:
            if index not in self.missing:
                self.missing[index] = laid_out(data, np.zeros)
            return self.missing[index]
        # An element that can't move has a gradient of no interest, which may be NaN.
        spoilt = None if fixed is None else fixed & ~np.isfinite(gradient)
        same = gradient.flags.f_contiguous if data.flags.fnc else gradient.flags.c_contiguous
        if same and gradient.flags.aligned and gradient.dtype == data.dtype and (spoilt is None or not spoilt.any()):
            return np.asarray(gradient)
        own = laid_out(data)
        np.copyto(own, gradient)
        if spoilt is not None:
            own[spoilt] = 0
        return own

    def read_gradient(self, out: Vector, direction: Vector) -> GradientProducts:
        """out = gradients, scaled."""
        return GradientProducts(*self._run("observe", [out, self.gradients(), direction], self.gradient_scale))

    def read_gradient_and_products(self, out: Vector, direction: Vector, previous: Vector) -> GradientProducts:
        """out = gradients, scaled, with their products with themselves and with the previous gradient."""
        square, slope, g_dot_previous, largest = self._run("compare", [out, self.gradients(), direction, previous],
                                                           self.gradient_scale)
        return GradientProducts(slope, largest, square, g_dot_previous)

    def save_and_move(self, start: Vector, step: float, direction: Vector) -> None:
        """start = parameters; parameters += step * scale * direction."""
        self._run("depart", [self.x, start, direction], step * self.scale)

    def turn_and_move(self, start: Vector, step: float, direction: Vector, gradient: Vector, beta: float,
                      ) -> tuple[float, float, float]:
        """direction = beta * direction - gradient, and `save_and_move` along it; returns d.d, g.d and max |d|."""
        coefficients = np.concatenate([np.full_like(self.scale, beta), step * self.scale], axis=1)
        square, slope, largest = self._run("launch", [self.x, start, direction, gradient], coefficients)
        return square, slope, largest

    def move(self, start: Vector, step: float, direction: Vector, box: Box | None = None) -> None:
        """parameters = start + step * scale * direction, projected onto the box if there is one."""
        if box is None:
            self._run("move", [self.x, start, direction], step * self.scale)
        else:
            self._run("move_within", [self.x, start, direction, *box], step * self.scale)

    def displacement(self, out: Vector, start: Vector) -> None:
        """out = (parameters - start) / scale; 0 where the scale is 0."""
        inverse = np.divide(1.0, self.scale, out=np.zeros_like(self.scale), where=self.scale > 0)
        self._run("combine", [out, self.x, start], inverse * [[1.0, -1.0]])

    def restore(self, saved: Vector) -> None:
        self._run("copy", [self.x, saved])

    def save(self, out: Vector) -> None:
        self._run("copy", [out, self.x])

    # Among vectors ---------------------------------------------------------------------------------------------------

    def linear_combination(self, out: Vector, gradient: Vector, c: float, rows: Sequence[Vector] = (),
                           coefficients: Sequence[float] = ()) -> tuple[float, float]:
        """out = c * gradient + sum of coefficient * row, in one pass; returns gradient.out and max |out|."""
        name = "combine_halves" if rows and rows[0].halves else "combine"
        slope, largest = self._run(name, [out, gradient, *rows], np.array([[c, *coefficients]]), backwards=True)
        return slope, largest

    def add_pair(self, s: Vector, y: Vector, step: float, direction: Vector, new: Vector, old: Vector, gradient: Vector,
                 rows: Sequence[Vector], resting: bool = False) -> tuple[float, list[float], list[float]]:
        """s = step * direction and y = new - old (0 where s is 0, if `resting`), and their products with a history.

        Returns s.s, and the products of `gradient`, and of y, with every row, s and y among them, all in one pass.  `s`
        may be the direction itself, if the step is 1.
        """
        ss, *products = self._run("renew_halves" if s.halves else "renew",
                                  [s, y, direction, new, old, gradient, *rows], np.array([[step, float(resting)]]))
        return ss, products[::2], products[1::2]

    def gram(self, a: Vector, b: Vector, rows: Sequence[Vector]) -> tuple[list[float], list[float]]:
        """The products of a, and of b, with every row, in one pass over the rows."""
        found = self._run("gram_halves" if rows and rows[0].halves else "gram", [a, b, *rows])
        return found[::2], found[1::2]

    def square(self, a: Vector) -> float:
        return self._run("sum_squares", [a])[0]

    def norm(self, a: Vector) -> float:
        return math.sqrt(self.square(a))

    def sum_abs(self, a: Vector) -> float:
        return self._run("sum_abs", [a])[0]

    # Within a box ----------------------------------------------------------------------------------------------------

    def fix(self, box: Box | None) -> None:
        """Notes which elements can't move, since their bounds are equal."""
        for index in range(len(self.parameters)):
            equal = None if box is None else np.asarray(box[0].arrays[index] == box[1].arrays[index])
            self.fixed[index] = equal if equal is not None and equal.any() else None

    def project_previous(self, previous: Vector, gradient: Vector, box: Box) -> None:
        """previous = 0 where a bound stops the descent along the present gradient."""
        for x, low, high, g, h in zip(self.x.arrays, box[0].arrays, box[1].arrays, gradient.arrays, previous.arrays,
                                      strict=True):
            h[((x <= low) & (g > 0)) | ((x >= high) & (g < 0))] = 0

    def slope_within(self, gradient: Vector, direction: Vector, box: Box) -> float:
        """gradient.direction over the elements that haven't run into their bound."""
        return self._run("slope_within", [gradient, direction, self.x, *box])[0]

    def projected_gradient(self, out: Vector, gradient: Vector, box: Box) -> GradientProducts:
        """out = gradient, but 0 where a bound stops the descent; `largest` is max |P(x - g) - x|."""
        return GradientProducts(math.nan, *self._run("free_gradient", [out, gradient, self.x, *box]))

    def project_direction(self, direction: Vector, gradient: Vector, box: Box) -> tuple[float, float]:
        """direction = 0 where it would leave the box at once; returns gradient.direction and max |direction|."""
        slope, largest = self._run("turn_inward", [direction, gradient, self.x, *box])
        return slope, largest
