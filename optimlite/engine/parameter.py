"""A parameter is a float array that an optimizer updates in place, together with its gradient."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import shown
from ..native.parameters import ParameterCore
from .as_array import AsArray
from .formats import BFLOAT16, is_bfloat16, widened
from .overlap import overlaps_itself
from .shadows import checked, format_name, rounded
from .sparse_grad import SparseGrad

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
COMPLEX = (np.dtype(np.complex64), np.dtype(np.complex128))      # pairs of floats, to rules


def describe(name: str | None, shape: tuple[int, ...]) -> str:
    return f"'{name}'" if name else f"an unnamed parameter of shape {shape}"


def masked(array: Any) -> bool:
    """Whether elements may be masked, which kernels wouldn't see. Most programs never import numpy.ma."""
    return "numpy.ma" in sys.modules and isinstance(array, np.ma.MaskedArray)


def check_still_writeable(array: np.ndarray, name: str | None = None) -> None:
    if not array.flags.writeable:
        raise ValueError(f"{'parameter ' if name else ''}{describe(name, array.shape)} must be writeable, and "
                         f"became read-only since it was given; set .flags.writeable = True")


TRACED = "has no values yet; call this outside of the function that is traced, such as by jax.jit"
USE_IT = "and let the model use that array"
ANEW = f"use np.array(value, dtype=np.float64), or float32 where the others are, {USE_IT}"


def laid_out(array: np.ndarray, make: Callable[..., np.ndarray] = np.empty, dtype: Any = None) -> np.ndarray:
    """A contiguous array in the order in which steps go through the given one: Fortran's if that is its own, else C's.
    """
    return make(array.shape, array.dtype if dtype is None else dtype, order="F" if array.flags.fnc else "C")


def float_cure(array: np.ndarray) -> str:
    """What makes a parameter of an array of another type."""
    if array.dtype.kind == "c":
        return f"use a.astype(np.complex128), {USE_IT}"
    if array.dtype == object and array.size and isinstance(array.flat[0], np.ndarray):
        return "use list(a)"
    return f"use a.astype(np.float32), {USE_IT}"


def castable(dtype: np.dtype, array: np.ndarray) -> bool:
    """Whether gradients of this type can be read as the parameter's: real floats, or complex ones."""
    if array.dtype.kind == "c":
        return dtype in COMPLEX
    return dtype in FLOATS or dtype == np.float16 or is_bfloat16(dtype)


def gradient_cure(gradient: Any, array: np.ndarray) -> str:
    """What makes a gradient of the parameter `array` of one that has another type."""
    real = f".astype(np.{array.dtype if array.itemsize > 2 else np.dtype(np.float32)})"
    if gradient.dtype.kind == "c" and array.dtype.kind != "c":   # which of them depends on what the parameter is
        return (f"use grad.view(np.float{4 * gradient.dtype.itemsize}) if the parameter is such a view of complex "
                f"numbers, grad.real{'' if gradient.real.dtype == array.dtype else real} if it is real")
    wide = gradient.dtype.kind == array.dtype.kind and gradient.dtype.itemsize == 2 * array.dtype.itemsize
    why = f", or {array.dtype} data: NumPy computes in {gradient.dtype} where one operand is" if wide else ""
    cast = "; or let the optimizer convert: cast_grads=True" if castable(gradient.dtype, array) else ""
    return f"use grad{real}{why}{cast}"


def is_half(dtype: np.dtype) -> bool:
    return dtype == np.float16 or is_bfloat16(dtype)


