"""Fuzzing of `load_state_dict`: what was saved, with pieces changed; or anything. `make fuzz` runs it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from frame import Source, done, image, np, ol, run

from support.helpers import PlainMomentum, gradient, model, parameters

KINDS: list[Callable[[Any], ol.Optimizer]] = [
    lambda p: ol.Adam(p, amsgrad=True), lambda p: ol.SGD(p, momentum=0.9), ol.NAdam, ol.RAdam, ol.ASGD, ol.Rprop,
    ol.Adadelta, ol.Adagrad, lambda p: ol.RMSprop(p, momentum=0.5, centered=True), ol.Adamax, ol.Adafactor,
    lambda p: ol.Muon([p["W"], p["V"]]), ol.LBFGS, ol.ConjugateGradient, ol.SparseAdam, PlainMomentum,
    lambda p: ol.AdamW([{"params": [p["W"], p["t"]], "lr": 0.1}, {"params": [p["b"]], "name": "head"}])]


def made(kind: int) -> ol.Optimizer:
    """An optimizer after two steps."""
    optimizer = KINDS[kind](model() | {"V": np.ones((4, 2), np.float32)})
    for step in range(2):
        assign(optimizer, step)
        optimizer.step(closure(optimizer))
    return optimizer


def assign(optimizer: ol.Optimizer, step: int) -> None:
    for index, p in enumerate(parameters(optimizer)):
        p.grad = gradient(step, index, p)
        if isinstance(optimizer, ol.SparseAdam):
            p.grad = ol.SparseGrad([0], p.grad[:1]) if p.ndim else None


def closure(optimizer: ol.Optimizer) -> Callable[[], float] | None:
    return (lambda: 1.0) if isinstance(optimizer, (ol.LBFGS, ol.ConjugateGradient)) else None


SAVED = [made(kind).state_dict() for kind in range(len(KINDS))]
LIVE = [made(kind) for kind in range(len(KINDS))]


def one(data: bytes) -> None:
    source = Source(data)
    kind = source.below(len(KINDS))
    other = source.below(len(KINDS)) if source.below(8) == 7 else kind
    given = copy.deepcopy(SAVED[other])
    for _ in range(1 + source.below(3)):
        given = source.altered(given)
    optimizer = LIVE[kind]
    before, strict = image(given), bool(source.below(3))
    loaded = done(lambda: optimizer.load_state_dict(given, strict), lambda: image(optimizer))
    if image(given) != before:
        raise RuntimeError("load_state_dict changed what it was given")
    if loaded:
        LIVE[kind] = made(kind)
        saved = optimizer.state_dict()
        optimizer.load_state_dict(saved)         # what it saves, it loads
        if image(saved) != image(optimizer.state_dict()):
            raise RuntimeError("a state dict that was loaded is another one when saved again")
        assign(optimizer, 2)
        if not isinstance(optimizer, PlainMomentum):             # which doesn't look what its state is
            done(lambda: optimizer.step(closure(optimizer)), lambda: image(optimizer))


if __name__ == "__main__":
    run(one)
