"""Clipping of gradients outside a step, and their norm: torch.nn.utils' functions."""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from . import checks
from .checks import checked
from .engine import nesting
from .engine.formats import declared, widened
from .engine.gradient_options import check_writeable, clip_coefficient
from .engine.overlap import first_overlap
from .engine.parameter import COMPLEX, FLOATS, Parameter, describe, is_half, masked
from .engine.shadows import rounded
from .native.gradients import clippable_in_place, in_parameter_order
from .native.parameters import AddressRanges, ParameterCore

RULE = "`parameters` must be Parameters, or arrays that are gradients"
FAST = {1.0: "sum_abs", 2.0: "sum_squares", math.inf: "max_abs"}     # order of a norm: its kernel


@checked
def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> float:
    """Scales all gradients in place so that their norm together is at most `max_norm`; returns the norm before.

        grad = grad * min(1, max_norm / (norm + 1e-6))

    parameters: Parameters, whose `.grad` is meant, or arrays, which are gradients themselves; in any nesting.
    max_norm: at least 0; inf only measures.    norm_type: as for `get_total_norm`.
    error_if_nonfinite: raises RuntimeError for an infinite or NaN norm, which spoils the gradients otherwise.

    Gradients of 16 bits are computed with in float32, and rounded to the nearest.
    What has no gradient, and None, is left out; a gradient that several parameters share is scaled once.  Raises
    ValueError for a gradient that is read-only, broadcast or shares memory with a parameter or, in part, with another
    gradient.  Nothing is changed before an error.

    `optimizer.step(max_grad_norm=...)` does the same without writing to the gradients.

        >>> grads = {"W": np.array([3.0, 0.0]), "b": np.array([4.0])}
        >>> ol.clip_grad_norm_(grads, max_norm=1.0)
        5.0
        >>> grads["b"].round(3)
        array([0.8])
    """
    listed = listed_parameters(parameters)
    max_norm = bound("max_norm", max_norm)
    gradients = writeable_gradients(listed, "clipped")
    measured = [flat(declared(g)) if g.itemsize == 2 else g for g in in_parameter_order(listed)]
    norm = total_norm(measured, norm_type, error_if_nonfinite)
    scale(gradients, clip_coefficient(max_norm, norm))
    return norm


@checked
def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: float) -> None:
    """Scales all gradients in place by min(1, max_norm / (total_norm + 1e-6)): the second half of `clip_grad_norm_`.

    parameters, max_norm: as for `clip_grad_norm_`.    total_norm: the norm that they have, of `get_total_norm`.

    Raises ValueError and TypeError as `clip_grad_norm_` does, before anything is changed.

        >>> grads = [np.array([3.0, 4.0])]
        >>> ol.clip_grads_with_norm_(grads, 2.5, ol.get_total_norm(grads))
        >>> grads[0].round(3)
        array([1.5, 2. ])
    """
    listed = listed_parameters(parameters)
    max_norm = bound("max_norm", max_norm)
    scale(writeable_gradients(listed, "clipped"), clip_coefficient(max_norm, float(total_norm)))


