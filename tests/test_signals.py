"""Ctrl-C leaves a whole step or none, the last accepted point, the old file or the new, and objects that can go on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.bowl import Bowl
from support.helpers import content, gradient, model, output_of, values
from support.interrupts import everywhere
from support.probes import OfGroup


def step(optimizer: ol.Optimizer, count: int, **options: Any) -> None:
    grads = {name: gradient(count, index, array) for index, (name, array) in enumerate(model().items())
             if name in optimizer.state._names}
    optimizer.step(grads=grads, **options)


def moved(optimizer: ol.Optimizer) -> list[Any]:
    return [*values(optimizer), [content(group[key]) for group in optimizer.param_groups
                                 for key in optimizer.totals(group)]]


STEPS = {
    "first": (lambda: ol.Adam(model()), 0, {}, 7),
    "third": (lambda: ol.Adam(model()), 2, {}, 1),
    "momentum": (lambda: ol.SGD(model(), momentum=0.5), 0, {}, 7),       # whose first step differs from the others
    "clipped": (lambda: ol.NAdam(model()), 1, {"max_grad_norm": 0.1, "zero_grad": True}, 1),
    "measured": (lambda: ol.LAMB(model()), 0, {"zero_grad": True}, 11),
    "own scalars": (lambda: ol.NovoGrad(model()), 1, {}, 1),
    "by lines": (lambda: ol.Adafactor(model()), 0, {}, 11),
    "cautious": (lambda: ol.Adam(model(), cautious=True), 2, {"max_grad_norm": 0.1}, 1),
    "total": (lambda: OfGroup(model()), 1, {}, 1),
    "of all groups": (lambda: ol.Prodigy(model(), d0=1e-2), 1, {}, 1),
    "matrices": (lambda: ol.Muon({"W": model()["W"]}), 0, {}, 11),
}


@pytest.mark.parametrize("row", STEPS)
def test_a_step_that_is_interrupted_anywhere_is_whole_or_none(row: str) -> None:
    build, taken, options, every = STEPS[row]

    def begun(extra: int = 0) -> ol.Optimizer:
        optimizer = build()
        for count in range(taken + extra):
            step(optimizer, count, **options)
        return optimizer

    none, whole, both = (moved(begun(extra)) for extra in (0, 1, 2))

    def check(optimizer: ol.Optimizer) -> None:
        left = moved(optimizer)
        assert left in (none, whole)
        for count in range(taken + (left == whole), taken + 2):
            step(optimizer, count, **options)        # and it goes on as if nothing had been
        assert moved(optimizer) == both

    assert everywhere(begun, lambda optimizer: step(optimizer, taken, **options), check, every) > 20


MINIMIZERS = {
    "wolfe": (ol.LBFGS, {"line_search_fn": "strong_wolfe", "history_size": 2}, 23),
    "fixed": (ol.LBFGS, {"lr": 0.1, "history_size": 2}, 61),
    "bounds": (ol.LBFGS, {"line_search_fn": "hager_zhang", "bounds": (-1.6, 2.5)}, 61),
    "conjugate": (ol.ConjugateGradient, {}, 83),
    "Newton": (ol.NewtonCG, {}, 101),
    "Hager-Zhang": (ol.ConjugateGradient, {"beta": "hager-zhang", "line_search_fn": "hager_zhang"}, 83),
}


@pytest.mark.parametrize("row", MINIMIZERS)
def test_an_interrupted_minimizer_is_at_the_last_accepted_point(row: str) -> None:
    cls, options, every = MINIMIZERS[row]
    options = {**options, "max_iter": 3}
    whole = Bowl(cls, options)
    whole.step()
    accepted = [*whole.accepted, whole.point()]
    for _ in range(20):
        whole.step()

    def check(bowl: Bowl) -> None:
        assert bowl.point() in accepted
        resumed = Bowl(cls, options)                 # its state is whole: from a copy it goes on with the same bits
        for name, array in bowl.arrays.items():
            resumed.arrays[name][...] = array
        resumed.optimizer.load_state_dict(bowl.optimizer.state_dict())
        bowl.step()
        resumed.step()
        assert bowl.point() == resumed.point()
        for _ in range(20):
            bowl.step()
        assert bowl.optimizer.result.loss <= whole.optimizer.result.loss + 1e-6

    assert everywhere(lambda: Bowl(cls, options), Bowl.step, check, every) > 20


def test_an_interrupted_save_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"

    def build() -> ol.Optimizer:
        ol.save(path, model=np.zeros(3), epoch=1)
        return ol.Adam(model())

    def check(optimizer: ol.Optimizer) -> None:
        assert ol.load(path)["epoch"] in (1, 2)
        ol.save(path, optimizer=optimizer, epoch=3)
        assert ol.load(path)["epoch"] == 3

    tries = everywhere(build, lambda optimizer: ol.save(path, optimizer=optimizer, epoch=2, fsync=False), check, 31)
    assert tries > 20


def average(taken: int) -> ol.Average:
    parameters = [ol.Parameter(array) for array in model().values()]
    found = ol.Average(parameters)
    for count in range(taken):
        shift(found, count)
        found.update()
    return found


def shift(found: ol.Average, count: int) -> None:
    for index, parameter in enumerate(found._parameters):
        parameter.data = gradient(count, index, parameter)


def held(found: ol.Average) -> Any:
    return found.n_averaged, [content(a) for a in found.averages], [content(p.data) for p in found._parameters]


def test_an_interrupted_average_has_taken_the_parameters_or_not() -> None:
    whole = [held(average(taken)) for taken in (2, 3)]

    def build() -> ol.Average:
        found = average(2)
        shift(found, 2)
        return found

    assert everywhere(build, ol.Average.update, lambda found: check_average(held(found), whole)) > 10


def check_average(left: Any, whole: list[Any]) -> None:
    assert left[:2] in [each[:2] for each in whole]


def test_interrupted_swaps_lose_no_value() -> None:
    own, swapped = held(average(3)), []

    def act(found: ol.Average) -> None:
        with found.swapped():
            swapped.append(held(found))

    def check(found: ol.Average) -> None:
        assert held(found) == own
        act(found)

    assert everywhere(lambda: average(3), act, check) > 20


def test_interrupted_evaluations_of_schedule_free_lose_no_value() -> None:
    def build() -> ol.ScheduleFreeSGD:
        found = ol.ScheduleFreeSGD(model())
        for count in range(3):
            step(found, count)
        return found

    own, swapped = moved(build()), []

    def act(found: ol.ScheduleFreeSGD) -> None:
        with found.swapped():
            swapped.append(moved(found))

    def check(found: ol.ScheduleFreeSGD) -> None:
        assert moved(found) == own
        act(found)

    assert everywhere(build, act, check) > 20
    assert all(each == swapped[0] != own for each in swapped)


LOOPS: dict[str, Callable[[], str]] = {
    "LBFGS": lambda: """
        subject = ol.LBFGS([x], max_iter=10**6, max_eval=10**7, tolerance_change=0, tolerance_grad=0,
                           line_search_fn="strong_wolfe", callback=lambda result: accepted.append(x.copy()))
        def run():
            while True:
                subject.step(closure)
        def check():
            accepted.insert(0, start)
            # the callback itself can be interrupted before it has noted the point
            assert (x == accepted[-1]).all() or closure()[0] < f(accepted[-1])
    """,
    "ConjugateGradient": lambda: LOOPS["LBFGS"]().replace("LBFGS", "ConjugateGradient"),
    "Adam": lambda: """
        subject = ol.Adam([x], lr=1e-4)
        def run():
            while True:
                accepted[:] = [x.copy(), subject.state["0"].get("step", np.array(0)).copy()]
                subject.step(closure)
        def check():
            if not accepted:             # the signal came before the first step
                return
            before, after = accepted[1], subject.state["0"].get("step", 0)
            assert after - before in (0, 1)
            assert (after == before) == (x == accepted[0]).all()
    """,
    "save": lambda: """
        subject = ol.Adam([x])
        def run():
            for epoch in itertools.count():
                ol.save(path, model=np.full(100_000, epoch), epoch=epoch, fsync=False)
        def check():
            if os.path.exists(path):
                found = ol.load(path)
                assert (found["model"] == found["epoch"]).all()
    """,
}


@pytest.mark.parametrize("loop", LOOPS)
def test_sigint_at_random_moments(loop: str, tmp_path: Path) -> None:
    """Real signals, 20 for each loop, from within: KeyboardInterrupt comes out of it, and the next run goes on."""
    assert output_of("""
        import itertools, os, random, signal, threading, numpy as np, optimlite as ol
        signal.signal(signal.SIGINT, signal.default_int_handler)         # what a job in the background would ignore
        path, x, accepted = os.environ["CHECKPOINT"], np.linspace(-1.5, 2.0, 50_000), []
        weights = np.geomspace(1, 1e4, x.size)
        def f(x):
            return float((weights * np.hypot(x - 1, 1)).sum())
        def closure():
            return f(x), [weights * (x - 1) / np.hypot(x - 1, 1)]
    """ + LOOPS[loop]() + """
        random.seed(1)
        for _ in range(20):
            start = x.copy()
            accepted.clear()
            timer = threading.Timer(random.uniform(0.005, 0.12), os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                run()
            except KeyboardInterrupt:
                pass
            timer.join()
            check()
        print("ok")
    """, CHECKPOINT=os.fspath(tmp_path / "run.safetensors"), timeout=120) == "ok"
