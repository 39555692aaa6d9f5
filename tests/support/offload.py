"""State in files: buckets and files small enough for little models, and a training."""

from __future__ import annotations

from typing import Any

import pytest

import optimlite as ol
from optimlite.engine import offload, streaming

from .ranks import Params, summed


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets of one block, and files for what is larger than a page, so that little models have many of both."""
    monkeypatch.setattr(streaming, "CHUNK", 16_384)
    monkeypatch.setattr(offload, "LEAST", 4096)


def train(optimizer: ol.Optimizer, params: Params, steps: Any = range(4), **options: Any) -> ol.Optimizer:
    for step in steps:
        optimizer.step(grads=summed(params, 1, step), **options)
        optimizer.param_groups[0]["lr"] *= 0.5
    return optimizer
