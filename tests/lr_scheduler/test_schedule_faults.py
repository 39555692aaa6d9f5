"""What users reported of one schedule alone, by the number of the report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from optimlite import lr_scheduler as ls
from support.helpers import rates
from support.paths import ROOT
from support.rates import sgd, values
from support.scheduler_cases import WHOLE, optimizer

# One schedule's own faults

@pytest.mark.parametrize("options", [{"total_steps": 10}, {"epochs": 2, "steps_per_epoch": 5}])
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_flair_2954_pytorch_38170_onecycle_has_no_extra_step(options, anneal_strategy):
    opt = sgd(0.1, momentum=0.9)
    scheduler = ls.OneCycleLR(opt, 1.0, **options, anneal_strategy=anneal_strategy)
    seen = values(scheduler, 10)  # a loop of ten epochs, each with a step at its end
    assert seen[10] == seen[9] == pytest.approx(1 / 25 / 1e4, rel=1e-10)
    assert opt.param_groups[0]["momentum"] == 0.95
    before = scheduler.state_dict()
    for call in (scheduler.step, lambda: scheduler.at(11)):
        with pytest.raises(ValueError, match="`total_steps` is 10; there is no step 11"):
            call()
    assert scheduler.state_dict() == before


@pytest.mark.parametrize(("total_steps", "pct_start"), [(10, 0.1), (4, 0.25), (2, 0.5), (1, 1.0), (1, 0.0), (3, 1.0)])
@pytest.mark.parametrize("three_phase", [False, True])
def test_pytorch_180187_onecycle_with_a_phase_of_no_length(total_steps, pct_start, three_phase):
    pct_start = min(pct_start, 0.5) if three_phase else pct_start
    scheduler = ls.OneCycleLR(sgd(0.1), 1.0, total_steps, pct_start=pct_start, three_phase=three_phase,
                              cycle_momentum=False)
    seen = values(scheduler, total_steps - 1)
    assert all(1 / 25 / 1e4 * (1 - 1e-9) <= lr <= 1 for lr in seen)
    if pct_start * total_steps == 1:
        assert seen[0] == 1 / 25


@pytest.mark.parametrize("argument", ["div_factor", "final_div_factor"])
def test_pytorch_183386_onecycle_does_not_divide_by_zero(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be > 0, got 0"):
        ls.OneCycleLR(sgd(0.1), 1.0, 10, cycle_momentum=False, **{argument: 0})


@pytest.mark.parametrize("T_max", [1, 2, 3, 10])
def test_pytorch_17913_19180_185007_cosine_has_no_division_by_zero(T_max):
    scheduler = ls.CosineAnnealingLR(sgd(0.1), T_max, 0.01)
    assert values(scheduler, 6 * T_max)[::T_max] == [0.1, 0.01] * 3 + [0.1]
    opt = sgd(0.1)
    ls.ExponentialLR(opt, 0.9)
    opt.param_groups[0]["lr"] = 0.05  # off the closed form, where the recurrence divides
    assert np.isfinite(values(ls.CosineAnnealingLR(opt, T_max), 6 * T_max)).all()


@pytest.mark.parametrize("T_mult", [1, 2])
def test_pytorch_47560_warm_restarts_come_down_to_eta_min(T_mult):
    """With fractions, as in the paper; whole counts restart one count before, as in torch."""
    scheduler = ls.CosineAnnealingWarmRestarts(sgd(0.1), 10, T_mult, 3.2e-6)
    ends = [10, 20, 30] if T_mult == 1 else [10, 30, 70]
    for end in ends:
        assert scheduler.at(end - 1e-6) == [pytest.approx(3.2e-6, rel=1e-6)]
        assert scheduler.at(end) == [0.1]
    batches, seen = 1000, []
    for batch in range(10 * batches):
        scheduler.optimizer.step()
        scheduler.step(batch / batches)
        seen += rates(scheduler.optimizer)
    assert min(seen) == seen[-1] == pytest.approx(3.2e-6, rel=1e-1)


@pytest.mark.parametrize(("T_0", "T_mult"), [(1, 2), (1, 5), (1, 10), (3, 3), (7, 6)])
def test_warm_restarts_find_their_cycle_without_logarithms(T_0, T_mult):
    """torch finds the cycle of a given epoch by a logarithm, which rounds: log(1000, 10) is below 3."""
    scheduler = ls.CosineAnnealingWarmRestarts(sgd(0.1), T_0, T_mult)
    length, start = T_0, 0
    for _ in range(6):
        scheduler.optimizer.step()
        scheduler.step(start)
        assert rates(scheduler.optimizer) == scheduler.at(start) == [0.1]
        start, length = start + length, length * T_mult


@pytest.mark.parametrize(("scheduler", "expected"), [
    (lambda opt: ls.LinearLR(opt, total_iters=0), [0.1] * 4),
    (lambda opt: ls.LinearLR(opt, 0.5, 0.3, total_iters=0), [0.03] * 4),
    (lambda opt: ls.ConstantLR(opt, 0.1, total_iters=0), [0.1] * 4),
])
def test_pytorch_193682_192655_a_warm_up_of_no_length_is_over(scheduler, expected):
    assert values(scheduler(sgd(0.1)), 3) == expected
    opt = sgd(0.1)
    ls.ConstantLR(opt, 0.5, 99)
    assert values(scheduler(opt), 3) == pytest.approx([value / 2 for value in expected])


def test_pytorch_185006_194712_a_constant_factor_of_zero_ends():
    assert values(ls.ConstantLR(sgd(0.1), 0.0, 3), 5) == [0, 0, 0, 0.1, 0.1, 0.1]
    opt = sgd(0.1)
    chained = ls.ChainedScheduler([ls.ConstantLR(opt, 0.0, 2), ls.ExponentialLR(opt, 0.5)])
    assert values(chained, 4) == pytest.approx([0, 0, 0.025, 0.0125, 0.00625])


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_pytorch_47513_38622_a_relative_threshold_works_for_negative_metrics(mode, sign):
    opt = sgd(0.1)
    scheduler = ls.ReduceLROnPlateau(opt, mode, threshold=0.1, patience=0)
    scheduler.step(-1.0 * sign)
    scheduler.step(-0.95 * sign)  # worse
    assert rates(opt) == [pytest.approx(0.01)]
    scheduler.step(-1.05 * sign)  # better, but by less than the threshold
    assert rates(opt) == [pytest.approx(0.001)]
    scheduler.step(-1.15 * sign)
    assert (rates(opt), scheduler.best) == ([pytest.approx(0.001)], -1.15 * sign)


def test_pytorch_2545_119763_patience_and_cooldown_are_what_their_description_says():
    opt = sgd(0.1)
    scheduler = ls.ReduceLROnPlateau(opt, patience=2, cooldown=1)
    seen = []
    for _ in range(11):
        scheduler.step(0)
        seen += rates(opt)
    # One best epoch, two that are ignored, a reduction after the third; then one of rest before it starts over.
    assert seen == pytest.approx([0.1] * 3 + [0.01] * 4 + [0.001] * 4)


@pytest.mark.parametrize("make", [
    lambda opt: ls.CyclicLR(opt, 0.01, 0.1),
    lambda opt: ls.OneCycleLR(opt, 0.1, 10),
], ids=["CyclicLR", "OneCycleLR"])
def test_turning_a_momentum_on_is_not_silent(make):
    with pytest.warns(UserWarning, match="turns on the momentum of SGD, which was 0; pass cycle_mom") as caught:
        make(sgd(0.1))
    assert caught[0].filename == __file__


def test_a_halving_cycle_ends_at_its_base():
    """torch computes 2 ** (cycle - 1), which overflows after 1,025 cycles."""
    scheduler = ls.CyclicLR(sgd(0.1), 0.01, 0.1, 5, mode="triangular2", cycle_momentum=False)
    assert scheduler.at(10 * 1000 + 5) == scheduler.at(10 * 10**6 + 5) == [0.01]


# Schedules elsewhere

@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_optax_415_the_first_step_uses_count_zero(case):
    opt = optimizer(case)
    used = []
    [scheduler] = case.schedulers(ls, opt)
    for _ in range(3):
        used.append(rates(opt))
        opt.step()
        scheduler.step()
    assert used == [scheduler.at(0), scheduler.at(1), scheduler.at(2)]


def test_keras_13027_the_count_is_saved():
    scheduler = ls.ExponentialLR(sgd(0.1), 0.5)
    values(scheduler, 7)
    state = json.loads(json.dumps(scheduler.state_dict()))
    again = ls.ExponentialLR(sgd(0.1), 0.5)
    again.load_state_dict(state)
    assert (again.last_epoch, values(again, 3)) == (7, values(scheduler, 3))


# A warm-up to the end

def test_a_warm_up_may_be_the_whole_schedule():
    scheduler = ls.WarmupCosineLR(sgd(0.5), 4, 4, min_factor=0.1)
    assert values(scheduler, 6) == [0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert ls.WarmupCosineLR(sgd(0.5), 1, 1).at(1) == [0.5]
    assert ls.WarmupCosineLR(sgd(0.5), 3, 4).at(4) == [0]


# The documentation

def test_the_documentation_shows_every_schedule_and_every_report_has_a_test():
    text = (ROOT / "docs" / "schedulers.md").read_text()
    for name in ls.__all__:
        if name != "LRScheduler":
            assert f"### {name}\n" in text
            assert (ROOT / "docs" / "pictures" / "schedules" / f"{name}.png").is_file()
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    reports = re.findall(r"\d{4,6}", text[text.index("## Corrected"):])
    named = re.findall(r"\d{4,6}", " ".join(re.findall(r"def (test_\w+)", tests)))
    assert set(reports) - {"2018", "2017"} <= set(named)
    assert len(set(reports)) > 30
