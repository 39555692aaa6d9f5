"""Digits, learned at a constant rate, or at none: what Schedule-Free, Prodigy, D-Adaptation and DoG promise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.helpers import dogs_average

EPOCHS, BATCH = 40, 64


# Each optimizer, and the average that is evaluated, if it hasn't its own.
LEARNERS: dict[str, tuple[Callable[[Any], ol.Optimizer], Callable[[Any], ol.Average] | None]] = {
    "ScheduleFreeSGD": (lambda model: ol.ScheduleFreeSGD(model), None),
    "ScheduleFreeAdamW": (lambda model: ol.ScheduleFreeAdamW(model), None),
    "ScheduleFreeRAdam": (lambda model: ol.ScheduleFreeRAdam(model), None),
    "Prodigy": (lambda model: ol.Prodigy(model), None),
    "DAdaptAdam": (lambda model: ol.DAdaptAdam(model), None),
    "DoG": (lambda model: ol.DoG(model), dogs_average),
    "LDoG": (lambda model: ol.LDoG(model), dogs_average),
    # And methods of whole matrices, at a rate.
    "Muon": (lambda model: ol.Muon(by_axes(model), lr=0.02, ns_coefficients="polar_express"), None),
    "NorMuon": (lambda model: ol.NorMuon(by_axes(model), lr=0.01), None),
    "SOAP": (lambda model: ol.SOAP(model), None),
    "Shampoo": (lambda model: ol.Shampoo(model, lr=3e-3, betas=(0.9, 0.999), eps=1e-8, grafting="adam",
                                         precondition_frequency=20, max_preconditioner_dim=128), None),
}


def by_axes(model: Any) -> list[dict[str, Any]]:
    """Matrices, and the rest for AdamW."""
    return [{"params": {key: p for key, p in model.items() if p.ndim == 2}},
            {"params": {key: p for key, p in model.items() if p.ndim < 2}, "use_muon": False, "lr": 3e-3}]


def network(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"W1": (rng.standard_normal((64, 128)) / 8).astype(np.float32), "b1": np.zeros(128, np.float32),
            "W2": (rng.standard_normal((128, 10)) / 11).astype(np.float32), "b2": np.zeros(10, np.float32)}


def gradients(model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Of the cross-entropy."""
    hidden = np.maximum(x @ model["W1"] + model["b1"], 0)
    scores = hidden @ model["W2"] + model["b2"]
    chances = np.exp(scores - scores.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    chances[np.arange(len(y)), y] -= 1
    chances /= np.float32(len(y))
    back = (chances @ model["W2"].T) * (hidden > 0)
    return {"W1": x.T @ back, "b1": back.sum(0), "W2": hidden.T @ chances, "b2": chances.sum(0)}


def accuracy(model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    scores = np.maximum(x @ model["W1"] + model["b1"], 0) @ model["W2"] + model["b2"]
    return float((scores.argmax(1) == y).mean())


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Shuffled; the first 1,437 are to be learned."""
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 16).astype(np.float32), y[order]


@pytest.mark.long
@pytest.mark.parametrize("name", LEARNERS)
def test_digits_are_learned(name: str) -> None:
    (x, y), rng = digits(), np.random.default_rng(0)
    model = network(1)
    make, averaged = LEARNERS[name]
    optimizer = make(model)
    average = averaged(model) if averaged else None
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(1437), 1437 // BATCH):
            optimizer.step(grads=gradients(model, x[batch], y[batch]))
            if average:
                average.update()
    shown: Any = average or optimizer
    with shown.swapped() if hasattr(shown, "swapped") else contextlib.nullcontext():
        assert accuracy(model, x[1437:], y[1437:]) >= 0.97


def loss(model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    scores = np.maximum(x @ model["W1"] + model["b1"], 0) @ model["W2"] + model["b2"]
    scores -= scores.max(1, keepdims=True)
    return float((np.log(np.exp(scores).sum(1)) - scores[np.arange(len(y)), y]).mean())


def learned(state_dtype: str | None, seed: int) -> tuple[float, float, float]:
    """Training loss, test loss and test accuracy after AdamW; the large matrix is in a format."""
    (x, y), rng = digits(), np.random.default_rng(seed)
    model = network(seed)
    optimizer = ol.AdamW(model, lr=1e-3, state_dtype=state_dtype, seed=seed)
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(1437), 1437 // BATCH):
            optimizer.step(grads=gradients(model, x[batch], y[batch]))
    return loss(model, x[:1437], y[:1437]), loss(model, x[1437:], y[1437:]), accuracy(model, x[1437:], y[1437:])


@pytest.mark.long
@pytest.mark.parametrize("state_dtype", ["bfloat16", "int8"])
def test_state_in_fewer_bytes_learns_as_well(state_dtype: str) -> None:
    """Within the spread of five seeds: docs/memory.md has the figures."""
    exact, stored = (np.array([learned(each, seed) for seed in range(5)]) for each in (None, state_dtype))
    assert np.all(np.abs(stored.mean(0) - exact.mean(0)) <= exact.std(0) + 1e-3)
