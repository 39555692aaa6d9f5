"""Arrays that can't be updated in place, or that meet in memory: refused with a cure, and not a byte has changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import AXES, OPTIMIZERS
from support.refusals import assert_refused, stepping

# Arrays that no kernel can update in place ---------------------------------------------------------------------------

def misaligned() -> np.ndarray:
    memory = np.zeros(17 + 16, np.uint8)
    start = 1 + (-memory.ctypes.data) % 16
    return memory[start:start + 16].view(np.float32)


def read_only() -> np.ndarray:
    array = np.zeros(4, np.float32)
    array.flags.writeable = False
    return array


# What is wrong, the rule in the message, and the cure.
ARRAYS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "long double": (lambda: np.zeros(4, np.longdouble), "must be float32 or float64, got", "a.astype(np.float32)"),
    "int": (lambda: np.zeros(4, np.int32), "must be float32 or float64, got int32", "a.astype(np.float32)"),
    "bool": (lambda: np.zeros(4, bool), "must be float32 or float64, got bool", "a.astype(np.float32)"),
    "long complex": (lambda: np.zeros(4, np.clongdouble), "must be complex64 or complex128, got", "np.complex128"),
    "object": (lambda: np.array([1.0, None]), "must be float32 or float64, got object", ""),
    "record": (lambda: np.zeros(4, [("x", "f4")]), "must be float32 or float64, got [('x', '<f4')]", ""),
    "text": (lambda: np.array(["a"]), "must be float32 or float64, got <U1", ""),
    "strings": (lambda: np.array(["a"], np.dtypes.StringDType()), "must be float32 or float64, got StringDType", ""),
    "byte-swapped": (lambda: np.zeros(4, ">f4"), "must be in native byte order, got >f4", "a.astype(np.float32)"),
    "swapped double": (lambda: np.zeros(4, ">f8"), "must be in native byte order, got >f8", "a.astype(np.float64)"),
    "broadcast": (lambda: np.broadcast_to(np.float32(0), (4,)),
                  "must have memory of its own for each element, got strides (0,)", "a.copy()"),
    "misaligned": (misaligned, "must be aligned in memory, got", "a.copy()"),
    "read-only": (read_only, "must be writeable, got a read-only array", "a.copy()"),
    "masked": (lambda: np.ma.MaskedArray(np.zeros(4, np.float32), [0, 1, 0, 0]),
               "must be a plain array, got a masked one", "a.filled(0)"),
}

# How it comes in, and how the message calls it.
ENTRANCES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "Parameter": (lambda a: ol.Parameter(a, "W"), "parameter 'W' "),
    "unnamed": (lambda a: ol.Parameter(a), "an unnamed parameter of shape "),
    "optimizer": (lambda a: ol.SGD({"fine": np.ones(3), "W": a}), "parameter 'W' "),
    "position": (lambda a: ol.Adam([np.ones(3), a]), "parameter '1' "),
    "group": (lambda a: ol.AdamW([{"params": [np.ones(3)]}, {"params": {"net": [a]}}]), "parameter 'net.0' "),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_that_cannot_be_updated_in_place_is_refused(kind: str, entrance: str) -> None:
    """thinc PR#664: Adam wrote out of bounds for arrays of another type; numpy: misaligned and swapped buffers."""
    make, rule, cure = ARRAYS[kind]
    enter, called = ENTRANCES[entrance]
    array = make()
    before = array.tolist()
    with pytest.raises((TypeError, ValueError)) as caught:
        enter(array)
    message = str(caught.value)
    assert rule in message
    assert cure in message
    assert called in message
    assert "parameter an unnamed" not in message
    assert array.tolist() == before


@pytest.mark.parametrize("kind", ARRAYS)
def test_a_late_group_with_such_an_array_leaves_the_optimizer(kind: str) -> None:
    make, rule, _ = ARRAYS[kind]
    optimizer = stepping()
    array = make()
    assert_refused(lambda: optimizer.add_param_group({"params": {"fine": np.ones(3), "V": array}}),
                   "'V'.*" + re.escape(rule), optimizer=optimizer)
    assert len(optimizer.param_groups) == 1
    assert "V" not in optimizer.state._names
    optimizer.step()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (4, 1, 3)], ids=str)
