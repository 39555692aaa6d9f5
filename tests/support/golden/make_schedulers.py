"""Makes schedulers.npz from PyTorch 2.13.0: `python tests/support/golden/make_schedulers.py`."""

from __future__ import annotations

import pathlib
import sys
import types
import warnings
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from support.scheduler_cases import CASES, RATES, Case, trajectory  # noqa: E402


def torch_schedulers() -> types.SimpleNamespace:
    """torch's schedulers under one name."""
    from torch.optim import lr_scheduler, swa_utils

    return types.SimpleNamespace(**vars(lr_scheduler), SWALR=swa_utils.SWALR)


def torch_optimizer(case: Case, groups: int = 2) -> Any:
    import torch

    params = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in RATES[:groups]]
    return torch.optim.Adam(params) if case.optimizer == "Adam" else torch.optim.SGD(params, momentum=0.9)


def closed_form(case: Case) -> list[list[float]] | None:
    """What torch's closed form says at every count, where it has one."""
    scheduler, *others = case.schedulers(torch_schedulers(), torch_optimizer(case))
    if others or not hasattr(scheduler, "_get_closed_form_lr"):
        return None
    rows = []
    for t in range(case.steps + 1):
        scheduler.last_epoch = t
        rows.append(scheduler._get_closed_form_lr())
    return rows


def main() -> None:
    import torch

    if not torch.__version__.startswith("2.13.0"):
        sys.exit(f"the golden files are PyTorch 2.13.0's, this is {torch.__version__}")
    warnings.simplefilter("ignore")
    arrays = {}
    for case in CASES:
        if case.in_torch:
            for by_hand in (False, True):
                rows = trajectory(case, torch_schedulers(), torch_optimizer(case), by_hand)
                arrays[f"{case.name}{'/by_hand' * by_hand}"] = np.array(rows)
            if (rows := closed_form(case)) is not None:
                arrays[f"{case.name}/closed"] = np.array(rows)
    np.savez_compressed(HERE / "schedulers.npz", **arrays)


if __name__ == "__main__":
    main()
