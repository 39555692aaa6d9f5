"""Resume through a file is exact: for every optimizer with every option set, with every schedule of its own kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.cases import CASES, ONE_RATE, Case
from support.checkpoints import bits

SCHEDULERS = {
    name: getattr(ol.lr_scheduler, name) for name in dir(ol.lr_scheduler)
    if isinstance(getattr(ol.lr_scheduler, name), type) and issubclass(getattr(ol.lr_scheduler, name),
                                                                       ol.lr_scheduler.LRScheduler)}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "LambdaLR": {"lr_lambda": lambda t: 0.9**t}, "MultiplicativeLR": {"lr_lambda": lambda t: 0.95},
    "StepLR": {"step_size": 2, "gamma": 0.5}, "MultiStepLR": {"milestones": [2, 5], "gamma": 0.5},
    "ConstantLR": {"factor": 0.5, "total_iters": 5}, "LinearLR": {"total_iters": 7}, "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 9}, "CosineAnnealingLR": {"T_max": 6}, "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "cycle_momentum": False},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 20, "cycle_momentum": False},
    "SWALR": {"swa_lr": 0.02, "anneal_epochs": 5}, "ReduceLROnPlateau": {"patience": 1, "factor": 0.5},
    "WarmupCosineLR": {"warmup_steps": 3, "total_steps": 12},
    "WarmupStableDecayLR": {"warmup_steps": 3, "stable_steps": 3, "decay_steps": 4},
}


def scheduler(name: str, optimizer: ol.Optimizer) -> Any:
    make = ol.lr_scheduler
    if name == "SequentialLR":
        return make.SequentialLR(optimizer, [make.LinearLR(optimizer, 0.1, total_iters=3),
                                             make.ExponentialLR(optimizer, 0.9)], [3])
    if name == "ChainedScheduler":
        return make.ChainedScheduler([make.ConstantLR(optimizer, 0.3, 4), make.ExponentialLR(optimizer, 0.9)])
    return SCHEDULERS[name](optimizer, **ARGUMENTS[name])


class Run:
    """Two groups, one parameter frozen for a while, and a group that is added late."""

    def __init__(self, case: Case, name: str) -> None:
        random = np.random.default_rng(0)
        self.params = {key: random.random(case.fit(shape)).astype(dtype) for key, shape, dtype in (
            ("W", (4, 5), np.float32), ("b", (3,), np.float64), ("frozen", (2, 3), np.float32),
            ("late", (3,), np.float64))}
        groups = [{"params": {key: self.params[key]}} for key in ("W", "b")]
        groups[1]["params"]["frozen"] = self.params["frozen"]
        self.optimizer = case.optimizer(groups, **case.options)
        self.scheduler = scheduler(name, self.optimizer)
        self.count = 0

    def add_late_group(self) -> None:
        lr = 0.0 if isinstance(self.optimizer, ONE_RATE) else 0.01
        self.optimizer.add_param_group({"params": {"late": self.params["late"]}, "lr": lr})

    def steps(self, n: int) -> None:
        for _ in range(n):
            if self.count == 2:
                self.add_late_group()
            random = np.random.default_rng(self.count)
            grads = {key: random.standard_normal(self.params[key].shape).astype(self.params[key].dtype)
                     for key in ("W", "b", "frozen", "late")[:4 if self.count >= 2 else 3]}
            grads["frozen"] = None if self.count < 5 else grads["frozen"]         # type: ignore[assignment]
            self.optimizer.step(grads=grads)
            metric = [1.0] if isinstance(self.scheduler, ol.lr_scheduler.ReduceLROnPlateau) else []
            self.scheduler.step(*metric)
            self.count += 1

    def parts(self) -> dict[str, Any]:
        return {"model": self.params, "optimizer": self.optimizer, "scheduler": self.scheduler}


@pytest.mark.filterwarnings("ignore:.*came before optimizer.step")
@pytest.mark.parametrize(("case", "name"), [
    pytest.param(case, name, id=f"{case.id}-{name}") for case in CASES for name in sorted(set(SCHEDULERS))
    if name != "LRScheduler" and not (name == "SWALR" and case.optimizer in ONE_RATE)])  # which moves a rate of 0
def test_resume_is_exact(tmp_path: Path, case: Case, name: str) -> None:
    whole = Run(case, name)
    whole.steps(4)
    ol.save(tmp_path / "a", **whole.parts(), count=whole.count, fsync=False)
    whole.steps(4)
    again = Run(case, name)
    for array in again.params.values():
        array[...] = -1
    again.add_late_group()
    again.count = ol.restore(tmp_path / "a", **again.parts())["count"]
    again.steps(4)
    assert bits(again.parts()) == bits(whole.parts())
    assert all(again.params[key].tobytes() == whole.params[key].tobytes() for key in whole.params)