def check_array(array: Any, name: str | None, declared: bool = False) -> np.ndarray:
    """Returns `array` if kernels can update it in place; raises, with the cure, if they can't.

    `declared`: uint16 are the bits of bfloat16.
    """
    if not isinstance(array, np.ndarray):
        which = f"parameter '{name}'" if name else "a parameter"
        raise TypeError(f"{which} must be a NumPy array, got {type(array).__name__}; {ANEW}")
    what = f"parameter {describe(name, array.shape)}" if name else describe(name, array.shape)
    if masked(array):
        raise TypeError(f"{what} must be a plain array, got a masked one; use a.filled(0), {USE_IT}")
    if not array.dtype.isnative and array.dtype.newbyteorder("=") in (*FLOATS, *COMPLEX):
        raise TypeError(f"{what} must be in native byte order, got {array.dtype.str}; "
                        f"use a.astype(np.{array.dtype.name}), {USE_IT}")
    half = array.dtype == np.uint16 if declared else is_half(array.dtype)
    if not half and array.dtype not in FLOATS and array.dtype not in COMPLEX:
        known = "complex64 or complex128" if array.dtype.kind == "c" else "float32 or float64"
        raise TypeError(f"{what} must be {known}, got {array.dtype}; {float_cure(array)}")
    if overlaps_itself(array):
        raise ValueError(f"{what} must have memory of its own for each element, got strides {array.strides} for the "
                         f"shape {array.shape}; use a.copy(), {USE_IT}")
    if not array.flags.aligned:
        raise ValueError(f"{what} must be aligned in memory, got {array.ctypes.data:#x}; use a.copy(), {USE_IT}")
    if not array.flags.writeable:
        raise ValueError(f"{what} must be writeable, got a read-only array; use a.copy(), {USE_IT}")
    return array


