# The digits again, with HIPS autograd: write the loss, let autograd find the gradient and optimlite take the step.
from __future__ import annotations

import os
import sys
from itertools import pairwise
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrix products: waking threads costs more than these do
import numpy as np

import optimlite as ol

try:
    import autograd.numpy as anp
    from autograd import value_and_grad
    from sklearn.datasets import load_digits
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install scikit-learn autograd")

Layers = list[tuple[Any, Any]]  # [(W, b), (W, b), ...]: bare arrays


def init(sizes: list[int], rng: np.random.Generator) -> Layers:
    layers: Layers = []
    for fan_in, fan_out in pairwise(sizes):
        W = rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)).astype(np.float32)
        layers.append((W, np.zeros(fan_out, np.float32)))
    return layers


def predict(layers: Layers, x: Any) -> Any:
    for W, b in layers[:-1]:
        x = anp.maximum(x @ W + b, 0)
    W, b = layers[-1]
    return x @ W + b


def cross_entropy(layers: Layers, x: Any, labels: Any) -> Any:
    logits = predict(layers, x)
    logits = logits - anp.max(logits, axis=1, keepdims=True)  # exp cannot overflow
    log_likelihood = logits[anp.arange(len(labels)), labels] - anp.log(anp.sum(anp.exp(logits), axis=1))
    return -anp.mean(log_likelihood)


def main() -> int:
    quick = "--quick" in sys.argv[1:]
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))
    train, test = order[:-360], order[-360:]

    layers = init([64, 128, 10], rng)
    opt = ol.Adam(layers, lr=3e-3)  # shares the arrays' memory: a step changes `layers` itself
    loss_and_gradients = value_and_grad(cross_entropy)  # gradients in the nesting of `layers`, which `step` understands
    for _ in range(10 if quick else 30):
        for batch in np.array_split(rng.permutation(train), 20):
            loss, gradients = loss_and_gradients(layers, images[batch], labels[batch])
            opt.step(grads=gradients)

    accuracy = np.mean(predict(layers, images[test]).argmax(axis=1) == labels[test])
    print(f"loss {loss:.3f}, test accuracy {accuracy:.2%}, {opt.state['0.0']['step']} steps of Adam")
    return 0 if accuracy > 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
