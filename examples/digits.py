# The main job: a NumPy network learns handwritten digits, stops half-way, resumes, and ends on the same bits.
from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrix products: waking threads costs more than these do
import numpy as np
from mlp import MLP, Array, softmax_cross_entropy

import optimlite as ol
from optimlite.reference import step as numpy_step

try:
    import matplotlib

    matplotlib.use("Agg")  # draws into files: no display needed
    import matplotlib.pyplot as plt
    from sklearn.datasets import load_digits
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install scikit-learn matplotlib (and tqdm for a progress bar)")

BATCH = 64
WANTED_ACCURACY = 0.97
Labels = Any


def load_images() -> tuple[Array, Labels, Array, Labels]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels between 0 and 1, shuffled; the last 360 are for the test."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:-360], order[-360:]
    return images[train], labels[train], images[test], labels[test]


class Training:
    """A model, its optimizer and its schedule, and how to put all three into a file and back."""

    def __init__(self, seed: int, epochs: int) -> None:
        self.model = MLP([64, 256, 128, 10], seed)
        # Weight decay pulls towards zero: good for weights, pointless for biases, which may also learn faster.
        self.optimizer = ol.SGD(
            [
                {"params": self.model.weights, "weight_decay": 1e-3},
                {"params": self.model.biases, "lr": 0.2},
            ],
            lr=0.1,
            momentum=0.9,
        )
        self.scheduler = ol.lr_scheduler.WarmupCosineLR(
            self.optimizer, warmup_steps=2, total_steps=epochs, start_factor=0.1
        )
        self.epoch = 0

    def gradients(self, images: Array, labels: Labels) -> float:
        loss, grad = softmax_cross_entropy(self.model.forward(images), labels)
        self.model.backward(grad)
        return loss

    def train_epoch(self, images: Array, labels: Labels) -> float:
        """One pass over the images; returns the mean loss."""
        losses = []
        for batch, noise in shuffled(self.epoch, images.shape):
            self.optimizer.zero_grad()  # lets go of the last batch's gradients before new ones take memory
            losses.append(self.gradients(images[batch] + noise, labels[batch]))
            self.optimizer.step()  # once a batch
        self.scheduler.step()  # once an epoch
        self.epoch += 1
        return float(np.mean(losses))

    def save(self, path: Path) -> None:
        ol.save(path, **self.parts(), epoch=self.epoch)

    def restore(self, path: Path) -> None:
        self.epoch = ol.restore(path, **self.parts())["epoch"]  # arrays go into the memory that the optimizer knows

    def parts(self) -> dict[str, Any]:
        """What the rest of the run depends on: weights, momentum and hyper-parameters, the schedule's progress."""
        parameters = {p.name: p for p in self.model.parameters()}
        return {"parameters": parameters, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def bits(self) -> list[bytes]:
        """Everything that the rest of the run depends on, as bytes: equality means the same bits."""
        arrays = []
        for p in self.model.parameters():
            arrays += [p.data, *self.optimizer.state[p].values()]
        return [np.asarray(array).tobytes() for array in [*arrays, self.learning_rates()]]

    def learning_rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]


def shuffled(epoch: int, shape: tuple[int, ...]) -> Iterator[tuple[Any, Array]]:
    """Batches of indices, and noise to add to their pixels so that the network cannot learn images by heart.

    The random stream is a function of the epoch alone. So a resumed run sees the same batches as an uninterrupted one,
    and no generator has to go into the checkpoint.
    """
    rng = np.random.default_rng([1, epoch])
    order = rng.permutation(shape[0])
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        yield batch, 0.15 * rng.standard_normal((len(batch), *shape[1:]), dtype=np.float32)


