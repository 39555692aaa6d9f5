"""Fuzzing of schedulers' state dicts: what was saved, with pieces changed. `make fuzz` runs it."""

from __future__ import annotations

import copy
from typing import Any

from frame import Source, done, image, ol, run

from support.scheduler_cases import CASES, Case
from support.scheduler_cases import optimizer as optimizer_of

Pair = tuple[ol.Optimizer, Any, Case]


def made(case: Case) -> list[Pair]:
    """The schedulers of a case after three steps, each with their optimizer."""
    optimizer = optimizer_of(case)
    schedulers = case.schedulers(ol.lr_scheduler, optimizer)
    for k in range(3):
        optimizer.step()
        case.step(schedulers, k)
    return [(optimizer, scheduler, case) for scheduler in schedulers]


LIVE = [pair for case in CASES for pair in made(case)]
SAVED = [scheduler.state_dict() for _, scheduler, _ in LIVE]
FIRST = {case.name: at for at, (_, _, case) in reversed(list(enumerate(LIVE)))}


def one(data: bytes) -> None:
    source = Source(data)
    at = source.below(len(LIVE))
    given = copy.deepcopy(SAVED[source.below(len(LIVE)) if source.below(8) == 7 else at])
    for _ in range(1 + source.below(3)):
        given = source.altered(given)
    optimizer, scheduler, case = LIVE[at]
    before = image(given)

    def watched() -> Any:
        return image(optimizer), image(scheduler.state_dict())

    loaded = done(lambda: scheduler.load_state_dict(given), watched)
    if image(given) != before:
        raise RuntimeError("load_state_dict changed what it was given")
    if loaded:
        for place, pair in enumerate(made(case), FIRST[case.name]):
            LIVE[place] = pair
        saved = scheduler.state_dict()
        scheduler.load_state_dict(saved)
        if image(saved) != image(scheduler.state_dict()):
            raise RuntimeError("a state dict that was loaded is another one when saved again")
        if scheduler.last_epoch > 9999:          # a schedule without a closed form walks there, and that takes its time
            return
        plateau = isinstance(scheduler, ol.lr_scheduler.ReduceLROnPlateau)
        for _ in range(2):
            done(lambda: scheduler.step(*[1.0] * plateau), watched)
        done(optimizer.step, watched)


if __name__ == "__main__":
    run(one)
