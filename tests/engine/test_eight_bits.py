"""State dicts of optimizers that store 8 bits: bitsandbytes' codes, and torchao's tensors, come as float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol

N = 5000                                         # the last of 20 blocks has 136 elements
MAP = np.linspace(-1, 1, 256).astype(np.float32)


def stored(values: np.ndarray, number: int) -> dict[str, Any]:
    """As bitsandbytes does: the nearest value of a map, relative to the largest magnitude of 256 elements."""
    largest = np.maximum.reduceat(abs(values.ravel()), np.arange(0, values.size, 256))
    relative = values.ravel() / np.repeat(largest, 256)[:values.size]
    codes = abs(MAP[:, None] - relative).argmin(axis=0).astype(np.uint8)
    return {f"state{number}": codes.reshape(values.shape), f"qmap{number}": MAP, f"absmax{number}": largest}


def state_dict(opt: ol.Optimizer, entries: dict[str, Any]) -> dict[str, Any]:
    return {"state": {0: entries}, "param_groups": opt.state_dict()["param_groups"]}


@pytest.fixture
def moments() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    m = rng.standard_normal((N // 50, 50)).astype(np.float32)
    return m, m * m


@pytest.mark.parametrize("state_dtype", [None, "int8"])
@pytest.mark.parametrize("nested", [False, True])
def test_codes_of_bitsandbytes(moments: tuple[np.ndarray, np.ndarray], nested: bool, state_dtype: str | None) -> None:
    opt = ol.AdamW({"W": np.zeros_like(moments[0])}, state_dtype=state_dtype)
    entries = {**stored(moments[0], 1), **stored(moments[1], 2)}
    entries = {"step": 7, **({"__bnb_optimizer_quant_state__": entries} if nested else entries), "unorm_vec": None}
    opt.load_state_dict(state_dict(opt, entries))
    state = opt.state["W"]
    assert state["step"] == 7
    if state_dtype is None:
        for key, values in zip(("exp_avg", "exp_avg_sq"), moments, strict=True):
            largest = abs(values).max()
            assert state[key].dtype == np.float32
            assert abs(state[key] - values).max() <= largest / 255 * 1.01
    opt.step(grads={"W": moments[0].copy()})


def test_state_that_was_too_small_for_codes() -> None:
    opt = ol.SGD({"b": np.zeros(3, np.float32)}, lr=1, momentum=0.5)
    opt.load_state_dict(state_dict(opt, {"state1": np.arange(3, dtype=np.float32)}))
    assert opt.state["b"]["momentum_buffer"].tolist() == [0, 1, 2]


def test_codes_without_their_scales(moments: tuple[np.ndarray, np.ndarray]) -> None:
    opt = ol.Lion({"W": np.zeros_like(moments[0])})
    entries = stored(moments[0], 1)
    entries["absmax1"] = entries["absmax1"][:-1]
    with pytest.raises(ValueError, match=r"state\['W'\] has codes in `state1` .* 20 in `absmax1`, got .* \(19,\)"):
        opt.load_state_dict(state_dict(opt, entries))
    assert not opt.state


class Torchaos:
    """What there is of its tensor subclasses: they decode themselves."""

    def __init__(self, values: np.ndarray) -> None:
        self.codes, self.values = values, values

    def dequantize(self) -> np.ndarray:
        return self.values


def test_tensors_of_torchao(moments: tuple[np.ndarray, np.ndarray]) -> None:
    opt = ol.AdamW({"W": np.zeros_like(moments[0])})
    opt.load_state_dict(state_dict(opt, {"step": np.float32(3), "exp_avg": Torchaos(moments[0]),
                                         "exp_avg_sq": Torchaos(moments[1])}))
    assert np.array_equal(opt.state["W"]["exp_avg_sq"], moments[1])
