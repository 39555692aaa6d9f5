"""What is given for parameters and can't be any: the message names it, where it stands, and what to give instead."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import optimlite as ol
from support.helpers import label

W = np.ones(3)


class Model:
    def parameters(self) -> list[np.ndarray]:
        return [W]


class Layer:
    def __init__(self) -> None:
        self.W, self.b, self.name = np.ones((2, 2)), np.ones(2), "first"


class Slotted:
    __slots__ = ("W",)

    def __init__(self) -> None:
        self.W = W


class Network:
    def __init__(self) -> None:
        self.layers = [Layer(), Layer()]


class Named(NamedTuple):
    W: Any
    b: Any


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
    ({"mu": 0.0}, r"got float at 'mu'; use np.array\(value, dtype=np.float64\), or float32 where the others are, and "
                  "let the model use that array"),
    (Model().parameters, r"got method; call it: parameters\(\)"),
    (Tensor(), "got Tensor; use np.array.* and let the model use that array"),
    ([Tensor()], "got Tensor at '0'; use np.array.* and let the model use that array"),
    (Frame(a=1), "got Frame; use its to_numpy.* and let the model use that array"),
    ([Sparse()], r"got Sparse at '0'; use its toarray\(\), and let the model use that array"),
    (Layer(), r"got Layer; give its arrays, \{'W': layer.W, 'b': layer.b\}$"),
    ([Layer()], r"got Layer at '0'; give its arrays, \{'W': layer.W, 'b': layer.b\}$"),
    ({"net": Slotted()}, r"got Slotted at 'net'; give its arrays, \{'W': slotted.W\}$"),
    (Network(), r"got Network; give its arrays, in a dict or a list$"),
    (lambda: 3, r"got function; call it: <lambda>\(\)$"),
    ({"params": [W], "lr": 0.1}, r"^a dict with `lr` is a parameter group, got the keys \['params', 'lr'\]; give a l"
                                 r"ist of groups, \[\{...\}\]$"),
    ([{"param": [W], "lr": 0.1}], r"^a dict with `lr` is a parameter group, got the keys \['param', 'lr'\]; its param"
                                  r"eters belong under 'params'$"),
    ([{"params": [W]}, {"param": [np.ones(2)]}], r"^a parameter group must be a dict with a 'params' key, got the keys "
                                                 r"\['param'\]$"),
    ([("W", W), np.ones(2)], r"^parameters must all be named or none, got names for 1 of 2; give \(name, array\) for"),
    ({"a": [("W", W), np.ones(2), np.ones(3)]}, r"^parameters at 'a' must all be named or none, got names for 1 of 3"),
    (np.array([W, np.ones(2)], dtype=object), r"^parameter '0' must be float32 or float64, got object; use list\(a\)"),
], ids=label)
def test_the_message_names_it_and_the_cure(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.SGD(given)


def test_a_used_up_generator() -> None:
    arrays = (array for array in [W])
    ol.SGD(arrays)
    with pytest.raises(ValueError, match="got an empty list; a generator gives its items once"):
        ol.SGD(arrays)


def test_what_is_like_it_is_taken() -> None:
    assert len(ol.SGD(Named(W, np.ones(2)))._parameters()) == 2
    assert len(ol.SGD([{"lr": W, "b": np.ones(2)}])._parameters()) == 2           # parameters with such names
    assert len(ol.SGD({"params": [W]})._parameters()) == 1


def test_arrays_of_a_file_that_are_read_anew_each_time(tmp_path: Any) -> None:
    np.savez(tmp_path / "model.npz", W=W)
    with np.load(tmp_path / "model.npz") as file, \
            pytest.raises(TypeError, match=r"got NpzFile; np.load reads a file's arrays anew each time; give dict\(v"):
        ol.SGD(file)


def test_tensors_of_torch() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.ones(3)
    message = (r"got Tensor; optimlite.torch has this optimizer for tensors, which share memory as tensor.detach\(\)."
               r"numpy\(\)$")
    with pytest.raises(TypeError, match=message):
        ol.SGD(tensor)
    with pytest.raises(TypeError, match=r"at '0'; optimlite\.torch has this optimizer for tensors"):
        ol.SGD([tensor])
    with pytest.raises(TypeError, match=r"got Parameter at '0'; optimlite.torch has this optimizer for tensors"):
        ol.SGD(torch.nn.Linear(2, 2))
    ol.SGD([tensor.detach().numpy()], lr=1).step(grads=[np.ones(3, np.float32)])          # the cure
    assert tensor.tolist() == [0, 0, 0]
