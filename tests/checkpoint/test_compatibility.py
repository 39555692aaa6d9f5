# What an earlier version wrote is read, and goes on to the same bits; what an earlier version accepted is accepted.
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import lr_scheduler
from support import old_runs, scheduler_cases, surface
from support.old_runs import ARRAYS, FOLDER, VALUES

Params = list[dict[str, np.ndarray]]


def read(name: str) -> Any:
    return pickle.loads((FOLDER / f"{name}.pickle").read_bytes())


OPTIMIZERS, SCHEDULERS, PICKLED = read("optimizers"), read("schedulers"), read("pickled_schedulers")
GONE = {name: record for name, record in OPTIMIZERS.items()      # formulas of ConjugateGradient
        if record["options"].get("beta") in ("fletcher-reeves", "dai-yuan")}
OPTIMIZERS = {name: record for name, record in OPTIMIZERS.items() if name not in GONE}
SURFACE = json.loads((FOLDER / "surface.json").read_text())

# Everything else computes with + - * / and square roots alone, in an order of its own: not a bit is free.
TOLERANCES = {
    "Adafactor": 1e-5,           # its means may be added up in another order, and t^beta2_decay is the C library's
    "Muon": 1e-4,                # the BLAS adds products in an order of its own, and five iterations amplify it
    "LBFGS": 1e-7, "ConjugateGradient": 1e-7,    # inner products may be added up in another order; searches amplify it
}
RATES = 1e-14                    # of schedules: cosines and powers are the C library's


def assert_same(found: dict[str, np.ndarray], recorded: dict[str, np.ndarray], tolerance: float = 0.0) -> None:
    """The recorded arrays, of the same type; more of them may have come since."""
    assert found.keys() >= recorded.keys()
    for name, array in recorded.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        if tolerance:
            bound = tolerance * abs(array).max(initial=0)
            np.testing.assert_allclose(found[name], array, rtol=0, atol=bound, err_msg=name)
        else:
            assert found[name].tobytes() == array.tobytes(), name


def assert_state(optimizer: ol.Optimizer, state: dict[int, Any], tolerance: float = 0.0) -> None:
    found = optimizer.state_dict()["state"]
    assert found.keys() == state.keys()
    for index, arrays in state.items():
        assert_same(found[index], arrays, tolerance)


def assert_groups(optimizer: ol.Optimizer, groups: list[dict[str, Any]]) -> None:
    for group, recorded in zip(optimizer.state_dict()["param_groups"], groups, strict=True):
        assert {key: group[key] for key in recorded} == recorded


def by_state_dict(name: str, record: dict[str, Any]) -> tuple[Params, ol.Optimizer]:
    """Into an optimizer with its defaults; but bounds aren't in a state dict, and need a line search."""
    params = old_runs.model(record["kind"], filled=False)
    options = record["options"] if "bounds" in record["options"] else {}
    optimizer = old_runs.build(record["optimizer"], record["kind"], params, options)
    optimizer.load_state_dict(record["state_dict"])
    for key, array in old_runs.named(params).items():
        array[...] = record["params"][key]
    return params, optimizer


def by_checkpoint(name: str, record: dict[str, Any]) -> tuple[Params, ol.Optimizer]:
    params = old_runs.model(record["kind"], filled=False)
    optimizer = old_runs.build(record["optimizer"], record["kind"], params, record["options"])
    ol.restore(FOLDER / f"{name}.safetensors", model=old_runs.named(params), optimizer=optimizer)
    return params, optimizer



@pytest.mark.parametrize("name", GONE)
def test_what_is_gone_is_refused_by_name(name: str) -> None:
    params = old_runs.model("closure", filled=False)
    optimizer = old_runs.build("ConjugateGradient", "closure", params, {})
    with pytest.raises(ValueError, match=r"`beta` must be .*polak-ribiere"):
        optimizer.load_state_dict(GONE[name]["state_dict"])
    assert not optimizer.state_dict()["state"]


@pytest.mark.parametrize("loaded", [by_state_dict, by_checkpoint])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_where_it_was_saved(name: str, loaded: Any) -> None:
    record = OPTIMIZERS[name]
    params, optimizer = loaded(name, record)
    assert_same(old_runs.named(params), record["params"])
    assert_state(optimizer, record["state_dict"]["state"])
    assert_groups(optimizer, record["state_dict"]["param_groups"])
    old_runs.advance(optimizer, record["kind"], params, first=False)
    tolerance = TOLERANCES.get(record["optimizer"], 0.0)
    assert_same(old_runs.named(params), record["after"], tolerance)
    if record["kind"] != "closure":              # whose differences of gradients have no digits left near the minimum
        assert_state(optimizer, record["state_after"], tolerance)


def test_every_optimizer_of_the_time_is_here() -> None:
    assert {record["optimizer"] for record in OPTIMIZERS.values()} == {
        name for name, known in SURFACE.items() if isinstance(known, dict) and "Optimizer" in known["bases"]}


# The row of this name is another one since: it rested on a fault, a cycle that took the group's rate from the others.
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "sequential_onecycle"])
def test_a_scheduler_goes_on_where_it_was_saved(name: str) -> None:
    record, case = SCHEDULERS[name], scheduler_cases.BY_NAME[name]
    optimizer = scheduler_cases.optimizer(case)
    schedulers = case.schedulers(lr_scheduler, optimizer)
    optimizer.load_state_dict(record["optimizer"])
    for scheduler, state in zip(schedulers, record["states"], strict=True):
        scheduler.load_state_dict(state)
    rows = scheduler_cases.walk(case, schedulers, optimizer, range(record["at"], case.steps))
    np.testing.assert_allclose(rows, record["rows"], rtol=RATES)


