"""Clipping of gradients by themselves: bare arrays in any nesting, as `step(grads=...)` takes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import label


def nested() -> Any:
    return {"a": [np.array([3.0, 0.0]), None], "b": {"W": np.array([[4.0]], np.float32)}, "c": [("n", np.zeros(0))]}


@pytest.mark.parametrize("given", [
    nested, lambda: [leaf for leaf in (np.array([3.0, 0.0]), np.array([[4.0]], np.float32))],
    lambda: (leaf for leaf in (np.array([3.0]), np.array([4.0])))], ids=["nesting", "list", "generator"])
def test_the_norm_of_a_nesting(given: Any) -> None:
    assert ol.get_total_norm(given()) == 5.0
    assert ol.clip_grad_norm_(given(), math.inf) == 5.0


def test_a_nesting_is_scaled_in_place() -> None:
    grads = nested()
    assert ol.clip_grad_norm_(grads, 1.0) == 5.0
    assert grads["a"][0][0] == 3.0 * (1.0 / (5.0 + 1e-6))
    assert grads["b"]["W"].dtype == np.float32
    ol.clip_grads_with_norm_(grads, 1.0, 2.0)
    assert ol.get_total_norm(grads) == pytest.approx(0.5, rel=1e-5)


def test_values_of_a_nesting_are_clipped_in_place() -> None:
    grads = nested()
    ol.clip_grad_value_(grads, 1.0)
    assert (grads["a"][0][0], grads["b"]["W"][0, 0]) == (1.0, 1.0)


def test_a_single_array_and_a_strided_one() -> None:
    array = np.arange(12.0).reshape(3, 4)
    ol.clip_grad_value_(array[:, ::2], 3.0)
    assert array.tolist() == [[0, 1, 2, 3], [3, 5, 3, 7], [3, 9, 3, 11]]
    one = np.array([3.0, 4.0])
    assert ol.clip_grad_norm_(one, 5.0) == 5.0


def test_the_bits_are_those_of_parameters() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(size).astype(np.float32) for size in (1000, 20_000, 7)]
    parameters = [ol.Parameter(np.zeros_like(array)) for array in arrays]
    for parameter, array in zip(parameters, arrays, strict=True):
        parameter.grad = array.copy()
    assert ol.clip_grad_norm_(arrays, 1.0) == ol.clip_grad_norm_(parameters, 1.0)
    for parameter, array in zip(parameters, arrays, strict=True):
        assert np.array_equal(np.asarray(parameter.grad), array)


def test_an_array_that_stands_twice_is_scaled_once() -> None:
    one = np.array([3.0, 4.0])
    ol.clip_grad_norm_([one, one], 1.0)
    assert one == pytest.approx(np.array([3.0, 4.0]) / math.sqrt(50), rel=1e-6)


@pytest.mark.parametrize(("given", "message"), [
    ([np.ones(2), ol.Parameter(np.ones(2))], "must be Parameters, or arrays that are gradients, and not both, got "
                                             r"Parameter at '1'; give the Parameters' .grad"),
    ({"a": [1.0]}, "`parameters` must be Parameters, or arrays that are gradients, in any nesting, got float at 'a.0'"),
    ({np.float64(1)}, "in any nesting, got set"),
    ([np.ones(2, int)], "gradient '0' must be a plain array of .* to be clipped in place, got int64"),
    (np.ones(2, np.uint16), "a gradient must be a plain array of .* got uint16"),
    ([np.ma.masked_array(np.ones(2))], "got a masked array"),
    ([np.broadcast_to(np.ones(1), 3)], r"gradient of shape \(3,\) is read-only and can't be clipped"),
], ids=label)
def test_what_is_no_gradient_is_refused(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.clip_grad_norm_(given, 1.0)
