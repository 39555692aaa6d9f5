"""Schedules of other hyper-parameters than the rate: the same values there, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler as ls
from support.helpers import rates
from support.rates import named, sgd, steps
from support.scheduler_cases import FUNCTIONS, RATES


@named([case for case in FUNCTIONS if not any(word in case.name for word in ("cycl", "sequential_in_sequential"))])
@pytest.mark.parametrize("key", ["weight_decay", "betas[0]", "eps"])
def test_pytorch_83159_any_hyper_parameter_can_be_scheduled(case, key, monkeypatch):
    """The same schedule on another number gives the same values there, and touches nothing else."""

    def adam(**values):
        groups = [{"params": [ol.Parameter(np.ones(2))], **{k: v[i] for k, v in values.items()}} for i in range(2)]
        for group in groups:
            group["params"][0].grad = np.ones(2)
        return ol.Adam(groups)

    class Keyed:
        def __getattr__(self, name):
            scheduler = getattr(ls, name)
            if name in ("SequentialLR", "ChainedScheduler"):
                return scheduler
            return lambda *args, **kwargs: scheduler(*args, **kwargs, key=key)

    on_lr = adam(lr=RATES)
    [expected] = case.schedulers(ls, on_lr)
    opt = adam(**({"betas": [(v, 0.99) for v in RATES]} if key == "betas[0]" else {key: RATES}))
    [scheduler] = case.schedulers(Keyed(), opt)
    for k in range(case.steps):
        for each in (on_lr, opt):
            each.step()
        case.step([expected], k)
        case.step([scheduler], k)
        values = [g["betas"][0] if key == "betas[0]" else g[key] for g in opt.param_groups]
        assert values == rates(on_lr) == scheduler.get_last_lr()
    assert rates(opt) == [1e-3, 1e-3]
    assert all(f"initial_{key}" in group and "initial_lr" not in group for group in opt.param_groups)
    if key == "betas[0]":
        assert all(group["betas"][1] == 0.99 for group in opt.param_groups)


@pytest.mark.parametrize("build", [
    lambda s, o, **k: s.CyclicLR(o, 0.01, 0.1, 5, cycle_momentum=False, **k),
    lambda s, o, **k: s.OneCycleLR(o, 0.1, 30, cycle_momentum=False, **k),
], ids=["cyclic", "onecycle"])
def test_cycles_of_any_hyper_parameter(build):
    opt, on_lr = sgd(0.1, weight_decay=0.5), sgd(0.1)
    assert steps(build(ls, opt, key="weight_decay"), 20) == steps(build(ls, on_lr), 20)
    with pytest.raises(ValueError, match="`cycle_momentum` must be False where `key` isn't 'lr'"):
        ls.OneCycleLR(opt, 0.1, 30, key="weight_decay")


def test_schedules_of_different_keys_keep_apart():
    opt = sgd(0.1, weight_decay=0.2, momentum=0.9)
    lr, decay = ls.StepLR(opt, 2), ls.LinearLR(opt, key="weight_decay")
    for t in range(1, 9):
        opt.step()
        lr.step()
        decay.step()
        assert (rates(opt), rates(opt, "weight_decay")) == (lr.at(t), decay.at(t))