def with_progress(epochs: range) -> Iterable[int]:
    """tqdm's bar where tqdm is installed; elsewhere the epochs as they are, and a line that says so."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"training for {len(epochs)} epochs (no progress bar: tqdm is not installed)")
        return epochs
    bar: Iterable[int] = tqdm(epochs, desc="training", unit="epoch")
    return bar


def draw(history: dict[str, list[Any]], resumed: dict[int, float], path: Path) -> None:
    epochs = range(1, len(history["train"]) + 1)
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, height_ratios=(2, 1), layout="constrained")
    above.plot(epochs, history["train"], color="tab:blue", label="training (noisy pixels)")
    above.plot(epochs, history["test"], color="tab:orange", label="test")
    above.plot(resumed.keys(), resumed.values(), "o", mfc="none", color="tab:blue", label="training, resumed run")
    above.set(ylabel="cross-entropy", yscale="log", title="handwritten digits, SGD with momentum")
    above.legend()
    below.step(epochs, history["lr"], where="mid", label=["weights", "biases"])
    below.set(ylabel="learning rate", xlabel="epoch", yscale="log")
    below.legend()
    for axis in (above, below):
        axis.axvline(min(resumed) - 0.5, color="gray", linestyle=":")  # the checkpoint
    figure.savefig(path, dpi=120)


def compare_step_times(images: Array, labels: Labels, steps: int) -> bool:
    """Prints the time spent in `step()` by optimlite and by pure NumPy; returns whether both computed the same bits.

    Two equal trainings take their steps in turn, on the same gradients, so that whatever else this computer is doing
    slows both alike.
    """
    ours, theirs = Training(seed=0, epochs=steps), Training(seed=0, epochs=steps)
    seconds: dict[str, list[float]] = {"optimlite": [], "pure NumPy": []}
    for i in range(steps):
        batch = np.arange(i * BATCH, (i + 1) * BATCH) % len(images)
        ours.gradients(images[batch], labels[batch])
        for p, twin in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
            twin.grad = p.grad
        contest = [
            ("optimlite", ours.optimizer.step),
            ("pure NumPy", lambda: numpy_step(theirs.optimizer)),
        ]
        for name, step in contest if i % 2 else reversed(contest):  # neither always comes first
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)

    same = ours.bits() == theirs.bits()
    print(f"\ntime in step(), this model, {steps} steps in turn, ending on {'the same' if same else 'OTHER'} bits")
    print("              median step    all steps")
    for name, times in seconds.items():
        print(f"  {name:<11} {1e6 * np.median(times):9.1f} µs {1e3 * sum(times):9.1f} ms")
    median = [np.median(times) for times in seconds.values()]
    total = [sum(times) for times in seconds.values()]
    print(f"  {'ratio':<11} {median[1] / median[0]:9.1f}    {total[1] / total[0]:9.1f}")
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description="train a NumPy network on handwritten digits with optimlite")
    parser.add_argument("--quick", action="store_true", help="fewer epochs and fewer timed steps")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "output", help="folder for what is written")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint, picture = args.out / "digits.safetensors", args.out / "digits.png"
    epochs, timed_steps = (12, 200) if args.quick else (30, 1000)
    train_images, train_labels, test_images, test_labels = load_images()

    history: dict[str, list[Any]] = {"train": [], "test": [], "lr": []}
    run = Training(seed=0, epochs=epochs)
    for epoch in with_progress(range(epochs)):
        if epoch == epochs // 2:
            run.save(checkpoint)
        history["lr"].append(run.learning_rates())
        history["train"].append(run.train_epoch(train_images, train_labels))
        test_logits = run.model.forward(test_images)
        history["test"].append(softmax_cross_entropy(test_logits, test_labels)[0])
    accuracy = np.mean(test_logits.argmax(axis=1) == test_labels)
    accurate = bool(accuracy >= WANTED_ACCURACY)
    print(f"test accuracy {accuracy:.2%}: {'at least' if accurate else 'LESS THAN'} {WANTED_ACCURACY:.0%}")

    second = Training(seed=99, epochs=epochs)  # other weights: whatever agrees in the end came from the file
    second.restore(checkpoint)
    resumed = {e + 1: second.train_epoch(train_images, train_labels) for e in range(second.epoch, epochs)}
    exact = second.bits() == run.bits()
    print(f"resumed from {checkpoint}: {'the same' if exact else 'OTHER'} bits as the uninterrupted run")

    draw(history, resumed, picture)
    print(f"loss and learning rate drawn in {picture}")
    same = compare_step_times(train_images, train_labels, timed_steps)
    return 0 if accurate and exact and same else 1


if __name__ == "__main__":
    sys.exit(main())
