"""A Parameter is its array in every expression, and itself where identity counts; its gradient fits or is refused."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol


def square(shape: tuple[int, ...] = (3, 3), dtype: Any = np.float32) -> np.ndarray:
    return np.array(np.random.default_rng(1).uniform(0.5, 2.0, shape), dtype)


def assert_bits(result: Any, expected: Any) -> None:
    assert type(result) is type(expected)
    assert np.asarray(result).dtype == np.asarray(expected).dtype
    assert np.asarray(result).tobytes() == np.asarray(expected).tobytes()


# In expressions ------------------------------------------------------------------------------------------------------

BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lt", "le", "gt", "ge"]
OTHERS = {"array": lambda: square() + np.float32(0.25), "float64": lambda: square(dtype=np.float64),
          "number": lambda: 1.5, "0-d": lambda: np.float32(1.5), "parameter": lambda: ol.Parameter(square() * 2)}


def bare(value: Any) -> Any:
    return value.data if isinstance(value, ol.Parameter) else value


@pytest.mark.parametrize(("name", "other"), [(name, other) for name in BINARY for other in OTHERS
                                             if name != "matmul" or other not in ("number", "0-d")])
def test_binary_operators_give_what_the_array_gives(name: str, other: str) -> None:
    apply, a, b = getattr(operator, name), ol.Parameter(square()), OTHERS[other]()
    assert_bits(apply(a, b), apply(a.data, bare(b)))
    assert_bits(apply(b, a), apply(bare(b), a.data))


def test_divmod_is_the_arrays() -> None:
    a = ol.Parameter(square())
    assert_bits(divmod(a, 0.75)[0], divmod(a.data, 0.75)[0])
    assert_bits(divmod(3.0, a)[1], divmod(3.0, a.data)[1])


@pytest.mark.parametrize("apply", [operator.neg, operator.pos, abs, np.sqrt, np.sum, np.ravel, np.linalg.norm,
                                   lambda a: np.concatenate([a, a]), lambda a: np.where(a > 1, a, 0),
                                   lambda a: np.add(a, 1), lambda a: a.T, lambda a: a.sum(axis=0), lambda a: a[1],
                                   lambda a: a[:, ::-1], lambda a: a[a > 1], lambda a: a[..., None], len, list])
def test_functions_and_indexing_give_what_the_array_gives(apply: Any) -> None:
    a = ol.Parameter(square())
    assert_bits(apply(a), apply(a.data))


IN_PLACE = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"]


@pytest.mark.parametrize(("name", "other", "shape"), [
    (name, other, shape) for name in IN_PLACE for other in ("array", "number", "parameter") for shape in ((3, 3), ())
    if name != "matmul" or (shape and other != "number")])
def test_in_place_operators_write_into_the_same_memory(name: str, other: str, shape: tuple[int, ...]) -> None:
    apply, array = getattr(operator, f"i{name}"), square(shape)
    b = {"array": square(shape), "number": 1.5, "parameter": ol.Parameter(square(shape))}[other]
    expected = array.copy()
    expected = apply(expected, bare(b))
    parameter = ol.Parameter(array)
    assert apply(parameter, b) is parameter
    assert parameter.data is array
    assert array.tobytes() == expected.tobytes()


@pytest.mark.parametrize("index", [0, (1, 2), slice(1, None), ..., (slice(None), -1)], ids=str)
def test_assignment_by_index_writes_into_the_array(index: Any) -> None:
    array, expected = square(), square()
    ol.Parameter(array)[index] = 7
    expected[index] = 7
    assert array.tobytes() == expected.tobytes()


def test_in_place_arithmetic_of_data_and_of_slices() -> None:
    array = square()
    parameter = ol.Parameter(array)
    expected = array - 1
    parameter.data -= 1
    assert parameter.data is array
    assert_bits(array, expected)
    parameter[0] -= 1
    assert_bits(array[0], expected[0] - 1)


def test_an_array_takes_a_parameter_in_place_and_as_a_value() -> None:
    array, parameter = square(), ol.Parameter(square() * 3)
    expected = array + parameter.data
    array += parameter
    assert type(array) is np.ndarray
    assert_bits(array, expected)
    array[...] = parameter
    assert_bits(array, parameter.data)


@pytest.mark.parametrize(("convert", "shares"), [
    (np.asarray, True), (np.array, False), (lambda p: np.asarray(p, np.float32), True),
    (lambda p: np.asarray(p, np.float64), False), (lambda p: np.array(p, copy=None), True), (lambda p: p[:], True)])
def test_conversion_to_an_array_copies_only_where_asked(convert: Any, shares: bool) -> None:
    parameter = ol.Parameter(square())
    assert np.shares_memory(convert(parameter), parameter.data) is shares


def test_a_conversion_that_would_copy_is_refused_where_copies_are() -> None:
    with pytest.raises(ValueError, match="copy"):
        np.array(ol.Parameter(square()), np.float64, copy=False)


def test_scalars() -> None:
    t = ol.Parameter(np.array(2.5, np.float32))
    assert (float(t), int(t), bool(t), t.item(), t.ndim, t.size, t.shape) == (2.5, 2, True, 2.5, 0, 1, ())
    assert f"{t:.3f}" == "2.500"
    with pytest.raises(TypeError):
        len(t)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(ol.Parameter(square()))


def test_attributes_are_the_arrays_and_misspelt_ones_are_refused() -> None:
    W = ol.Parameter(square((2, 3)), name="W")
    assert (W.shape, W.dtype, W.ndim, W.size, W.nbytes, W.name) == ((2, 3), np.float32, 2, 6, 24, "W")
    assert W.T.shape == (3, 2)
    assert 9 not in W
    assert W.data[1, 2] in W
    with pytest.raises(AttributeError, match="'Parameter' object has no attribute 'gradient'"):
        _ = W.gradient
    for misspelt in ("gard", "shape", "name"):
        with pytest.raises(AttributeError):
            setattr(W, misspelt, np.zeros((2, 3), np.float32))


def test_repr_shows_values_and_name() -> None:
    assert repr(ol.Parameter(np.ones(2, np.float32), "b")) == "Parameter(array([1., 1.], dtype=float32), name='b')"
    assert repr(ol.Parameter(np.ones(2))) == "Parameter(array([1., 1.]))"


# Memory and identity -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()], ids=str)
def test_data_is_the_very_array(shape: tuple[int, ...], dtype: Any, order: Any) -> None:
    array = np.array(square(shape), dtype, order=order)
    assert ol.Parameter(array).data is array


@pytest.mark.parametrize("value", [square() * 2, (square() * 2).astype(np.float64), (square() * 2).tolist(),
                                   np.asfortranarray(square() * 2), ol.Parameter(square() * 2)],
                         ids=["array", "float64", "list", "F", "parameter"])
def test_assigned_data_is_copied_into_the_same_memory(value: Any) -> None:
    array = square()
    parameter = ol.Parameter(array)
    parameter.data = value
    assert parameter.data is array
    assert array.tobytes() == (square() * 2).tobytes()


@pytest.mark.parametrize(("value", "error", "message"), [
    (np.zeros((2, 3), np.float32), ValueError, r"'W'.* shape \(3, 3\), got.* \(2, 3\)"),
    (1.0, ValueError, r"'W'.* shape \(3, 3\), got.* \(\)"),
    (np.zeros((3, 3), np.complex64), TypeError, "complex64"), ("text", ValueError, r"'W'.* shape \(3, 3\), got")],
    ids=["shape", "scalar", "complex", "text"])
def test_assigned_data_that_does_not_fit_is_refused(value: Any, error: Any, message: str) -> None:
    W = ol.Parameter(square(), name="W")
    with pytest.raises(error, match=message):
        W.data = value
    assert_bits(W.data, square())


def test_equality_and_hash_are_by_identity() -> None:
    a, same_values = ol.Parameter(square()), ol.Parameter(square())
    assert (a == a, a != a) == (True, False)
    assert (a == same_values) is False
    assert (a != same_values) is True
    assert (a == a.data) is False
    assert (a.data == a) is False
    assert {a: 1, same_values: 2} == {same_values: 2, a: 1}
    assert [same_values, a].index(a) == 1


def test_a_parameter_keeps_its_array_for_life() -> None:
    """Plans hold its address: a second __init__ or a resize that moves the memory must fail."""
    W = ol.Parameter(np.zeros(4, np.float32))
    with pytest.raises(RuntimeError, match=r"assign to \.data"):
        W.__init__(np.ones(4, np.float32))                   # type: ignore[misc]
    with pytest.raises(ValueError, match="resize"):
        W.data.resize(1 << 16)
    assert W.shape == (4,)


@pytest.mark.parametrize("name", [3, b"W", ("W",)], ids=str)
def test_a_name_is_a_str(name: Any) -> None:
    with pytest.raises(TypeError, match="`name` must be a str, got "):
        ol.Parameter(square(), name)


# Gradients -----------------------------------------------------------------------------------------------------------

MATRIX = square((3, 3))
ACCEPTED = {
    "array": MATRIX.copy(),
    "transposed": np.ascontiguousarray(MATRIX.T).T,
    "reversed": np.ascontiguousarray(MATRIX[::-1])[::-1],
    "strided": np.repeat(MATRIX, 2, axis=1)[:, ::2],
    "misaligned": np.frombuffer(b"x" + MATRIX.tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 3),
    "read-only": np.frombuffer(MATRIX.tobytes(), np.float32).reshape(3, 3),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_gradient_counts_by_its_values(kind: str, order: Any) -> None:
    gradient = ACCEPTED[kind]
    before = gradient.tobytes()
    W = ol.Parameter(np.zeros((3, 3), np.float32, order=order))
    W.grad = gradient
    assert W.grad is gradient
    ol.SGD([W], lr=1).step()
    assert_bits(W.data, -MATRIX)
    assert gradient.tobytes() == before


def test_a_broadcast_gradient_counts_by_its_values() -> None:
    W = ol.Parameter(np.zeros((2, 3), np.float32))
    W.grad = np.broadcast_to(np.float32([1, 2, 3]), (2, 3))
    ol.SGD([W], lr=1).step()
    assert_bits(W.data, np.float32([[-1, -2, -3], [-1, -2, -3]]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scalar", [2, 2.0, np.float32(2), np.float64(2), np.array(2.0)], ids=repr)
def test_scalars_are_gradients_of_0d_parameters(scalar: Any, dtype: Any) -> None:
    t = ol.Parameter(np.array(5, dtype), name="t")
    if isinstance(scalar, (np.generic, np.ndarray)) and scalar.dtype != dtype:
        with pytest.raises(TypeError, match=rf"gradient of 't' is {scalar.dtype} .* use grad.astype\(np.{t.dtype}\)"):
            t.grad = scalar
        assert t.grad is None
        return
    t.grad = scalar
    assert_bits(t.grad, np.array(2, dtype))
    ol.SGD([t], lr=1).step()
    assert_bits(t.data, np.array(3, dtype))


REFUSED = {
    "float64": (np.zeros((2, 3)), TypeError, r"is float64 but the parameter is float32; use grad.astype\(np.float32\)"),
    "int": (np.zeros((2, 3), int), TypeError, r"is int64 but .* use grad.astype\(np.float32\)"),
    "byte-swapped": (np.zeros((2, 3), ">f4"), TypeError, r"is >f4 but .* use grad.astype\(np.float32\)"),
    "complex": (np.zeros((2, 3), np.complex64), TypeError, "is complex64 but the parameter is float32"),
    "shape": (np.zeros((3, 2), np.float32), ValueError, r"has shape \(3, 2\) but the parameter has \(2, 3\); reshape"),
    "row": (np.zeros(3, np.float32), ValueError, r"has shape \(3,\) but the parameter has \(2, 3\); reshape or sum"),
    "masked": (np.ma.MaskedArray(np.zeros((2, 3), np.float32), True), TypeError,
               r"must be a plain array, got a masked one; use grad.filled\(0\)"),
    "scalar": (1.0, TypeError, r"must be a NumPy array, got float; use np.asarray\(grad, dtype=np.float32\)"),
    "list": ([[0.0] * 3] * 2, TypeError, "must be a NumPy array, got list; use np.asarray"),
    "text": ("gradient", TypeError, "must be a NumPy array, got str"),
    "parameter": (ol.Parameter(np.zeros((2, 3), np.float32)), TypeError,
                  r"must be an array, got a Parameter; use its \.data or \.grad"),
}


@pytest.mark.parametrize(("name", "called"), [("W", "'W'"), (None, r"an unnamed parameter of shape \(2, 3\)")])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_gradient_that_does_not_fit_is_refused_at_once(kind: str, name: str | None, called: str) -> None:
    """thinc PR#664: arrays of the wrong shape or type were read out of bounds."""
    value, error, message = REFUSED[kind]
    W = ol.Parameter(square((2, 3)), name)
    W.grad = before = np.ones((2, 3), np.float32)
    with pytest.raises(error, match=f"^gradient of {called} {message}"):
        W.grad = value
    assert W.grad is before


