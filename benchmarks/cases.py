"""What is benchmarked, as data: shapes, optimizers, the targets. A new benchmark of a step is a row here."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Shapes = tuple[tuple[int, ...], ...]

MODELS: dict[str, Shapes] = {
    name: tuple(tuple(shape) for shape in tensors.values())
    for name, tensors in json.loads((Path(__file__).parent / "model_shapes.json").read_text()).items()
}


@dataclass(frozen=True)
class Case:
    """The parameters of a model. `rounds` of measurement: fewer where a step takes long."""

    name: str
    shapes: Shapes
    rounds: int = 31
    quick: int = 5                       # rounds with --quick; 0 leaves the case out
    gradients: tuple[str, ...] = ("persistent", "fresh")

    @property
    def elements(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)


@dataclass(frozen=True)
class Work:
    """An optimizer and its arguments, which torch and optimlite share; `states` arrays of the parameter's size."""

    name: str
    optimizer: str
    states: int
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes_per_element(self) -> int:
        """What a float32 step must move: p and the states are read and written, g is read."""
        return 4 * (3 + 2 * self.states)


# With steps of 10 ms and more, assigning the gradients is not to be seen: those cases have persistent ones only.
CASES = (
    Case("500 x 32", ((32,),) * 500),
    Case("200 x 1,000", ((1000,),) * 200),
    Case("MLP", MODELS["mlp-mnist"]),
    Case("1 M", ((1_000_000,),)),
    Case("ResNet-50", MODELS["resnet50"], rounds=15, quick=3, gradients=("persistent",)),
    Case("50 M", ((50_000_000,),), rounds=11, quick=0, gradients=("persistent",)),
    Case("GPT-2", MODELS["gpt2-small"], rounds=11, quick=0, gradients=("persistent",)),
)

WORKS = (
    Work("SGD", "SGD", 0, {"lr": 1e-3}),
    Work("SGD momentum", "SGD", 1, {"lr": 1e-3, "momentum": 0.9}),
    Work("Adam", "Adam", 2, {"lr": 1e-3}),
    Work("AdamW", "AdamW", 2, {"lr": 1e-3, "weight_decay": 1e-2}),
)


@dataclass(frozen=True)
class Target:
    """In the step row of Adam that is named, `over` must take at least `ratio` times as long as `optimlite`."""

    case: str
    gradients: str
    over: str
    ratio: float


TARGETS = (
    Target("500 x 32", "persistent", "torch fused", 100),
    Target("500 x 32", "persistent", "NumPy in-place", 150),
    Target("500 x 32", "fresh", "torch fused", 15),
    Target("200 x 1,000", "persistent", "torch fused", 15),
    Target("200 x 1,000", "persistent", "NumPy in-place", 25),
    Target("MLP", "persistent", "torch fused", 2),
    Target("MLP", "persistent", "NumPy in-place", 4),
    Target("1 M", "persistent", "torch fused", 1.4),
    Target("1 M", "persistent", "NumPy in-place", 6),
    *(Target(case, "persistent", over, ratio) for case in ("ResNet-50", "GPT-2", "50 M")
      for over, ratio in (("limit", 0.95), ("torch fused", 0.97), ("NumPy in-place", 3.5))),
)

# Costs in seconds: the name of a figure of overhead.py, and what it may be at most.
CEILINGS = (
    ("one more tensor, persistent gradients", 0.015e-6),
    ("one more tensor, fresh gradients", 0.25e-6),
    ("a step on one tiny tensor", 5e-6),
    ("import beyond numpy", 15e-3),
)
