# A tiny GAN learns eight Gaussians on a ring: two networks, two Adams, gradients by hand.
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrix products: waking threads costs more than these do
import numpy as np
from mlp import MLP, Array

import optimlite as ol

try:
    import matplotlib

    matplotlib.use("Agg")  # draws into files: no display needed
    import matplotlib.pyplot as plt
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install matplotlib")

MODES = np.array([[2 * np.cos(a), 2 * np.sin(a)] for a in np.arange(8) * np.pi / 4], np.float32)
SPREAD = 0.1  # the standard deviation of each Gaussian
BATCH = 256  # points
LATENT = 2  # the generator turns this many random numbers into a point

# The discriminator judges two points at a time. If the generator makes but a few of the modes, two of its points look
# alike more often than real ones do, which gives it away; judged one by one, it gets away with half of the modes.
# (PacGAN: Lin et al. 2018.)
PACK = 2


def sample_data(rng: np.random.Generator, count: int) -> Array:
    """Points of the mixture, shape (count, 2)."""
    centres = MODES[rng.integers(len(MODES), size=count)]
    return centres + np.float32(SPREAD) * rng.standard_normal((count, 2), dtype=np.float32)


def sample_latent(rng: np.random.Generator, count: int) -> Array:
    return rng.standard_normal((count, LATENT), dtype=np.float32)


def judge(D: MLP, points: Array) -> Array:
    """The discriminator's logits for packs of points: positive means real."""
    return D.forward(points.reshape(-1, 2 * PACK))


def cross_entropy(logits: Array, real: Array) -> tuple[float, Array]:
    """The mean of -log sigmoid(logit) where `real` is 1 and of -log(1 - sigmoid(logit)) where it is 0; its gradient."""
    loss = np.mean(np.logaddexp(0, logits) - real * logits)
    sigmoid = (1 + np.tanh(logits / 2)) / 2  # unlike 1 / (1 + exp(-x)), it overflows for no logit
    return float(loss), (sigmoid - real) / logits.size


def discriminator_backward(D: MLP, data: Array, fakes: Array) -> float:
    """Sets D's gradients, to tell data from fakes; returns D's loss."""
    logits = judge(D, np.concatenate([data, fakes]))
    real = np.zeros_like(logits)
    real[: len(logits) // 2] = 1
    loss, grad = cross_entropy(logits, real)
    D.backward(grad)
    return loss


def generator_backward(G: MLP, D: MLP, latent: Array) -> float:
    """Sets G's gradients, to make D take fakes for real; returns G's loss."""
    logits = judge(D, G.forward(latent))
    loss, grad = cross_entropy(logits, np.ones_like(logits))
    grad = D.backward(grad)  # through D to its input; D's own gradients are by-products, never stepped with
    G.backward(grad.reshape(-1, 2))
    return loss


def train(steps: int, seed: int) -> tuple[MLP, list[tuple[float, float]]]:
    rng = np.random.default_rng(seed)
    G = MLP([LATENT, 64, 64, 2], seed)
    D = MLP([2 * PACK, 64, 64, 1], seed + 1, leak=0.2)  # no dead units: G learns through D's slope
    # D learns twice as fast as G, which needs a judge ahead of itself. Little momentum: the target keeps moving.
    G_optimizer = ol.Adam(G.parameters(), lr=2e-3, betas=(0.5, 0.9))
    D_optimizer = ol.Adam(D.parameters(), lr=4e-3, betas=(0.5, 0.9))
    # Ever smaller steps let the chase of the two come to rest.
    schedulers = [ol.lr_scheduler.StepLR(opt, step_size=steps // 5, gamma=0.7) for opt in (G_optimizer, D_optimizer)]

    losses = []
    for _ in range(steps):
        D_optimizer.zero_grad()  # of the by-products too
        D_loss = discriminator_backward(D, sample_data(rng, BATCH), G.forward(sample_latent(rng, BATCH)))
        D_optimizer.step()

        G_optimizer.zero_grad()
        G_loss = generator_backward(G, D, sample_latent(rng, BATCH))
        G_optimizer.step()

        for scheduler in schedulers:
            scheduler.step()
        losses.append((G_loss, D_loss))
    return G, losses


def coverage(samples: Array) -> tuple[int, float]:
    """How many modes are covered, and the part of the samples within 3 standard deviations of a mode.

    A mode is covered if at least half of its fair share of the samples is that close to it.
    """
    distance = np.linalg.norm(samples[:, None] - MODES, axis=2)
    near = (distance < 3 * SPREAD).sum(axis=0)
    return int(np.sum(near >= 0.5 * len(samples) / len(MODES))), float(near.sum() / len(samples))


def draw(data: Array, samples: Array, losses: list[tuple[float, float]], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    left.scatter(*data.T, s=4, color="silver", label="data")
    left.scatter(*samples.T, s=4, color="tab:red", alpha=0.5, label="generator")
    left.set(title="what the generator learned", aspect="equal")
    left.legend(loc="center")
    window = max(1, len(losses) // 100)
    for name, loss in zip(("generator", "discriminator"), np.transpose(losses), strict=True):
        right.plot(np.convolve(loss, np.ones(window) / window, mode="valid"), label=name)
    right.axhline(np.log(2), color="gray", linestyle=":", label="ln 2: D can only guess")
    right.set(title=f"losses, mean of {window} steps", xlabel="step")
    right.legend()
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description="train a tiny GAN in NumPy with optimlite")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "output", help="folder for the picture")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    picture = args.out / "gan.png"

    G, losses = train(steps=1500 if args.quick else 4000, seed=args.seed)
    rng = np.random.default_rng(1)
    samples = G.forward(sample_latent(rng, 2000))
    covered, close = coverage(samples)
    print(f"{covered} of {len(MODES)} modes covered, {close:.0%} of the samples within 3 standard deviations of one")
    draw(sample_data(rng, 2000), samples, losses, picture)
    print(f"samples and losses drawn in {picture}")
    return 0 if covered == len(MODES) else 1


if __name__ == "__main__":
    sys.exit(main())
