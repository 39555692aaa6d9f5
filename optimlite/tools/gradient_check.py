"""Gradients compared with differences of the loss, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..checks import checked, count, optional, positive
from ..engine import nesting
from ..engine.parameter import Parameter
from ..engine.sparse_grad import dense

SHRINKS, FACTOR = 10, 2.0        # steps of Ridders' extrapolation, and by what each is smaller
VAGUE = 1e-4                     # an error of a slope that calls for steps of another size
VAIN = 0.5                       # a tolerance that would pass almost anything
SAFETY = 10.0                    # times the error that a difference says it has
SMALLER = {4: (0.03, 0.01, 0.003), 8: (1e-3, 3e-5)}         # steps that cross fewer kinks, by the bytes of a float
TOLERANCE = {4: 2e-3, 8: 1e-6}   # of the gradient's norm, by the bytes of a float


@dataclass
class Tensor:
    """How a parameter's gradient compares: `error` and `tolerance` are relative to its norm."""

    name: str
    shape: tuple[int, ...]
    error: float
    tolerance: float
    worst: tuple[int, ...] | None = None     # the element that differs most, where something is wrong
    given: float = math.nan                  # the gradient there, and the difference of losses
    expected: float = math.nan

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance <= VAIN

    def __str__(self) -> str:
        if self.error <= self.tolerance and not self.ok:
            return (f"{self.name} {self.shape}: UNSURE, since differences of the loss are too inexact; is it smooth, "
                    f"and the same for the same params?")
        line = f"{self.name} {self.shape}: {'ok' if self.ok else 'WRONG'}, relative error {self.error:.1e}"
        if self.worst is None:
            return line
        return f"{line}; worst at {self.worst}: the gradient is {self.given:.6g}, differences say {self.expected:.6g}"


@dataclass(repr=False)
class GradCheck:
    """What `check_grad` found, true if all gradients agree; prints a line for each tensor."""

    tensors: list[Tensor] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(tensor.ok for tensor in self.tensors)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return "\n".join(map(str, self.tensors))


@checked
def check_grad(fun: Callable[[Any], Any], params: Any, directions: int = 4, tolerance: float | None = None,
               seed: int = 0) -> GradCheck:
    """Compares gradients with differences of the loss along random directions, one tensor after the other.

        g . d  and  (f(p + h d) - f(p - h d)) / 2h,   extrapolated to h -> 0 by Ridders' method

    fun: `fun(params)` returns (loss, grads), grads in the nesting of `params`, or the loss alone if it assigns `.grad`
        of Parameters.  It is called about 20 times for each direction, more often where they don't agree, and must
        give the same loss for the same params.
    params: arrays or Parameters in any nesting; they are changed in place meanwhile, and restored.  Of complex ones a
        gradient is dL/dRe + i dL/dIm, and the last number of a place is 0 for the real part, 1 for the imaginary one.
    directions: of random signs, for each tensor.    seed: of these.
    tolerance: relative to the gradient's norm; 1e-6 for float64 and 2e-3 for float32 unless given.  Differences that
        are less exact than that count by the error that they say they have.

    The result is true if all agree; it prints a line for each tensor, and names the worst element of a wrong one, which
    it looks for by halves.  Directions may miss an error that is smaller than the tolerance times the norm.  A gradient
    that is wrong isn't an error; raises ValueError for one that is missing or has another shape than its parameter, for
    `directions` below 1 and a `tolerance` of 0 or less, and TypeError for one of another type, for a `fun` that isn't a
    function, and for parameters of 16 bits.

        >>> x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
        >>> def fun(params):
        ...     error = x @ params["W"]
        ...     return float(error @ error), {"W": x.T @ error}              # the factor 2 is missing
        >>> ol.check_grad(fun, {"W": np.array([1.0, -1.0])})
        W (2,): WRONG, relative error 7.1e-01; worst at (1,): the gradient is -20, differences say -40
    """
    count("directions", directions)
    optional(positive)("tolerance", tolerance)
    model = Model(fun, params)
    gradients = model.gradients()
    rng = np.random.default_rng(seed)
    return GradCheck([one_tensor(model, parameter, name, gradient, directions, tolerance, rng)
                      for parameter, name, gradient in zip(model.parameters, model.names, gradients, strict=True)])


def pairs(array: np.ndarray) -> np.ndarray:
    """An array as it is, or the parts of complex numbers in a last axis of their own."""
    return np.stack([array.real, array.imag], axis=-1) if array.dtype.kind == "c" else array


