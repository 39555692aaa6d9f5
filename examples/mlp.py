# A multilayer perceptron in plain NumPy: the forward pass, and the gradient by hand.
from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

import optimlite as ol

Array = npt.NDArray[np.floating[Any]]


class MLP:
    """Linear layers with leaky ReLUs between them.

    `sizes` are the widths from input to output; a hidden unit lets `leak` times its negative part through (0: a plain
    ReLU). Weights are drawn by He's rule, variance 2 / fan-in, under which signals neither grow nor fade from layer to
    layer; `seed` fixes them.
    """

    def __init__(self, sizes: list[int], seed: int, leak: float = 0.0, dtype: npt.DTypeLike = np.float32) -> None:
        rng = np.random.default_rng(seed)
        self.leak = leak
        self.weights: list[ol.Parameter] = []
        self.biases: list[ol.Parameter] = []
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            weight = rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out))
            self.weights.append(ol.Parameter(weight.astype(dtype), name=f"{i}.weight"))
            self.biases.append(ol.Parameter(np.zeros(fan_out, dtype), name=f"{i}.bias"))

    def parameters(self) -> list[ol.Parameter]:
        return self.weights + self.biases

    def forward(self, x: Array) -> Array:
        """The outputs, a row for each row of `x`; keeps each layer's input for `backward`."""
        self.inputs: list[Array] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if self.inputs:  # the last layer stays linear: its loss wants any real number
                x = np.maximum(x, self.leak * x)
            self.inputs.append(x)
            x = x @ weight + bias
        return x

    def backward(self, grad: Array) -> Array:
        """Takes dloss/doutput of the last `forward`, sets every parameter's `.grad`, returns dloss/dinput."""
        for i in reversed(range(len(self.weights))):
            self.weights[i].grad = self.inputs[i].T @ grad
            self.biases[i].grad = grad.sum(axis=0)
            grad = grad @ self.weights[i].T
            if i > 0:  # a leaky ReLU keeps the sign, so its output tells its slope
                grad = np.where(self.inputs[i] > 0, grad, self.leak * grad)
        return grad


def softmax_cross_entropy(logits: Array, labels: npt.NDArray[np.integer[Any]]) -> tuple[float, Array]:
    """The mean over the rows of -log softmax(logits)[label], and its gradient, (softmax - one-hot) / rows."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)  # changes no softmax, and exp cannot overflow
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(sums[:, 0]) - shifted[rows, labels])
    grad = exps / sums
    grad[rows, labels] -= 1
    return float(loss), grad / len(labels)