class Parameter(AsArray, ParameterCore):
    """A parameter of a model: shares the memory of `data`, and behaves as that array in expressions.

    data: an array or a view of one, of any shape; float32, float64, complex64 or complex128, or, with the rest of a
        float32 in the optimizer's state, float16 or ml_dtypes' bfloat16.  It must be aligned, writeable and in native
        byte order; anything else raises TypeError or ValueError, since it would have to be copied.  Strides are free,
        but no two elements may share memory; steps of strided arrays cost two more copies.
    name: what messages and state dicts call it, and `optimizer.state[name]`.
    dtype: "bfloat16" says that a uint16 array holds its bits.
    shadow: an array in 16 bits that the model computes with (float16, ml_dtypes' bfloat16, or uint16 for its bits); it
        is filled here, and every step writes it.  Gradients may be of any float type then.

    `p.data` is that very array; `p.data = a` copies values into it.  `p.grad` is None or an array of the parameter's
    shape and dtype (checked when assigned; strided gradients count by their values; a scalar is a gradient of a 0-d
    parameter) or a SparseGrad.  Equality and hash are by identity, so that parameters can be keys.

        >>> W = ol.Parameter(np.zeros((2, 3), np.float32), name="W")
        >>> W.grad = np.ones((2, 3), np.float32)
        >>> ol.SGD([W], lr=0.5).step()
        >>> (W @ np.ones(3, np.float32)).tolist()
        [-1.5, -1.5]
    """

    __slots__ = ("_buffer", "_name", "_shadow", "casts", "half")
    __array_priority__ = 1
    offset = 0                   # of the first element, where it is a part of a tensor

    def __init__(self, data: np.ndarray, name: str | None = None, *, dtype: str | None = None,
                 shadow: np.ndarray | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"`name` must be a str, got {shown(name)}")
        if dtype not in (None, "bfloat16"):
            raise ValueError(f"`dtype` must be 'bfloat16', of which uint16 are the bits, or None, got {shown(dtype)}")
        super().__init__(check_array(data, name, dtype is not None and getattr(data, "dtype", None) == np.uint16))
        self.half = format_name(data) if data.dtype.itemsize == 2 else None      # the format of 16 bits that it has
        if self.half and shadow is not None:
            raise TypeError(f"`shadow` is for float32 and float64, and {describe(name, data.shape)} has 16 bits "
                            f"itself; leave it out")
        self._name = name
        self._shadow = None if shadow is None else checked(shadow, data, describe(name, data.shape))
        self.casts = self.reads_any              # whether gradients may be of other float types: an optimizer's option
        self.update_shadow()
        self._buffer: np.ndarray | None = None           # the memory of accumulated gradients, kept between steps

    if TYPE_CHECKING:            # the core's own, which knows nothing of sparse gradients
        @property
        def grad(self) -> np.ndarray | SparseGrad | None: ...
        @grad.setter
        def grad(self, value: np.ndarray | SparseGrad | None) -> None: ...
        @grad.deleter
        def grad(self) -> None: ...

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def tensor_size(self) -> int:
        """The elements of the tensor, which may be more than these."""
        return self.array.size

    @property
    def data(self) -> np.ndarray:
        """The array itself; assigning copies values into its memory."""
        return self.array

    @data.setter
    def data(self, value: Any) -> None:
        if value is self.array:                  # p.data -= g ends here
            self.update_shadow()
            return
        value = np.asarray(value)
        if value.shape != self.array.shape:
            raise ValueError(f"data of {describe(self._name, self.array.shape)} must keep its shape "
                             f"{self.array.shape}, got {value.shape}")
        if self.half and value.dtype != self.array.dtype:
            value = rounded(value, self.array)
        np.copyto(self.array, value)
        self.update_shadow()

    @property
    def float_type(self) -> np.dtype:
        """What its rule computes in, and its state is of."""
        return np.dtype(np.float32) if self.half else self.array.dtype

    @property
    def reads_any(self) -> bool:
        """Whether gradients may be of other float types without an optimizer's option."""
        return self.half is not None or self._shadow is not None

    @property
    def shadow(self) -> np.ndarray | None:
        """The copy in 16 bits that steps write."""
        return self._shadow

    def update_shadow(self) -> None:
        """Writes the shadow anew, after somebody else than an optimizer has written to the parameter."""
        if self._shadow is not None:
            self._shadow[...] = rounded(self.array, self._shadow)

    def accumulate_grad(self, gradient: Any) -> None:
        """Adds to `.grad`, in place, in a buffer that the parameter owns: micro-batches add up without temporaries.

        The first gradient after `zero_grad()` is copied into the buffer of the last step, unless somebody still holds
        that one.  Arrays that come in are never written to.  The rows of SparseGrads are put together.  Raises as
        assigning to `.grad` does, and TypeError for a sparse gradient added to one that isn't.
        """
        array = self.array
        if isinstance(gradient, SparseGrad) or isinstance(self.grad, SparseGrad):
            self.grad = self._joined(gradient)
            return
        if not (type(gradient) is np.ndarray and gradient.dtype == array.dtype and gradient.shape == array.shape):
            gradient = self.accepts(gradient)
        gradient, before = widened(gradient), self.grad
        if before is None or before is not self._buffer:
            if self._buffer is None or sys.getrefcount(self._buffer) > 2:
                self._buffer = laid_out(array, dtype=self.float_type)
            buffer = self._buffer
            np.copyto(buffer, gradient if before is None else widened(before))
            self.grad = buffer
            if before is None:
                return
        same = (gradient.flags.aligned and gradient.strides == self._buffer.strides
                and gradient.dtype == self._buffer.dtype)
        if same and not np.may_share_memory(gradient, self._buffer):
            from ..native.arrays import over_arrays  # most programs never accumulate

            over_arrays("add", [self._buffer], [gradient])
        else:
            np.add(self._buffer, gradient, out=self._buffer)

    def _joined(self, gradient: Any) -> SparseGrad:
        """The gradient and another one, at least one of them sparse."""
        before = self.grad
        if not isinstance(gradient, SparseGrad) or not (before is None or isinstance(before, SparseGrad)):
            raise TypeError(f"a gradient of {describe(self._name, self.array.shape)} is sparse and was to be added to "
                            f"one that isn't; use gradient.to_dense(len(parameter))")
        self.accepts(gradient)
        return gradient if before is None else before + gradient

    def accepts(self, gradient: Any) -> Any:
        """Takes a sparse gradient, a scalar for a 0-d parameter and arrays of a subclass; refuses all that doesn't fit.
        """
        array, what = self.array, describe(self._name, self.array.shape)
        if isinstance(gradient, SparseGrad):
            if self.half:
                raise TypeError(f"gradient of {what} must be dense, since what has 16 bits is written as a whole, got "
                                f"a SparseGrad; use gradient.to_dense(len(parameter))")
            gradient.check(array, what)
            return gradient
        if isinstance(gradient, (int, float, complex, np.generic)) and array.ndim == 0:
            scalar, kinds = np.asarray(gradient), "fiuc" if array.dtype.kind == "c" else "fiu"
            if scalar.dtype.kind in kinds and (
                    self.casts or not isinstance(gradient, np.generic) or scalar.dtype == array.dtype):
                return scalar.astype(self.float_type)
        if isinstance(gradient, Parameter):
            raise TypeError(f"gradient of {what} must be an array, got a Parameter; use its .data or .grad")
        if not isinstance(gradient, (np.ndarray, np.generic)):
            raise TypeError(f"gradient of {what} must be a NumPy array, got {type(gradient).__name__}; "
                            f"{converted(gradient, array.dtype)}")
        if masked(gradient):
            raise TypeError(f"gradient of {what} must be a plain array, got a masked one; use grad.filled(0)")
        if gradient.dtype == np.uint16 and (array if self._shadow is None else self._shadow).dtype == np.uint16:
            gradient = gradient.view(BFLOAT16)
        if gradient.dtype != array.dtype and not (self.casts and castable(gradient.dtype, array)):
            raise TypeError(f"gradient of {what} is {gradient.dtype} but the parameter is "
                            f"{self.half or array.dtype}; "
                            f"{gradient_cure(gradient, array)}")
        if gradient.shape == array.shape and isinstance(gradient, np.ndarray):
            return gradient
        raise ValueError(f"gradient of {what} has shape {gradient.shape} but the parameter has {array.shape}; "
                         f"reshape or sum the gradient over the broadcast axes")

    def __repr__(self) -> str:
        name = f", name={self._name!r}" if self._name else ""
        return f"Parameter({np.array_repr(self.array)}{name})"

    def __reduce__(self) -> tuple[Any, ...]:
        _refuse_joblib(sys._getframe(1))
        return _rebuild, (type(self), self.array, self._name, self.grad, self.casts, self._shadow,
                          self.half)