@pytest.mark.parametrize("cls", [np.matrix, np.recarray, np.memmap])
def test_a_gradient_of_another_class_of_arrays_counts_by_its_values(cls: type[np.ndarray], tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    mapped = np.memmap(tmp_path / "g", np.float32, "w+", shape=(2, 3))
    mapped[...] = values
    gradient = mapped if cls is np.memmap else values.view(cls)
    results = []
    for given in (gradient, values):
        W = ol.Parameter(square((2, 3)))
        W.grad = given
        assert W.grad is given
        ol.Adam([W]).step()
        W.accumulate_grad(given)
        ol.Adam([W]).step()
        results.append(W.data)
    assert_bits(*results)


@pytest.mark.parametrize("value", [True, "1", 1j, [1.0], None], ids=repr)
def test_only_numbers_are_scalar_gradients(value: Any) -> None:
    t = ol.Parameter(np.array(1.0))
    if value is None:
        t.grad = 1.0
        t.grad = None
        assert t.grad is None
        return
    with pytest.raises(TypeError, match="gradient of an unnamed parameter"):
        t.grad = value


def test_a_dropped_gradient_is_released() -> None:
    W = ol.Parameter(np.zeros(3, np.float32))
    for drop in (lambda: setattr(W, "grad", None), lambda: delattr(W, "grad"),
                 lambda: setattr(W, "grad", np.ones(3, np.float32))):
        W.grad = np.zeros(3, np.float32)
        gone = weakref.ref(W.grad)
        drop()
        assert gone() is None


# Copies --------------------------------------------------------------------------------------------------------------

class Tagged(ol.Parameter):
    """A subclass: copies keep the type."""

    __slots__ = ()


WAYS = {f"pickle{protocol}": lambda p, protocol=protocol: pickle.loads(pickle.dumps(p, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)} | {"deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("cls", [ol.Parameter, Tagged])
def test_a_copy_is_equal_and_independent(way: str, order: Any, cls: type[ol.Parameter]) -> None:
    W = cls(np.array(square((2, 3)), order=order), "W")
    W.grad = square((2, 3)) * 2
    twin = WAYS[way](W)
    assert type(twin) is cls
    assert twin.name == "W"
    assert twin.data.flags.f_contiguous == W.data.flags.f_contiguous
    assert_bits(twin.data, W.data)
    assert_bits(twin.grad, W.grad)
    assert not np.shares_memory(twin.data, W.data)
    assert not np.shares_memory(twin.grad, W.grad)


def test_a_deepcopy_of_a_model_keeps_shared_parameters_shared() -> None:
    W = ol.Parameter(square())
    twin = copy.deepcopy({"encoder": W, "decoder": W, "array": W.data})
    assert twin["encoder"] is twin["decoder"]
    assert twin["array"] is twin["encoder"].data


def test_a_parameter_is_freed_without_the_collector() -> None:
    gc.disable()
    try:
        W = ol.Parameter(square())
        W.grad = square()
        gone = weakref.ref(W)
        del W
        assert gone() is None
    finally:
        gc.enable()