@pytest.mark.parametrize("optimizer", [optimizer for optimizer in OPTIMIZERS if not AXES[optimizer]])
def test_contiguous_arrays_of_any_shape_are_fine(optimizer: Any, shape: Any, dtype: Any, order: Any) -> None:
    array = np.ones(shape, dtype, order=order)
    made = optimizer({"W": array}, lr=0.5)
    for _ in range(6):                   # ADOPT's first step moves nothing, Schedule-Free RAdam waits for five
        made.step(grads={"W": np.ones(shape, dtype)})
    if optimizer is ol.SOAP and array.size:      # rounding alone decides where the gradient has no part in its basis
        assert array.mean() < 1
    else:
        assert (array < 1).all()


@pytest.mark.parametrize(("value", "got"), [(3.0, "float"), ("W", "str"), (None, "NoneType"), (b"W", "bytes"),
                                            (np.float32(1), "float32"), (object(), "object"), (len, "builtin")])
def test_what_is_no_array_is_refused(value: Any, got: str) -> None:
    with pytest.raises(TypeError, match=f"a parameter must be a NumPy array, got {got}.*use np.array"):
        ol.Parameter(value)
    for params, where in ((value, ""), ([np.ones(2), value], " at '1'"), ({"net": {"W": value}}, " at 'net.W'")):
        with pytest.raises(TypeError, match=f"be NumPy arrays, Parameters or nestings of them, got {got}.*{where}"):
            ol.SGD(params)


# Arrays that meet in memory ------------------------------------------------------------------------------------------

def twice(wrap: Callable[[np.ndarray], Any]) -> Any:
    def build(memory: np.ndarray) -> Any:
        leaf = wrap(memory[:4])
        return leaf, leaf
    return build


MEETINGS: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "a parameter twice": (twice(ol.Parameter), "parameter '{b}' appears more than once in the optimizer; list it once"),
    "an array twice": (twice(lambda a: a),
                       "parameter '{a}' and parameter '{b}' overlap in memory.*; list it once, and give tied"),
    "two of one array": (lambda m: (ol.Parameter(m), ol.Parameter(m)), "'{a}' and parameter '{b}' overlap in memory"),
    "by one element": (lambda m: (m[:5], m[4:]), "'{a}' and parameter '{b}' overlap in memory"),
    "one inside": (lambda m: (m, m[2:3]), "'{a}' and parameter '{b}' overlap in memory"),
    "one inside, first": (lambda m: (m[2:3], m), "'[ab]' and parameter '[ab]' overlap in memory"),
    "another type": (lambda m: (m.view(np.float64)[:2], m[3:]), "'{a}' and parameter '{b}' overlap in memory"),
    "another shape": (lambda m: (m.reshape(2, 4), m.reshape(4, 2, order="F")[:, 1]),
                      "'{a}' and parameter '{b}' overlap"),
}


@pytest.mark.parametrize("kind", MEETINGS)
def test_parameters_that_meet_in_memory_are_refused(kind: str) -> None:
    """pytorch#40967: a parameter listed twice is updated twice."""
    build, message = MEETINGS[kind]
    memory = np.arange(8, dtype=np.float32)
    a, b = build(memory)
    assert_refused(lambda: ol.SGD({"a": a, "b": b}), message.format(a="a", b="b"), memory)
    assert_refused(lambda: ol.SGD([{"params": {"a": a}}, {"params": {"b": b}}]), message.format(a="a", b="b"), memory)
    optimizer = ol.SGD({"a": a}, momentum=0.9)
    assert_refused(lambda: optimizer.add_param_group({"params": {"b": b}}), message.format(a="a", b="b"), memory,
                   optimizer=optimizer)


def test_neighbours_in_memory_are_fine() -> None:
    memory = np.zeros(6, np.float32)
    ol.SGD([memory[4:], memory[:2], memory[2:4], memory[3:3], memory[6:]], lr=1).step(
        grads=[np.ones(2, np.float32)] * 3 + [np.ones(0, np.float32)] * 2)
    assert memory.tolist() == [-1] * 6
