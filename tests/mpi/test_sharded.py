"""Sharded optimizers have the bits of one process with all gradients: every optimizer and format, 1 to 4 ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import CASES, Case
from support.ranks import alone, same_bits, spread

FIRST = list({case.optimizer: case for case in reversed(CASES)}.values())


def formats(case: Case) -> list[str | None]:
    """None, and the formats that the optimizer takes with these options."""
    def takes(form: str | None) -> bool:
        try:
            case.optimizer([np.ones(case.fit(3))], **case.options, state_dtype=form)     # type: ignore[call-arg]
        except (TypeError, ValueError):
            return False
        return True

    return [None, *filter(takes, ("bfloat16", "int8"))]


def agrees(case: Case, form: str | None, ranks: int) -> None:
    def make(params: Any) -> ol.Optimizer:
        return case.optimizer(params, **case.options, **({"state_dtype": form, "seed": 5} if form else {}))

    def fit(shape: tuple[int, ...]) -> tuple[int, ...]:
        return case.fit(tuple(min(n, 30) for n in shape) if case.whole else shape)       # iterations over matrices

    steps = 3
    expected, _ = alone(make, ranks, steps, fit, max_grad_norm=40.0, max_grad_value=0.3)
    for params, optimizer in spread(make, ranks, steps, fit, max_grad_norm=40.0, max_grad_value=0.3):
        assert same_bits(params, expected)
        assert optimizer.steps_taken == steps


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.id)
def test_ranks_have_the_bits_of_one_process(case: Case) -> None:
    agrees(case, formats(case)[-1], 3)


@pytest.mark.parametrize("case", [case for case in FIRST if case.optimizer in (ol.SGD, ol.Adam, ol.LAMB, ol.Muon)],
                         ids=lambda case: case.id)
def test_one_rank_has_the_bits_of_none(case: Case) -> None:
    agrees(case, None, 1)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize(("case", "form"), [(case, form) for case in CASES for form in formats(case)],
                         ids=lambda value: value.id if isinstance(value, Case) else str(value))
def test_every_optimizer_and_format_on_any_number_of_ranks(case: Case, form: str | None, ranks: int) -> None:
    agrees(case, form, ranks)
