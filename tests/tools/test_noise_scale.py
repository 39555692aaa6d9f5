"""NoiseScale finds the scale that a distribution of gradients has."""

from __future__ import annotations

import math

import numpy as np
import pytest

import optimlite as ol
from support.helpers import refusals


@pytest.mark.parametrize(("micro", "count"), [(1, 8), (16, 4), (8, 2)])
@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_the_scale_of_known_noise(micro: int, count: int, sigma: float) -> None:
    """tr(S) = sigma^2 * n and |G|^2 are known."""
    rng = np.random.default_rng(0)
    mean = rng.standard_normal(40)
    noise = ol.NoiseScale(micro, decay=0.99)
    for _ in range(600):
        parts = [mean + sigma / math.sqrt(micro) * rng.standard_normal(40) for _ in range(count)]
        for part in parts:
            noise.add({"a": part[:10], "b": [part[10:]]})
        value = noise.step([np.mean(parts, axis=0)])
    assert value == noise.value == pytest.approx(sigma ** 2 * 40 / (mean @ mean), rel=0.15)


def test_without_noise_it_is_0_and_without_signal_infinite() -> None:
    noise = ol.NoiseScale(4)
    assert math.isnan(noise.value)
    for _ in range(2):
        noise.add([np.ones(3)])
    assert noise.step([np.ones(3)]) == 0
    noise = ol.NoiseScale(4)
    noise.add([np.ones(3)])
    noise.add([-np.ones(3)])
    assert noise.step([np.zeros(3)]) == math.inf


test_what_is_refused = refusals([
    (lambda: ol.NoiseScale(0), "`micro_batch` must be an integer >= 1, got 0"),
    (lambda: ol.NoiseScale(1, decay=1), "`decay` must be >= 0 and < 1, got 1"),
    (lambda: ol.NoiseScale(1).step([np.ones(2)]), "a step needs the gradients of at least 2 micro-batches, got 0"),
    (lambda: ol.NoiseScale(1).add([3]), "`tensors` must be arrays")
])
