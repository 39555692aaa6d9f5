"""Groups by patterns of names."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import optimlite as ol


def model() -> dict[str, Any]:
    return {"embed": np.ones(4), "layer": [{"W": np.ones((2, 2)), "b": np.ones(2)} for _ in range(2)],
            "norm": {"scale": np.ones(2), "b": np.ones(2)}}


def names(groups: list[dict[str, Any]]) -> list[list[str]]:
    return [group["param_names"] for group in groups]


def test_no_decay_for_biases_and_norms() -> None:
    params = model()
    groups = ol.group_by_name(params, {("*.b", "norm.*"): {"weight_decay": 0}})
    assert names(groups) == [["embed", "layer.0.W", "layer.1.W"],
                             ["layer.0.b", "layer.1.b", "norm.scale", "norm.b"]]
    optimizer = ol.AdamW(groups, lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0]
    optimizer.step(grads={name: np.zeros_like(p.data) for group in groups
                          for name, p in zip(group["param_names"], group["params"], strict=True)})
    np.testing.assert_allclose(params["embed"], 0.95)        # the user's own array, decayed
    np.testing.assert_array_equal(params["norm"]["b"], 1.0)


def test_gradients_may_be_nested_as_the_model_is() -> None:
    params, halves = model(), {"layer": [{"W": np.full((2, 2), 0.5), "b": np.full(2, 0.5)} for _ in range(2)]}
    optimizer = ol.SGD(ol.group_by_name(params, {"*.b": {"lr": 2.0}}), lr=1.0)
    optimizer.step(grads={"embed": np.ones(4), **halves, "norm": {"scale": np.ones(2), "b": None}})
    assert (params["embed"] == 0).all()
    assert [(layer["W"][0, 0], layer["b"][0]) for layer in params["layer"]] == [(0.5, 0.0)] * 2
    assert params["norm"]["b"].tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"`grads` has unknown names \['layer.0.V'\]"):
        optimizer.step(grads={"embed": np.ones(4), "layer": [{"V": np.ones(2)}]})
    with pytest.raises(ValueError, match=r"^`grads` must have one gradient for each parameter, got two for 'norm.b'$"):
        optimizer.step(grads={"norm": {"b": np.ones(2)}, "norm.b": np.ones(2)})
    with pytest.raises(TypeError, match=r"^gradient of 'embed' must be a NumPy array, got list"):
        optimizer.step(grads={"embed": [1.0] * 4, "layer": None, "norm": None})
    before = params["layer"][0]["W"].copy()
    optimizer.step(grads=MappingProxyType({"embed": np.ones(4), "layer": None, "norm": MappingProxyType(
        {"scale": None, "b": np.ones(2)})}))
    assert (params["layer"][0]["W"] == before).all()
    assert params["norm"]["b"].tolist() == [-1, -1]


def test_the_overrides_of_all_patterns_add_up() -> None:
    groups = ol.group_by_name(model(), {"*.b": {"weight_decay": 0}, "layer.0.*": {"lr": 0.5}, "norm.*": {}})
    assert names(groups) == [["embed", "layer.1.W", "norm.scale"], ["layer.0.W"], ["layer.0.b"],
                             ["layer.1.b", "norm.b"]]
    assert [{key: group[key] for key in group if "param" not in key} for group in groups] == [
        {}, {"lr": 0.5}, {"weight_decay": 0, "lr": 0.5}, {"weight_decay": 0}]


def test_everything_may_match() -> None:
    assert names(ol.group_by_name([np.ones(1), np.ones(2)], {"?": {"lr": 1}})) == [["0", "1"]]
    assert names(ol.group_by_name([np.ones(1), np.ones(2)], {})) == [["0", "1"]]


def test_state_travels_between_groupings_by_name() -> None:
    one = ol.Adam(model())
    one.step(grads={name: np.ones(one.state.find(name).shape) for name in one._names()})
    other = ol.Adam(ol.group_by_name(model(), {"*.b": {}, "layer.*": {"eps": 1e-3}}))
    other.load_state_dict(one.state_dict())
    assert all((one.state[name]["exp_avg"] == other.state[name]["exp_avg"]).all() for name in one._names())


@pytest.mark.parametrize(("overrides", "message"), [
    ({"*.bias": {"lr": 1}}, r"no parameter matches \['\*\.bias'\]; the names are \['embed', "),
    ({("*.b", "x*"): {"lr": 1}}, r"no parameter matches \['x\*'\]"),
    ({"*.B": {"lr": 1}}, "no parameter matches"),
    ({"*.b": {"lr": 1}, "norm.*": {"lr": 2}}, r"'norm\.b' gets `lr` = 1 from '\*\.b' and 2 from 'norm\.\*'; let one"),
])
def test_patterns_that_cannot_be_meant(overrides: dict[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ol.group_by_name(model(), overrides)


def test_names_must_differ() -> None:
    same = [ol.Parameter(np.ones(1), name="a"), ol.Parameter(np.ones(1), name="a")]
    with pytest.raises(ValueError, match=r"must have different names to be grouped by them, got \['a'\]"):
        ol.group_by_name(same, {"a": {}})


def test_a_misspelt_hyper_parameter_is_found_by_the_optimizer() -> None:
    with pytest.raises(ValueError, match="did you mean `weight_decay`"):
        ol.AdamW(ol.group_by_name(model(), {"*.b": {"weight_deacy": 0}}))