def converted(gradient: Any, dtype: np.dtype) -> str:
    """How to make an array of what came as a gradient."""
    if hasattr(gradient, "detach"):
        return "use grad.detach().numpy()"
    if hasattr(gradient, "toarray"):
        return "use grad.toarray()"
    return f"it {TRACED}" if is_traced(gradient) else f"use np.asarray(grad, dtype=np.{dtype})"


def is_traced(value: Any) -> bool:
    """Whether it is one of jax's tracers, whose values come later."""
    return any(kind.__name__ == "Tracer" for kind in type(value).__mro__)


def _rebuild(cls: type[Parameter], data: np.ndarray, name: str | None, grad: np.ndarray | None,
             casts: bool = False, shadow: np.ndarray | None = None, half: str | None = None) -> Parameter:
    if not data.flags.writeable:
        raise ValueError(f"parameter {describe(name, data.shape)} came to this process read-only, as joblib passes "
                         f"arrays above 1 MB; use joblib.Parallel(..., max_nbytes=None)")
    more: dict[str, Any] = {"shadow": shadow, "dtype": "bfloat16" if half == "bfloat16" else None}
    parameter = cls(data, name, **{key: value for key, value in more.items() if value is not None})
    parameter.casts, parameter.grad = casts, grad
    return parameter


def _refuse_joblib(caller: Any) -> None:
    """Raises in `joblib.dump`, which writes an array once for each object that has it: they would come back apart."""
    joblib: Any = sys.modules.get("joblib.numpy_pickle")
    if joblib is not None and isinstance(caller.f_locals.get("self"), joblib.NumpyPickler):
        raise TypeError("joblib.dump takes apart the arrays that a model and its optimizer share; use ol.save(path, "
                        "model=params, optimizer=opt), or pickle.dump")
