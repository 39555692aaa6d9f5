"""What the tests of behaviour share: small models, schedules, gradients, snapshots of all bytes, messages, scripts."""

from __future__ import annotations

import doctest
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol

PATIENCE = float(os.environ.get("OPTIMLITE_TEST_PATIENCE", "1"))      # sanitizers are slow
SHAPES = {"W": (3, 4), "b": (5,), "t": ()}
THREADS = [1, 2, 5]
# Every schedule that is a function of the count and no composition, with arguments.
SCHEDULES: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 3}, "MultiStepLR": {"milestones": [2]}, "ConstantLR": {}, "LinearLR": {},
    "ExponentialLR": {"gamma": 0.5}, "PolynomialLR": {}, "CosineAnnealingLR": {"T_max": 4},
    "CosineAnnealingWarmRestarts": {"T_0": 4}, "LambdaLR": {"lr_lambda": lambda t: 1 / (t + 1)},
    "MultiplicativeLR": {"lr_lambda": lambda t: 0.5}, "SWALR": {"swa_lr": 0.01},
    "WarmupCosineLR": {"warmup_steps": 2, "total_steps": 6, "start_factor": 0.5},
    "WarmupStableDecayLR": {"warmup_steps": 2, "stable_steps": 2, "decay_steps": 3, "start_factor": 0.5},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 0.2, "cycle_momentum": False},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 9, "cycle_momentum": False}}


def label(value: Any) -> str:
    """The name of a test by what it is given: the same in every process, which an address in memory isn't."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def dogs_average(params: Any) -> ol.Average:
    """The average by which DoG's docstring advises to evaluate it."""
    found = re.search(r"`(ol\.Average\(params, function=.*?\)\))`", " ".join((ol.DoG.__doc__ or "").split()))
    assert found
    average: ol.Average = eval(found[1], {"ol": ol, "params": params})
    return average


def model(dtype: Any = np.float32, order: Any = "C", axes: int = 0) -> dict[str, np.ndarray]:
    """Named arrays of every kind that matters: two axes, one, none; or each of at least so many axes."""
    rng = np.random.default_rng(0)
    return {name: np.array(rng.standard_normal(shape + (1,) * (axes - len(shape))), dtype, order=order)
            for name, shape in SHAPES.items()}


def zeros(size: int = 2) -> np.ndarray:
    return np.zeros(size, np.float32)


def ones(size: int = 2) -> np.ndarray:
    return np.ones(size, np.float32)