@checked
def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Clips every element of every gradient to [-clip_value, clip_value], in place; NaN stays.

    parameters: Parameters, whose `.grad` is meant, or arrays, which are gradients themselves; in any nesting.
    clip_value: at least 0.

    Raises ValueError as `clip_grad_norm_` does, and TypeError for complex gradients, before anything is changed.
    `optimizer.step(max_grad_value=...)` does the same without writing to the gradients.

        >>> W = ol.Parameter(np.zeros(2))
        >>> W.grad = np.array([3.0, -0.5])
        >>> ol.clip_grad_value_([W], 1.0)
        >>> W.grad
        array([ 1. , -0.5])
    """
    listed = listed_parameters(parameters)
    most = bound("clip_value", clip_value)
    gradients = writeable_gradients(listed, "clipped")
    if any(gradient.dtype.kind == "c" for gradient in gradients):
        raise TypeError("complex gradients have no order to be clipped by value, got one; use clip_grad_norm_")
    for gradient in in_place("limit", gradients, most):
        values = np.array(widened(gradient)) if gradient.itemsize == 2 else gradient
        limit = values.dtype.type(most)
        np.copyto(values, limit, where=values > limit)           # not np.clip, whose zeros' signs depend on the strides
        np.copyto(values, -limit, where=values < -limit)
        if values is not gradient:
            gradient[...] = rounded(values, gradient)


@checked
def get_total_norm(tensors: Any, norm_type: float = 2.0,
                   error_if_nonfinite: bool = False) -> float:
    """The norm of several arrays as if they were one vector, in float64.

        (sum |x|^norm_type)^(1 / norm_type), or the largest |x| for `norm_type=inf`

    tensors: arrays, in any nesting.    norm_type: the order, a number or inf.
    error_if_nonfinite: raises RuntimeError for an infinite or NaN norm.

    For the norms 1, 2 and inf the bits don't depend on the number of threads or the CPU; other orders take longer, and
    the C library's powers.  What has 16 bits is read as float32, and of complex numbers |x| is the magnitude.  Empty
    arrays add nothing; without arrays the norm is 0.  Raises TypeError for what isn't an array of floats.

        >>> ol.get_total_norm([np.array([3.0, 0.0]), np.array([[4.0]])])
        5.0
    """
    arrays = [array for _, array in leaves(tensors, "`tensors` must be arrays")]
    if any(isinstance(array, Parameter) for array in arrays):
        raise TypeError("`tensors` must be arrays, got a Parameter; use its .grad or .data")
    return total_norm([flat(array) for array in arrays], norm_type, error_if_nonfinite)


# What the above share ------------------------------------------------------------------------------------------------

class Gradient(ParameterCore):
    """A bare gradient, with the attributes of a parameter that has it."""

    name = None

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array)
        self.grad = array

    def accepts(self, gradient: Any) -> Any:     # one of a subclass of arrays
        return gradient


def leaves(node: Any, rule: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """The (path, leaf) of Parameters and gradients in any nesting; None is no gradient."""
    node = nesting.opened(node)
    if isinstance(node, (Parameter, np.ndarray)):
        yield path, node
    elif isinstance(node, Iterable) and not (
            isinstance(node, (str, bytes, set, frozenset)) or hasattr(node, "__array__")):
        if nesting.is_pair(node):
            node = [node]
        for key, child in node.items() if isinstance(node, Mapping) else enumerate(node):
            if nesting.is_pair(child):
                key, child = child
            yield from leaves(child, rule, f"{path}.{key}" if path else str(key))
    elif node is not None:
        raise TypeError(f"{rule}, in any nesting, got {type(node).__name__}{f' at {path!r}' if path else ''}")


def listed_parameters(parameters: Any) -> list[Parameter | Gradient]:
    """The Parameters whose gradients are meant, or what stands for gradients that came by themselves."""
    found: list[Parameter | Gradient] = []
    for path, leaf in leaves(parameters, RULE):
        if isinstance(leaf, Parameter) and isinstance(leaf.grad, np.ndarray):
            clippable(declared(leaf.grad) if leaf.half else leaf.grad, path)
        found.append(leaf if isinstance(leaf, Parameter) else Gradient(clippable(leaf, path)))
        if type(found[0]) is not type(found[-1]):
            raise TypeError(f"{RULE}, and not both, got {type(leaf).__name__} at '{path}'; give the Parameters' .grad")
    if not found and isinstance(parameters, types.GeneratorType):
        warnings.warn("`parameters` is a generator that yields nothing (consumed before?): nothing is clipped",
                      stacklevel=4)
    return found


def clippable(gradient: np.ndarray, path: str) -> np.ndarray:
    if not (gradient.dtype in (*FLOATS, *COMPLEX) or is_half(gradient.dtype)) or masked(gradient):
        which = f"gradient '{path}'" if path else "a gradient"
        got = "a masked array" if masked(gradient) else gradient.dtype
        raise TypeError(f"{which} must be a plain array of bfloat16, float16, float32 or float64 to be clipped in "
                        f"place, got {got}"
                        + ("; view bfloat16 as such, with .view(ml_dtypes.bfloat16)" if got == np.uint16 else ""))
    return gradient


bound = checks.or_infinite(checks.nonnegative)


def order(norm_type: Any) -> float:
    p = float(norm_type)                 # "inf" too, as in torch
    if math.isnan(p):
        raise ValueError(f"`norm_type` must be a number or inf, got {checks.shown(norm_type)}")
    return p


def flat(array: Any) -> np.ndarray:
    """The elements of an array in one dimension, in the order of memory where that has no gaps."""
    if plain := isinstance(array, np.ndarray):
        array = widened(array) if is_half(array.dtype) else array
    if plain and array.dtype in COMPLEX:
        return np.require(np.ravel(array, order="K" if array.flags.forc else "C"), requirements="A")
    if not plain or array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise TypeError(f"`tensors` must be arrays of bfloat16, float16, float32 or float64, got "
                        f"{getattr(array, 'dtype', type(array).__name__)}")
    dtype = np.float64 if array.dtype.itemsize == 8 else np.float32
    return np.require(np.ravel(array, order="K" if array.flags.forc else "C"), dtype, "A")


def total_norm(arrays: list[np.ndarray], norm_type: float, error_if_nonfinite: bool) -> float:
    p = order(norm_type)
    # as a step does
    arrays = sorted((array for array in arrays if array.size), key=lambda array: array.real.itemsize)
    if p in FAST and (p == 2 or not any(array.dtype.kind == "c" for array in arrays)):
        from .native.arrays import over_arrays  # few programs clip outside of steps

        [result] = over_arrays(FAST[p], arrays)
        result = math.sqrt(result) if p == 2 else result
    else:
        with np.errstate(all="ignore"):
            norms = [np.linalg.norm(array.ravel().astype(np.result_type(array, np.float64)), p) for array in arrays]
            result = float(np.linalg.norm(np.array(norms), p)) if norms else 0.0
    if error_if_nonfinite and not math.isfinite(result):
        raise RuntimeError(f"the total norm of the gradients must be finite, got {result}; skip this step, "
                           f"or pass error_if_nonfinite=False")
    return result


def writeable_gradients(parameters: list[Parameter | Gradient], done: str) -> list[np.ndarray]:
    """The gradients, each once; raises ValueError if one can't be changed in place by itself."""
    kept = [parameter.data for parameter in parameters if isinstance(parameter, Parameter)]
    memory = AddressRanges(kept)
    if (plain := clippable_in_place(parameters, memory)) is not None:
        return plain
    own: dict[Any, np.ndarray] = {}
    for parameter in parameters:
        gradient: Any = parameter.grad           # a sparse one was refused above
        if gradient is not None and gradient.size:
            of = f" of {describe(parameter.name, gradient.shape)}" if isinstance(parameter, Parameter) else ""
            check_writeable(gradient, f"gradient{of or f' of shape {gradient.shape}'}", done,
                           "assign p.grad = grad.copy()", memory, kept)
            own[gradient.ctypes.data, gradient.shape, gradient.strides] = gradient
    gradients = list(own.values())
    if found := first_overlap(gradients):
        raise ValueError(f"a gradient of shape {gradients[found[1]].shape} shares part of its memory with another one "
                         f"and can't be {done}; assign p.grad = grad.copy()")
    return gradients


def in_place(name: str, gradients: list[np.ndarray], a: float) -> list[np.ndarray]:
    """Runs a vector kernel over the contiguous gradients and returns the others."""
    from .native.arrays import over_arrays

    compiled, others = [], []
    for gradient in gradients:
        if (flags := gradient.flags).forc and flags.aligned and gradient.itemsize > 2:
            compiled.append(gradient)
        else:
            others.append(gradient)
    over_arrays(name, compiled, c=a)
    return others


def scale(gradients: list[np.ndarray], factor: float) -> None:
    if factor != 1.0:
        with np.errstate(all="ignore"):
            for gradient in in_place("scale", gradients, factor):
                if gradient.itemsize == 2:
                    gradient[...] = rounded(np.asarray(widened(gradient), np.float32) * np.float32(factor), gradient)
                    continue
                # part by part: a complex product would make NaN of what is infinite
                for part in (gradient.real, gradient.imag) if gradient.dtype.kind == "c" else (gradient,):
                    np.multiply(part, part.dtype.type(factor), out=part)
