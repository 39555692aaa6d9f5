"""Every schedule resumed at every count, in any order of loading: the same run; state dicts are plain snapshots."""

from __future__ import annotations

import copy
import json
import pickle
import warnings

import pytest

from optimlite import lr_scheduler as ls
from support.helpers import parameters, rates
from support.rates import begun, named, sgd, steps
from support.scheduler_cases import CASES, optimizer, walk

ORDERS = ["optimizer first", "scheduler first", "optimizer before the scheduler is made"]


def resumed(case, saved_optimizer, saved_schedulers, order):
    opt = optimizer(case)
    if order == ORDERS[2]:
        opt.load_state_dict(saved_optimizer)
    schedulers = case.schedulers(ls, opt)
    if order == ORDERS[0]:
        opt.load_state_dict(saved_optimizer)
    for scheduler, state in zip(schedulers, saved_schedulers, strict=True):
        scheduler.load_state_dict(state)
    if order == ORDERS[1]:
        opt.load_state_dict(saved_optimizer)
    return opt, schedulers


@named(CASES)
@pytest.mark.parametrize("by_hand", [False, True])
def test_resume_at_every_step_is_exact(case, by_hand):
    def run(schedulers, opt, counts):
        """Everything that a run makes: parameters, hyper-parameters, what schedulers report."""
        def seen(opt):
            numbers = [{name: value for name, value in group.items() if name != "params"} for group in opt.param_groups]
            return [p.data.tobytes() for p in parameters(opt)], numbers, [each.get_last_lr() for each in schedulers]

        return walk(case, schedulers, opt, counts, by_hand, seen)

    opt, schedulers = begun(case, 0)
    saved, whole = [], []
    for k in range(case.steps):
        saved.append(([p.data.copy() for p in parameters(opt)], opt.state_dict(),
                      json.dumps([each.state_dict() for each in schedulers], allow_nan=False)))
        whole += run(schedulers, opt, range(k, k + 1))
    for k, (arrays, optimizer_state, schedulers_state) in enumerate(saved):
        fresh, again = resumed(case, optimizer_state, json.loads(schedulers_state), ORDERS[k % 3])
        for p, data in zip(parameters(fresh), arrays, strict=True):
            p.data = data
        assert run(again, fresh, range(k, case.steps)) == whole[k:], f"resumed at {k}, {ORDERS[k % 3]}"


@named(CASES)
def test_the_order_of_loading_does_not_matter(case):
    opt, schedulers = begun(case, 6)
    opt.param_groups[0]["lr"] = 0.0123  # by hand, after the last step
    states = [scheduler.state_dict() for scheduler in schedulers]
    for order in ORDERS:
        fresh, _ = resumed(case, opt.state_dict(), states, order)
        assert [{**g, "params": 0} for g in fresh.param_groups] == [{**g, "params": 0} for g in opt.param_groups], order


@named(CASES)
def test_loading_a_scheduler_changes_only_what_it_schedules(case):
    _, schedulers = begun(case, 5)
    fresh = optimizer(case)
    again = case.schedulers(ls, fresh)
    for group in fresh.param_groups:
        group.update(weight_decay=0.25, maximize=True)
    before = [dict(group) for group in fresh.param_groups]
    for scheduler, state in zip(again, [scheduler.state_dict() for scheduler in schedulers], strict=True):
        scheduler.load_state_dict(state)
    driven = {slot.name for scheduler in again for slot in scheduler._slots()}
    assert driven <= {"lr", "momentum", "betas"}
    for group, old in zip(fresh.param_groups, before, strict=True):
        assert {k: v for k, v in group.items() if k not in driven} == {k: v for k, v in old.items() if k not in driven}


@named(CASES)
def test_a_state_dict_is_a_plain_snapshot_that_loading_leaves_alone(case):
    opt, schedulers = begun(case, 0)
    states = [scheduler.state_dict() for scheduler in schedulers]
    kept = copy.deepcopy(states)
    assert json.loads(json.dumps(states, allow_nan=False)) == states
    walk(case, schedulers, opt, range(3))
    assert states == kept
    for scheduler, state in zip(schedulers, states, strict=True):
        scheduler.load_state_dict(state)
        scheduler.load_state_dict(state)
    walk(case, schedulers, opt, range(3))
    assert states == kept


def test_copies_and_pickles_go_on_alike():
    opt = sgd(0.1)
    scheduler = ls.ChainedScheduler([ls.StepLR(opt, 2), ls.CosineAnnealingWarmRestarts(opt, 3)])
    steps(scheduler, 4)
    for twin in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        expected = [scheduler.at(t) for t in range(5, 9)]
        assert steps(twin, 4)[1:] == expected
        assert rates(opt) == scheduler.at(4)


def test_no_order_warning_after_a_restored_state():
    state = ls.StepLR(sgd(0.1), 3).state_dict()
    scheduler = ls.StepLR(sgd(0.1), 3)
    scheduler.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()
