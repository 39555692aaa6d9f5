"""State in 32, 16 and 8 bits: the bytes of a parameter, and the loss of a network on handwritten digits.

    python examples/fewer_bytes.py [folder, examples/output unless given]

The curves are of test images, after each epoch, medians of five seeds with the range of all.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

import optimlite as ol

try:
    import matplotlib
    from sklearn.datasets import load_digits
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install scikit-learn matplotlib")

Arrays = dict[str, np.ndarray]
FORMATS = {None: "float32", "bfloat16": "bfloat16", "int8": "int8"}
LOOKS = [("#0b6e69", "-"), ("#d9822b", "--"), ("#7a4fa3", ":")]
EPOCHS, BATCH, SEEDS = 15, 64, 5


def network(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {"W1": (rng.standard_normal((64, 256)) / 8).astype(np.float32), "b1": np.zeros(256, np.float32),
            "W2": (rng.standard_normal((256, 10)) / 16).astype(np.float32), "b2": np.zeros(10, np.float32)}


def loss_and_grads(model: Arrays, x: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays]:
    """The cross-entropy."""
    hidden = np.maximum(x @ model["W1"] + model["b1"], 0)
    scores = hidden @ model["W2"] + model["b2"]
    scores -= scores.max(axis=1, keepdims=True)
    chances = np.exp(scores)
    chances /= chances.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -float(np.log(chances[rows, labels] + 1e-30).mean())
    chances[rows, labels] -= 1
    chances /= np.float32(len(labels))
    back = (chances @ model["W2"].T) * (hidden > 0)
    return loss, {"W1": x.T @ back, "b1": back.sum(axis=0), "W2": hidden.T @ chances, "b2": chances.sum(axis=0)}


def curve(state_dtype: str | None, seed: int) -> list[float]:
    """The loss on the test images after each epoch."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    test = np.arange(len(images)) % 5 == 0
    model, rng = network(seed), np.random.default_rng(100 + seed)
    opt = ol.AdamW(model, lr=2e-3, state_dtype=state_dtype, seed=seed)
    losses = []
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(np.flatnonzero(~test)), -(-(~test).sum() // BATCH)):
            opt.step(grads=loss_and_grads(model, images[batch], labels[batch])[1])
        losses.append(loss_and_grads(model, images[test], labels[test])[0])
    return losses


def bytes_of(state_dtype: str | None) -> float:
    """AdamW's state for each element of a large tensor."""
    w = np.zeros(1 << 20, np.float32)
    opt = ol.AdamW([w], state_dtype=state_dtype)
    opt.step(grads=[w])
    return sum(array.nbytes for array in opt.state[w].values() if array.ndim) / w.size


def main() -> None:
    from matplotlib import pyplot

    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "examples/output")
    folder.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained", width_ratios=[1, 1.6])
    for row, ((state_dtype, name), (colour, style)) in enumerate(zip(FORMATS.items(), LOOKS, strict=True)):
        state = bytes_of(state_dtype)
        left.barh(row, 8, color="#c9ced6", label="parameter and gradient, float32" if row == 0 else None)
        left.barh(row, state, left=8, color=colour)
        left.text(8 + state + 0.3, row, f"state {state:.3g}", va="center")
        losses = np.array([curve(state_dtype, seed) for seed in range(SEEDS)])
        epochs = np.arange(1, EPOCHS + 1)
        right.fill_between(epochs, losses.min(axis=0), losses.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        right.plot(epochs, np.median(losses, axis=0), style, color=colour, label=name)
        print(f"{name:9} {state:5.3g} bytes of state an element, test loss {np.median(losses[:, -1]):.3f} "
              f"({losses[:, -1].min():.3f} to {losses[:, -1].max():.3f})")
    left.set(yticks=range(3), yticklabels=FORMATS.values(), xlabel="bytes for each element", xlim=(0, 20),
             ylim=(3.2, -0.6), title="AdamW: memory")
    left.legend(loc="lower right", fontsize=8)
    right.set(xlabel="epochs", ylabel="cross-entropy, test images", yscale="log",
              title="Handwritten digits, five seeds")
    right.legend(title="state")
    figure.savefig(folder / "fewer_bytes.png", dpi=110)


if __name__ == "__main__":
    matplotlib.use("Agg")
    main()
