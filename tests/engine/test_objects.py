"""Parameters in dataclasses, attrs classes and objects with `parameters()`, nested as any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import parameters


@dataclass
class Layer:
    W: np.ndarray = field(default_factory=lambda: np.ones((2, 2)))
    b: np.ndarray = field(default_factory=lambda: np.ones(2))
    activation: str = "tanh"
    dropout: float = 0.5
    seed: Any = None


@dataclass(slots=True, frozen=True)
class Network:
    layers: list[Layer]
    scale: np.ndarray
    names: tuple[str, ...] = ("first", "second")


class WithParameters:
    def __init__(self) -> None:
        self.W, self.b = np.ones(3), np.ones(2)

    def parameters(self) -> Any:
        yield from (self.W, self.b)


def network() -> Network:
    return Network([Layer(), Layer()], np.ones(1))


def test_fields_are_the_names_and_settings_are_left_out() -> None:
    net = network()
    opt = ol.SGD(net, lr=0.5)
    names = ["layers.0.W", "layers.0.b", "layers.1.W", "layers.1.b", "scale"]
    assert [opt.state.name_of(p) for p in parameters(opt)] == names
    opt.step(grads={name: np.ones_like(p.data) for name, p in zip(names, parameters(opt), strict=True)})
    assert net.layers[1].W.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_gradients_come_in_the_same_classes_and_as_dicts() -> None:
    net = network()
    opt = ol.SGD(net, lr=0.25)
    opt.step(grads=Network([Layer(), Layer()], np.ones(1)))
    opt.step(grads={"layers": [{"W": np.ones((2, 2)), "b": None}, Layer()], "scale": None})
    assert net.layers[0].W[0, 0] == net.layers[1].b[0] == 0.5
    assert net.layers[0].b[0] == net.scale[0] == 0.75
    with pytest.raises(ValueError, match=r"`grads` at 'layers\.0' lacks"):
        opt.step(grads={"layers": [{"W": np.ones((2, 2))}, Layer()], "scale": None})


def test_attrs_classes() -> None:
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Model:
        W: Any
        _hidden: Any
        title: str = "a"

    model = Model(np.ones(2), np.ones(3))
    opt = ol.SGD({"model": model}, lr=1.0)
    assert [opt.state.name_of(p) for p in parameters(opt)] == ["model.W", "model._hidden"]
    opt.step(grads={"model": Model(np.ones(2), np.ones(3))})
    assert not model.W.any()


def test_objects_with_parameters() -> None:
    model = WithParameters()
    opt = ol.SGD([model, Layer()], lr=1.0)
    assert len(parameters(opt)) == 4
    opt.step(grads=[[np.ones(3), np.ones(2)], Layer()])
    assert not model.W.any()
    assert not model.b.any()


def test_other_tools_take_them_too() -> None:
    net = network()
    average = ol.Average(net)
    average.update()
    grads = Network([Layer(), Layer()], np.ones(1))
    assert ol.clip_grad_norm_(grads, 1.0) == pytest.approx(13 ** 0.5)
    assert grads.scale[0] == pytest.approx(13 ** -0.5, rel=1e-4)
    assert ol.check_grad(lambda n: (sum(float((a ** 2).sum()) for a in (n.layers[0].W, n.scale)), Network(
        [Layer(2 * n.layers[0].W, np.zeros(2)), Layer(np.zeros((2, 2)), np.zeros(2))], 2 * n.scale)), net)
    groups = ol.group_by_name(net, {"*.b": {"weight_decay": 0.0}})
    assert len(ol.AdamW(groups).param_groups) == 2


def test_an_empty_one_is_refused_and_a_class_is_not_an_object() -> None:
    @dataclass
    class Settings:
        lr: float = 0.1

    with pytest.raises(ValueError, match="an optimizer needs at least one parameter"):
        ol.SGD(Settings(), lr=1)
    with pytest.raises(TypeError, match="got type"):
        ol.SGD(Layer)
    with pytest.raises(TypeError, match=r"got int at 'b'; use np.array\(value"):
        ol.SGD({"a": Layer(), "b": 3})
