"""Every schedule against the PyTorch that is installed: pytest tests/parity."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

from optimlite import lr_scheduler as ls
from support import paths
from support.golden.make_schedulers import closed_form, torch_optimizer, torch_schedulers
from support.scheduler_cases import CASES, CLOSED, RECURSIVE, optimizer, trajectory

pytest.importorskip("torch")
IN_TORCH = [case for case in CASES if case.in_torch]
GOLDEN = np.load(paths.GOLDEN / "schedulers.npz")
SINGLE = [case for case in IN_TORCH if f"{case.name}/closed" in GOLDEN]


@pytest.mark.parametrize("case", IN_TORCH, ids=[case.name for case in IN_TORCH])
@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_steps_as_torch(case, by_hand, groups):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = trajectory(case, torch_schedulers(), torch_optimizer(case, groups), by_hand)
    rows = trajectory(case, ls, optimizer(case, groups), by_hand)
    np.testing.assert_allclose(rows, expected, rtol=RECURSIVE if by_hand else case.tolerance, atol=1e-18)


@pytest.mark.parametrize("case", SINGLE, ids=[case.name for case in SINGLE])
def test_at_as_torchs_closed_form(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = closed_form(case)
    [scheduler] = case.schedulers(ls, optimizer(case))
    np.testing.assert_allclose([scheduler.at(t) for t in range(case.steps + 1)], expected, rtol=CLOSED, atol=0)


@pytest.mark.parametrize("name", [name for name in ls.__all__ if hasattr(torch_schedulers(), name)])
def test_arguments_and_defaults_as_torch(name):
    def arguments(scheduler):
        parameters = inspect.signature(scheduler).parameters.values()
        return [(p.name, p.default) for p in parameters if p.kind is not p.KEYWORD_ONLY]

    assert arguments(getattr(ls, name)) == arguments(getattr(torch_schedulers(), name))
