# Logistic regression on real data to full convergence: L-BFGS, conjugate gradients, and Adam beside them.
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import optimlite as ol

try:
    import matplotlib

    matplotlib.use("Agg")  # draws into files: no display needed
    import matplotlib.pyplot as plt
    from sklearn.datasets import load_breast_cancer
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install scikit-learn matplotlib")

Array = np.ndarray
WEIGHT_DECAY = 1e-3
WANTED_GRADIENT = 1e-8


def load_tumours() -> tuple[Array, Array, Array, Array]:
    """scikit-learn's breast cancer data: 569 tumours, 30 measurements each, standardised; every fourth for the test."""
    features, benign = load_breast_cancer(return_X_y=True)
    test = np.arange(len(features)) % 4 == 0
    mean, std = features[~test].mean(axis=0), features[~test].std(axis=0)
    features = (features - mean) / std
    return features[~test], benign[~test].astype(np.float64), features[test], benign[test].astype(np.float64)


class LogisticRegression:
    """p(benign) = 1 / (1 + exp(-(x.W + b))), with weight decay on W."""

    def __init__(self, features: Array, labels: Array) -> None:
        self.features, self.labels = features, labels
        self.W, self.b = np.zeros(features.shape[1]), np.zeros(())
        self.history: list[float] = []  # the gradient's norm at each evaluation

    def __call__(self) -> tuple[float, dict[str, Array]]:
        """The closure: the loss and its gradients."""
        z = self.features @ self.W + self.b
        loss = np.logaddexp(0, z).mean() - (self.labels * z).mean() + WEIGHT_DECAY / 2 * self.W @ self.W
        error = (0.5 * (1 + np.tanh(z / 2)) - self.labels) / len(z)
        grads = {"W": self.features.T @ error + WEIGHT_DECAY * self.W, "b": error.sum()}
        self.history.append(max(abs(grads["W"]).max(), abs(grads["b"])))
        return float(loss), grads

    def accuracy(self, features: Array, labels: Array) -> float:
        return float(((features @ self.W + self.b > 0) == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    train_x, train_y, test_x, test_y = load_tumours()
    stops: dict[str, Any] = {"tolerance_grad": WANTED_GRADIENT, "tolerance_change": 0, "max_iter": 1000}
    runs: dict[str, Any] = {
        "L-BFGS": lambda p: ol.LBFGS(p, line_search_fn="nocedal_wright", history_size=10, **stops),
        "conjugate gradients": lambda p: ol.ConjugateGradient(p, **stops),
        "Adam, lr 0.1": lambda p: ol.Adam(p, lr=0.1),
    }
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, make in runs.items():
        model = LogisticRegression(train_x, train_y)
        optimizer = make({"W": model.W, "b": model.b})
        for _ in range(1000 if name.startswith("Adam") else 1):
            optimizer.step(model)  # one evaluation of Adam, a whole run of the others
        accuracy = model.accuracy(test_x, test_y)
        print(f"{name:20} {len(model.history):5} evaluations, max |gradient| {model.history[-1]:.1e}, "
              f"test accuracy {accuracy:.1%}")
        if not name.startswith("Adam"):
            print(f"{'':20} {optimizer.result.reason}")
            if not optimizer.result.converged:
                sys.exit(f"{name} should have converged")
        axes.semilogy(model.history, label=name)
    axes.axhline(WANTED_GRADIENT, color="grey", linestyle="dotted")
    axes.set(xlabel="evaluations of loss and gradient", ylabel="max |gradient|", xlim=(0, 500),
             title="Logistic regression, 30 measurements of 427 tumours")
    axes.legend()
    path = output / "logistic_regression.png"
    figure.savefig(path, dpi=120)
    print(f"drawn: {path}")


if __name__ == "__main__":
    main()