def parameters(optimizer: ol.Optimizer) -> list[ol.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def random(rng: np.random.Generator, size: Any, dtype: Any) -> np.ndarray:
    return rng.standard_normal(size).astype(dtype)


def gradient(step: int, index: int, like: Any) -> np.ndarray:
    return np.array(np.random.default_rng([step, index]).standard_normal(like.shape), like.dtype)


def pair() -> tuple[ol.Parameter, ol.Parameter, ol.SGD]:
    W, b = ol.Parameter(zeros(), "W"), ol.Parameter(zeros(), "b")
    return W, b, ol.SGD([W, b], lr=1)


def train(optimizer: ol.Optimizer, steps: Iterable[int]) -> ol.Optimizer:
    """Steps with gradients that depend on the number of the step alone; each parameter sits out every fourth step."""
    for step in steps:
        for index, parameter in enumerate(parameters(optimizer)):
            parameter.grad = gradient(step, index, parameter) if (step + index) % 4 else None
        optimizer.step()
    return optimizer


def content(array: np.ndarray | ol.SparseGrad | None) -> Any:
    if isinstance(array, ol.SparseGrad):
        return content(array.indices), content(array.values)
    return None if array is None else (array.dtype.str, array.shape, array.tobytes())


def values(optimizer: ol.Optimizer) -> list[Any]:
    """What training changes: the bits of every parameter and of its state."""
    return [(content(p.data), {key: content(array) for key, array in optimizer.state[p].items()})
            for p in parameters(optimizer)]


def text(value: Any) -> str:
    """Its `repr`, which fails for some record arrays."""
    try:
        return repr(value)
    except SystemError:
        return str(pickle.dumps(value))


def snapshot(optimizer: ol.Optimizer) -> Any:
    """Everything that a refusal must leave as it was."""
    groups = [{key: text(value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return (values(optimizer), [(id(p), id(p.grad), content(p.grad)) for p in parameters(optimizer)], groups,
            dict(optimizer.defaults), optimizer.steps_taken)


def sgd(*rates: float, **options: Any) -> ol.SGD:
    """A group for every rate; schedulers take it to have stepped."""
    optimizer = ol.SGD([{"params": [ol.Parameter(np.ones(2))], "lr": lr} for lr in rates or (0.1,)], **options)
    optimizer.steps_taken = 1
    return optimizer


def rates(optimizer: ol.Optimizer, key: str = "lr") -> list[float]:
    return [group[key] for group in optimizer.param_groups]


def stepped(scheduler: ol.lr_scheduler.LRScheduler, steps: int = 1) -> ol.lr_scheduler.LRScheduler:
    for _ in range(steps):
        scheduler.step()
    return scheduler


def whole_messages(rows: list[tuple[Any, type[Exception], str]]) -> pytest.MarkDecorator:
    """A test for every row: what is refused, the error, and its whole message."""
    return pytest.mark.parametrize(("act", "error", "message"), rows, ids=[message[:60] for _, _, message in rows])


Refusals = Mapping[str, tuple[Callable[[], Any], str]] | Sequence[tuple[Callable[[], Any], str]]


def refusals(rows: Refusals, errors: tuple[type[Exception], ...] = (TypeError, ValueError)) -> Any:
    """A test for every row: what is refused, and a pattern in the message."""
    named = isinstance(rows, Mapping)

    @pytest.mark.parametrize(("act", "message"), rows.values() if named else rows,
                             ids=rows if named else [message[:60] for _, message in rows])
    def test(act: Callable[[], Any], message: str) -> None:
        with pytest.raises(errors, match=message):
            act()

    return test


def refusal(act: Callable[[], Any], error: type[Exception], message: str) -> Exception:
    """The error that this raises: its message is the given one and nothing else, and no cause hangs on it."""
    with pytest.raises(error) as caught:
        act()
    assert caught.value.args == (message,), caught.value.args
    assert caught.value.__cause__ is None
    return caught.value


def differences(loss: Callable[[], float], array: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """The gradient by central differences."""
    measured = np.empty_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + h
        above = loss()
        array[index] = kept - h
        measured[index] = (above - loss()) / (2 * h)
        array[index] = kept
    return measured


def run_examples(thing: Any, **names: Any) -> int:
    """Runs the examples of a docstring, which must print what stands there; how many there are."""
    [test, *_] = doctest.DocTestFinder(recurse=False).find(thing, getattr(thing, "__name__", "thing"), globs=names)
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)
    return len(test.examples)


def run_python(code: str, *arguments: object, folder: Path | None = None, timeout: float = 60,
               **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a fresh interpreter, and in a folder of its own if one is given: what hangs fails."""
    if folder is not None:
        environment.setdefault("PYTHONPATH", str(Path(ol.__file__).parents[1]))
    return subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)], text=True,
                          capture_output=True, cwd=folder, timeout=timeout * PATIENCE,
                          env={**os.environ, **environment})


def output_of(code: str, *arguments: object, folder: Path | None = None, timeout: float = 60,
              **environment: str) -> str:
    done = run_python(code, *arguments, folder=folder, timeout=timeout, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class PlainMomentum(ol.Optimizer):
    """An optimizer as a user writes one: a NumPy rule, one array and one counter of state."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.5) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["average"] = np.zeros_like(p.data)
                state["step"] += 1
                state["average"] *= group["momentum"]
                state["average"] += p.grad
                p.data -= group["lr"] * state["average"]
        return loss


class Halting(ol.SGD):
    """SGD whose steps halt after binding the gradients, until they are let go: concurrency without chance."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.bound, self.go = threading.Event(), threading.Event()
        super().__init__(*args, **kwargs)

    def coefficients(self, *args: Any) -> dict[str, float]:
        self.bound.set()
        assert self.go.wait(20)
        return super().coefficients(*args)

    def begin(self) -> threading.Thread:
        """A thread that is in the middle of a step."""
        self.bound.clear()
        self.go.clear()
        thread = threading.Thread(target=self.step)
        thread.start()
        assert self.bound.wait(20)
        return thread

    def finish(self, thread: threading.Thread) -> None:
        self.go.set()
        thread.join(20)
        assert not thread.is_alive()
