"""Four problems that take seconds, with gradients by hand.

A problem is made from a seed, which draws its start, its batches, and the noise where there is any.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from images import Array, Arrays, cross_entropy, images, loss_and_grads, network

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
CONTEXT, EMBEDDED, HIDDEN = 6, 48, 128
SIZE, BLUR, NOISE, EDGES = 256, 2.0, 0.01, 0.003


class Problem(NamedTuple):
    start: Arrays
    steps: int
    lr: float
    batch: Callable[[], Any]                                         # the next one
    loss_and_grads: Callable[[Arrays, Any], tuple[float, Arrays]]    # of a batch
    judge: Callable[[Arrays], float]                                 # less is better


def learning_images(kind: str, hidden: int, epochs: int, seed: int) -> Problem:
    """A perceptron; the cross-entropy of the fifth of the images that it hasn't learnt from."""
    x, labels = images(kind)
    rng, test = np.random.default_rng(100 + seed), np.arange(len(x)) % 5 == 0
    learnt = np.flatnonzero(~test)

    def on_images(model: Arrays, batch: Array) -> tuple[float, Arrays]:
        return loss_and_grads(model, x[batch], labels[batch])

    return Problem(network(x.shape[1], hidden, seed), epochs * len(learnt) // 64, 2e-3,
                   lambda: rng.choice(learnt, 64, replace=False), on_images,
                   lambda model: on_images(model, np.flatnonzero(test))[0])


@cache
def text() -> Array:
    """The pages of this documentation, as places in CHARACTERS; others are blanks."""
    pages = sorted((Path(__file__).parents[1] / "docs").rglob("*.md"))
    if not pages:
        raise FileNotFoundError("the character model learns from docs/*.md, which aren't there; run it in a clone")
    places = np.full(0x110000, CHARACTERS.index(" "))
    places[[ord(c) for c in CHARACTERS]] = np.arange(len(CHARACTERS))
    whole = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return places[np.array([ord(c) for c in whole])]


def characters(seed: int) -> Problem:
    """The next character from the last six; the cross-entropy, in nats, on every tenth piece of 2,000 characters."""
    places, rng = text(), np.random.default_rng(seed)
    at = np.arange(CONTEXT, len(places))
    test = at // 2000 % 10 == 0
    known, others = at[~test], at[test][::3]
    before = np.arange(-CONTEXT, 0)
    rows = {"E": (len(CHARACTERS), EMBEDDED, 1), "W1": (CONTEXT * EMBEDDED, HIDDEN, CONTEXT * EMBEDDED / 2),
            "W2": (HIDDEN, len(CHARACTERS), HIDDEN)}
    start = {key: rng.normal(0, size**-0.5, (n, m)).astype(np.float32) for key, (n, m, size) in rows.items()}
    start |= {"b1": np.zeros(HIDDEN, np.float32), "b2": np.zeros(len(CHARACTERS), np.float32)}

    def on_characters(model: Arrays, at: Array) -> tuple[float, Arrays]:
        window = places[at[:, None] + before]
        inputs = model["E"][window].reshape(len(at), -1)
        hidden = np.maximum(inputs @ model["W1"] + model["b1"], 0)
        loss, back = cross_entropy(hidden @ model["W2"] + model["b2"], places[at])
        inner = (back @ model["W2"].T) * (hidden > 0)
        chosen = np.eye(len(CHARACTERS), dtype=inner.dtype)[window.ravel()]
        return loss, {"E": chosen.T @ (inner @ model["W1"].T).reshape(-1, EMBEDDED), "W1": inputs.T @ inner,
                      "b1": inner.sum(axis=0), "W2": hidden.T @ back, "b2": back.sum(axis=0)}

    return Problem(start, 1000, 3e-3, lambda: rng.choice(known, 128), on_characters,
                   lambda model: on_characters(model, others)[0])


def picture() -> Array:
    """Discs and bars on a slope."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    image = 0.2 + 0.2 * x
    image[(x - 0.35) ** 2 + (y - 0.4) ** 2 < 0.04] = 0.9
    image[(x - 0.7) ** 2 + (y - 0.3) ** 2 < 0.01] = 0.05
    image[(y > 0.7) & (y < 0.9) & (np.floor(x * 32) % 3 == 0)] = 0.8
    return np.asarray(image, np.float32)


def deblurring(seed: int) -> Problem:
    """The unknowns are 256 x 256 pixels; the relative error of what is found."""
    truth, waves = picture(), np.fft.fftfreq(SIZE)
    squares = waves[:, None] ** 2 + waves[:SIZE // 2 + 1] ** 2
    gauss = np.exp(-2 * (np.pi * BLUR) ** 2 * squares).astype(np.float32)

    def blurred(image: Array) -> Array:
        return np.fft.irfft2(np.fft.rfft2(image) * gauss, image.shape)

    data = blurred(truth) + np.float32(NOISE) * np.random.default_rng(seed).standard_normal(truth.shape, np.float32)

    def on_data(model: Arrays, batch: None) -> tuple[float, Arrays]:
        """|blurred - data|^2 / 2, and EDGES times the sum of sqrt(d^2 + 0.01^2) over differences d of neighbours."""
        image = model["image"]
        rest = blurred(image) - data
        loss, grad = float(np.vdot(rest, rest)) / 2, blurred(rest)
        for axis in (0, 1):
            d = np.roll(image, -1, axis) - image
            size = np.sqrt(d * d + np.float32(1e-4))
            pull = EDGES * d / size
            loss += EDGES * float(size.sum())
            grad += np.roll(pull, 1, axis) - pull
        return loss, {"image": grad}

    def judge(model: Arrays) -> float:
        return float(np.linalg.norm(model["image"] - truth) / np.linalg.norm(truth))

    return Problem({"image": data.copy()}, 200, 2e-2, lambda: None, on_data, judge)


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "digits": partial(learning_images, "digits", 128, 15), "MNIST": partial(learning_images, "MNIST", 64, 6),
    "characters": characters, "deblurring": deblurring,
}