@pytest.mark.parametrize("name", PICKLED)
def test_a_pickled_scheduler_goes_on_where_it_was(name: str) -> None:
    """With its optimizer; what it is made of may have moved to modules of other names since."""
    record, case = PICKLED[name], scheduler_cases.BY_NAME[name]
    optimizer, schedulers = pickle.loads(record["pickled"])
    rows = scheduler_cases.walk(case, schedulers, optimizer, range(record["at"], case.steps))
    np.testing.assert_allclose(rows, record["rows"], rtol=RATES)


@pytest.mark.parametrize("record", read("averages"))
def test_an_average_goes_on_where_it_was_saved(record: dict[str, Any]) -> None:
    params = old_runs.model("dense")
    average = ol.Average(params)
    average.load_state_dict(record["state_dict"])
    for key, array in old_runs.named(params).items():
        array[...] = record["params"][key]
    average.update()
    for found, recorded in zip(average.averages, record["after"], strict=True):
        assert_same({"": found}, {"": recorded})


def test_a_training_goes_on_where_it_was_saved() -> None:
    record = read("training")
    params, optimizer, scheduler, average = old_runs.training()
    arrays = {name: np.zeros_like(array) for name, array in ARRAYS.items()}
    values = ol.restore(FOLDER / "training.safetensors", model=params, optimizer=optimizer, scheduler=scheduler,
                        average=average, arrays=arrays)
    assert_same(arrays, ARRAYS)
    assert {name: values[name] for name in VALUES} == VALUES
    assert_same(old_runs.named(params), record["params"])
    assert_state(optimizer, record["states"]["optimizer"]["state"])
    old_runs.scheduled(scheduler, optimizer, params, average, range(6, 10))
    assert_same(old_runs.named(params), record["after"])
    assert scheduler.get_last_lr() == record["rates"]
    for found, recorded in zip(average.averages, record["averages"], strict=True):
        assert_same({"": found}, {"": recorded})


@pytest.mark.parametrize("mmap", [False, True])
def test_a_checkpoint_is_loaded_as_plain_values(mmap: bool) -> None:
    loaded = ol.load(FOLDER / "training.safetensors", mmap=mmap)
    assert {name: loaded[name] for name in VALUES} == VALUES
    assert_same(loaded["arrays"], ARRAYS)
    assert loaded.keys() == {*VALUES, "model", "optimizer", "scheduler", "average", "arrays"}
    record = read("training")
    assert_same({name: a for group in loaded["model"] for name, a in group.items()}, record["params"])


def test_a_folder_of_checkpoints_is_continued(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / "rotation", tmp_path / "rotation")
    checkpoints = ol.Checkpoints(folder, keep=2, best="loss")
    w = np.zeros(3)
    newest, best = checkpoints.restore(model=w), checkpoints.restore(model=w, best=True)
    assert newest is not None
    assert best is not None
    assert (newest["epoch"], best["epoch"], best["loss"]) == (3, 1, 0.1)
    assert w.tolist() == [2, 2, 2]
    checkpoints.save(model=w, epoch=4, loss=0.4)
    assert [Path(path).name for path in checkpoints.paths] == [
        f"checkpoint-{number:06d}.safetensors" for number in (2, 4, 5)]


EXAMPLES = {
    "Optimizer": lambda: ol.SGD([np.ones(2)]), "LBFGS": lambda: ol.LBFGS([np.ones(2)]),
    "ConjugateGradient": lambda: ol.ConjugateGradient([np.ones(2)]), "NewtonCG": lambda: ol.NewtonCG([np.ones(2)]),
    "Average": lambda: ol.Average([np.ones(2)]),
    "Checkpoints": lambda: ol.Checkpoints(FOLDER / "rotation"), "Parameter": lambda: ol.Parameter(np.ones(2)),
    "SparseGrad": lambda: ol.SparseGrad(np.zeros(1, np.int64), np.ones((1, 2))),
    "lr_scheduler.LRScheduler": lambda: lr_scheduler.StepLR(ol.SGD([np.ones(2)]), 3),
}


NOW = surface.surface()


@pytest.mark.parametrize("name", SURFACE)
def test_what_was_accepted_is_accepted(name: str) -> None:
    recorded, now = SURFACE[name], NOW[name]
    if isinstance(recorded, list):
        assert set(now) >= set(recorded)
        return
    if isinstance(recorded, str):
        assert not recorded or not surface.broken(recorded, now)
        return
    value = surface.public()[name]
    assert set(now["bases"]) >= set(recorded["bases"])
    assert not recorded["constructor"] or not surface.broken(recorded["constructor"], now["constructor"])
    example = EXAMPLES[name]() if any(text == "" for text in recorded["members"].values()) else value
    for member, text in recorded["members"].items():
        assert hasattr(example, member), member
        assert not text or not surface.broken(text, surface.method(value, member)), member


@pytest.mark.parametrize(("old", "new", "reasons"), [
    ("(a, b=1)", "(a, b=1, c=2, *, d=3)", 0), ("(a, *, d)", "(a, d)", 0), ("(a, /, **kw)", "(a, b=1, **kw)", 0),
    ("(a, b=1)", "(b=1, a=2)", 2), ("(a, b=1)", "(a, b=2)", 1), ("(a, b=1)", "(a)", 1), ("(a)", "(a, c)", 1),
    ("(a)", "(a, *, c)", 1), ("(a, *, d=3)", "(a)", 1), ("(a, **kw)", "(a)", 1), ("(a)", "(a, /)", 1),
    ("(a, b=1)", "(a, *, b=1)", 1), ("(a, *, d=3)", "(a, *, d)", 1)])
def test_a_break_is_noticed(old: str, new: str, reasons: int) -> None:
    assert len(surface.broken(old, new)) == reasons