class Model:
    """A function of parameters, which are moved in place."""

    def __init__(self, fun: Callable[[Any], Any], params: Any) -> None:
        if not callable(fun):
            raise TypeError(f"`fun` must be a function of `params`, got {type(fun).__name__}")
        self.fun, self.params = fun, params
        tree = nesting.read(params)
        self.parameters, self.names, _ = nesting.as_parameters(tree)
        if any(parameter.half for parameter in self.parameters):
            raise TypeError("`params` must be of more than 16 bits for differences; use a.astype(np.float64)")
        self.tree = nesting.skeleton(tree)

    def gradients(self) -> list[np.ndarray]:
        returned = self.fun(self.params)
        if isinstance(returned, tuple) and len(returned) == 2:
            grads = nesting.gradients(returned[1], self.tree)
        else:
            grads = [parameter.grad for parameter in self.parameters]
        found = []
        for parameter, name, grad in zip(self.parameters, self.names, grads, strict=True):
            if grad is None:
                raise ValueError(f"`fun` must return (loss, grads) or assign every .grad, got none for '{name}'")
            found.append(np.array(pairs(dense(parameter.accepts(grad), parameter)), np.float64))
        return found

    def loss(self, parameter: Parameter, values: np.ndarray) -> float:
        """The loss with other values in the place of one parameter's."""
        kept = parameter.data.copy()
        try:
            parameter.data = values.view(parameter.dtype)[..., 0] if parameter.dtype.kind == "c" else values
            with np.errstate(all="ignore"):      # far from where it was, it may overflow
                returned = self.fun(self.params)
        finally:
            parameter.data = kept
        return float(returned[0] if isinstance(returned, tuple) else returned)

    def slope(self, parameter: Parameter, direction: np.ndarray, given: float, close: float) -> tuple[float, float]:
        """The derivative along a direction, and its error: from steps of the parameter's size, and else of 1.

        Where a loss has kinks, as ReLU makes, differences across them are wrong by more than they say.  So what isn't
        close to the slope that was `given` is computed again with steps that cross fewer, one of which may acquit it.
        """
        touched = pairs(parameter.data)[direction != 0].astype(np.float64)
        size = float(np.sqrt(np.mean(touched ** 2))) or 1.0
        first = min(0.2 / len(touched) ** 0.25, 0.1)
        found = self._slope(parameter, direction, first * size)
        if not found[1] <= VAGUE * abs(found[0]):            # a bias of 1e-9 says nothing of the loss's scale
            found = min(found, self._slope(parameter, direction, first), key=lambda pair: pair[1])
        for smaller in SMALLER[parameter.data.real.itemsize]:
            if abs(found[0] - given) <= close:
                break
            other = self._slope(parameter, direction, first * size * smaller)
            if SAFETY * other[1] <= close and abs(other[0] - given) <= close:
                return other
        return found

    def _slope(self, parameter: Parameter, direction: np.ndarray, h: float) -> tuple[float, float]:
        """By Ridders' method: C. Ridders 1982, Accurate computation of F'(x) and F'(x) F''(x)."""
        data, along = pairs(parameter.data), float((direction ** 2).sum())
        best, error = math.nan, math.inf
        before: list[float] = []
        for _ in range(SHRINKS):
            # what rounding makes of p + h d counts, not what was meant
            high, low = ((data + sign * h * direction).astype(data.dtype) for sign in (1, -1))
            across = float(((high.astype(np.float64) - low) * direction).sum()) / along
            if not across:
                break
            row = [(self.loss(parameter, high) - self.loss(parameter, low)) / across]
            power = 1.0
            for less_exact in before:
                power *= FACTOR * FACTOR
                row.append((row[-1] * power - less_exact) / (power - 1))
                doubt = max(abs(row[-1] - row[-2]), abs(row[-1] - less_exact))
                if doubt <= error:
                    best, error = row[-1], doubt
            if before and abs(row[-1] - before[-1]) >= 2 * error:
                break
            before, h = row, h / FACTOR
        return best, error


def one_tensor(model: Model, parameter: Parameter, name: str, gradient: np.ndarray, directions: int,
               tolerance: float | None, rng: np.random.Generator) -> Tensor:
    if not parameter.size:
        return Tensor(name, parameter.shape, 0.0, 0.0)
    norm = float(np.linalg.norm(gradient))
    worst = Tensor(name, parameter.shape, -1.0, 0.0)
    for _ in range(directions):
        signs = rng.choice([-1.0, 1.0], gradient.shape)
        least = tolerance or TOLERANCE[parameter.data.real.itemsize]
        given = float((gradient * signs).sum())
        found, doubt = model.slope(parameter, signs, given, least * norm)
        scale = max(norm, abs(found) / math.sqrt(gradient.size)) or 1.0
        off = abs(found - given) / scale
        this = Tensor(name, parameter.shape, off, max(least, SAFETY * doubt / scale))
        if not (off <= this.tolerance):
            return located(model, parameter, gradient, signs, this, least * norm)
        worst = max(worst, this, key=lambda tensor: tensor.error)
    return worst


def located(model: Model, parameter: Parameter, gradient: np.ndarray, signs: np.ndarray, result: Tensor,
            close: float) -> Tensor:
    """Finds the element whose gradient is wrong, by halves: always the one that is further off."""
    places = np.arange(gradient.size)
    while len(places) > 1:
        halves = [places[:len(places) // 2], places[len(places) // 2:]]
        places = max(halves, key=lambda half: difference(model, parameter, gradient, signs, half, close)[0])
    _, given, expected = difference(model, parameter, gradient, np.ones_like(signs), places, close)
    result.worst = tuple(int(i) for i in np.unravel_index(places[0], gradient.shape))
    result.given, result.expected = given, expected
    return result


def difference(model: Model, parameter: Parameter, gradient: np.ndarray, signs: np.ndarray, places: np.ndarray,
               close: float) -> tuple[float, float, float]:
    """How far off the gradient is over some elements: the difference, and what is compared."""
    direction: np.ndarray = np.zeros(gradient.size)
    direction[places] = signs.ravel()[places]
    direction = direction.reshape(gradient.shape)
    given = float((gradient * direction).sum())
    expected, _ = model.slope(parameter, direction, given, close)
    return abs(expected - given), given, expected
