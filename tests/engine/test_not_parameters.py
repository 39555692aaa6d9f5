"""What is given for parameters and can't be any: the message names it, where it stands, and what to give instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol

W = np.ones(3)


class Model:
    def parameters(self) -> list[np.ndarray]:
        return [W]


class Layer:
    def __init__(self, W: Any) -> None:
        self.W = W


class Tensor:
    """Like JAX's arrays and TensorFlow's: to be read through `__array__`, and iterating into its own kind."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.ones(3)

    def __iter__(self) -> Any:
        return iter([self])


class Frame(dict[str, Any]):
    """Like pandas': iterates over names."""

    def to_numpy(self) -> np.ndarray:
        return np.ones(3)


class Sparse(Tensor):
    def toarray(self) -> np.ndarray:
        return np.ones(3)


@pytest.mark.parametrize(("given", "message"), [
    ([W, None], "got NoneType at '1'; leave it out"),
    ({"W": W, "b": None}, "got NoneType at 'b'; leave it out"),
    ({"mu": 0.0}, r"got float at 'mu'; use np.array\(value, dtype=np.float32\), and let the model use that array"),
    (Model().parameters, r"got method; call it: parameters\(\)"),
    ([Layer(W)], r"got Layer at '0'; give its arrays, \{'W': layer.W\}"),
    (Tensor(), "got Tensor; use np.array.* and let the model use that array"),
    ([Tensor()], "got Tensor at '0'; use np.array.* and let the model use that array"),
    (Frame(a=1), "got Frame; use its to_numpy.* and let the model use that array"),
    ([Sparse()], r"got Sparse at '0'; use its toarray\(\), and let the model use that array"),
], ids=lambda part: part if isinstance(part, str) else type(part).__name__)
def test_the_message_names_it_and_the_cure(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ol.SGD(given)


def test_a_used_up_generator() -> None:
    arrays = (array for array in [W])
    ol.SGD(arrays)
    with pytest.raises(ValueError, match="got an empty list; a generator gives its items once"):
        ol.SGD(arrays)
