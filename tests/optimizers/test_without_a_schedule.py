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


@pytest.mark.long
@pytest.mark.parametrize("name", LEARNERS)
def test_digits_are_learned(name: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order]
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
