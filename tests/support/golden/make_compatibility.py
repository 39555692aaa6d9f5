# Makes the folder compatibility/, which every later version must read:
# `python tests/support/golden/make_compatibility.py`.
#
# It was made once, by version 0.1.0, and stays: a later version adds a folder of its own for what it stores beyond.
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]
import optimlite as ol  # noqa: E402
from optimlite import lr_scheduler  # noqa: E402
from support import old_runs, scheduler_cases, surface  # noqa: E402
from support.old_runs import FOLDER  # noqa: E402


def dump(name: str, content: Any) -> None:
    (FOLDER / f"{name}.pickle").write_bytes(pickle.dumps(content, old_runs.PROTOCOL))


def optimizers() -> None:
    """A checkpoint for each case, and all that is to be found in it and after it."""
    records = {}
    for case in old_runs.CASES:
        params = old_runs.model(case.kind)
        optimizer = old_runs.build(case.optimizer, case.kind, params, case.options)
        old_runs.advance(optimizer, case.kind, params, first=True)
        ol.save(FOLDER / f"{case.name}.safetensors", model=old_runs.named(params), optimizer=optimizer)
        record = {**case._asdict(), "params": old_runs.copies(params), "state_dict": optimizer.state_dict()}
        old_runs.advance(optimizer, case.kind, params, first=False)
        assert case.name not in records
        after = {"after": old_runs.copies(params), "state_after": optimizer.state_dict()["state"]}
        records[case.name] = record | after
    dump("optimizers", records)


def schedulers() -> None:
    """Each row of the table, halfway: the state of its schedulers, and the rates and momenta from there on."""
    records = {}
    for case in scheduler_cases.CASES:
        optimizer = scheduler_cases.optimizer(case)
        built = case.schedulers(lr_scheduler, optimizer)
        half = case.steps // 2
        scheduler_cases.walk(case, built, optimizer, range(half))
        record = {"at": half, "optimizer": optimizer.state_dict(), "states": [each.state_dict() for each in built]}
        records[case.name] = {**record, "rows": scheduler_cases.walk(case, built, optimizer, range(half, case.steps))}
    dump("schedulers", records)


def pickles() -> None:
    """Schedulers themselves with their optimizer, halfway, and the rates from there on: one of each class."""
    records = {}
    for name in ("step", "multistep", "constant", "linear", "exponential", "polynomial", "cosine", "restarts", "cyclic",
                 "onecycle", "swa", "warmup_cosine", "warmup_stable_decay", "sequential", "chained", "plateau"):
        case = scheduler_cases.BY_NAME[name]
        optimizer = scheduler_cases.optimizer(case)
        built = case.schedulers(lr_scheduler, optimizer)
        half = case.steps // 2
        scheduler_cases.walk(case, built, optimizer, range(half))
        record = {"at": half, "pickled": pickle.dumps((optimizer, built), old_runs.PROTOCOL)}
        records[name] = {**record, "rows": scheduler_cases.walk(case, built, optimizer, range(half, case.steps))}
    dump("pickled_schedulers", records)


def averages() -> None:
    records = []
    for options in ({}, {"decay": 0.9}, {"decay": 0.9, "bias_correction": True}):
        params = old_runs.model("dense")
        average = ol.Average(params, **options)
        for _ in range(3):
            average.update()
            for array in old_runs.named(params).values():
                array *= 0.75
        record = {"params": old_runs.copies(params), "state_dict": average.state_dict()}
        average.update()
        records.append({**record, "after": [array.copy(order="K") for array in average.averages]})
    dump("averages", records)


def trainings() -> None:
    """A training with everything in one checkpoint, and a folder of checkpoints."""
    params, optimizer, scheduler, average = old_runs.training()
    parts = {"model": params, "optimizer": optimizer, "scheduler": scheduler, "average": average}
    old_runs.scheduled(scheduler, optimizer, params, average, range(6))
    ol.save(FOLDER / "training.safetensors", **parts, arrays=old_runs.ARRAYS, **old_runs.VALUES)
    record = {"params": old_runs.copies(params), "states": {name: parts[name].state_dict() for name in parts
                                                            if name != "model"}}
    old_runs.scheduled(scheduler, optimizer, params, average, range(6, 10))
    dump("training", {**record, "after": old_runs.copies(params), "averages": average.state_dict()["averages"],
                      "rates": scheduler.get_last_lr()})
    checkpoints = ol.Checkpoints(FOLDER / "rotation", keep=2, best="loss")
    w = np.zeros(3)
    for epoch, loss in enumerate([0.5, 0.1, 0.3, 0.2]):
        w += 1
        checkpoints.save(model=w, epoch=epoch, loss=loss)


def main() -> None:
    if FOLDER.exists():
        sys.exit(f"{FOLDER} is what version 0.1.0 wrote; it stays as it is")
    FOLDER.mkdir()
    for make in (optimizers, schedulers, pickles, averages, trainings):
        make()
    (FOLDER / "surface.json").write_text(json.dumps(surface.surface(), indent=1) + "\n")
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files) // 1000} kB")


if __name__ == "__main__":
    main()
