"""Averages against torch's AveragedModel, live."""

from __future__ import annotations

import numpy as np
import pytest

import optimlite as ol

torch = pytest.importorskip("torch")
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn  # noqa: E402


@pytest.mark.parametrize("decay", [None, 0.9, 0.999])
def test_averages_are_torchs(decay: float | None) -> None:
    model = torch.nn.Linear(5, 4).double()
    theirs = AveragedModel(model, multi_avg_fn=None if decay is None else get_ema_multi_avg_fn(decay))
    params = [p.detach().numpy() for p in model.parameters()]      # the same memory
    ours = ol.Average(params, decay)
    rng = np.random.default_rng(0)
    for _ in range(50):
        for p in params:
            p += rng.standard_normal(p.shape)
        theirs.update_parameters(model)
        ours.update()
        for a, b in zip(ours.averages, theirs.module.parameters(), strict=True):
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-12, atol=1e-13)
