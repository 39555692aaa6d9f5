"""State in files: the bits of state in memory, whatever is done to an optimizer, and nothing is left behind."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.engine import offload, streaming, threads
from support.cases import CASES, Case
from support.helpers import values
from support.offload import make_small, train
from support.ranks import Params, model, summed

FORMATS: list[dict[str, Any]] = [{}, {"state_dtype": "bfloat16", "seed": 3}, {"state_dtype": "int8"}]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


def streams(optimizer: ol.Optimizer) -> bool:
    folder = optimizer.state.folder
    return folder is not None and folder.stream is not None and any(one.moves for one in folder.stream.buckets)


def agrees(make: Callable[[Params], ol.Optimizer], folder: Path, fit: Any = tuple, **options: Any) -> ol.Optimizer:
    """Trains in memory and in files, and compares all bits."""
    ours, theirs = model(fit), model(fit)
    in_memory, in_files = make(theirs), make(ours)
    in_files.offload(folder)
    train(in_memory, theirs, **options)
    train(in_files, ours, **options)
    assert values(in_files) == values(in_memory)
    assert in_files.last_grad_norm == in_memory.last_grad_norm
    return in_files


def run_case(case: Case, folder: Path, form: dict[str, Any], **options: Any) -> None:
    def fit(shape: tuple[int, ...]) -> tuple[int, ...]:
        return case.fit(tuple(min(n, 70) for n in shape) if case.whole else shape)

    optimizer = agrees(lambda params: case.optimizer(params, **case.options, **form), folder, fit, **options)
    assert bool(optimizer.memory().in_files) == any(size > 4096 for size in optimizer.memory().state.values())
    if case.elementwise and optimizer.memory().in_files and case.optimizer is not ol.AdamMini:
        assert streams(optimizer)


def taken(case: Case, form: dict[str, Any]) -> bool:
    try:
        case.optimizer([np.ones(case.fit(3))], **case.options, **form)
    except (TypeError, ValueError):
        return not form
    return True


DENSE = [case for case in CASES if case.optimizer is not ol.SparseAdam]
ROWS = [pytest.param(case, form, id=f"{case.id}-{form.get('state_dtype')}") for case in DENSE for form in FORMATS
        if taken(case, form)]
FIRST = list({case.values[0].optimizer: case for case in ROWS[::-1]}.values())
FIRST += [row for row in ROWS if row.values[0].optimizer is ol.AdamW][:3]


@pytest.mark.parametrize(("case", "form"), FIRST)
def test_state_in_files_has_the_bits_of_state_in_memory(case: Case, form: dict[str, Any], tmp_path: Path) -> None:
    run_case(case, tmp_path, form, max_grad_norm=40.0, max_grad_value=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "form"), ROWS)
def test_every_row_has_the_bits(case: Case, form: dict[str, Any], tmp_path: Path) -> None:
    run_case(case, tmp_path, form, skip_nonfinite=True, zero_grad=True)


def test_scales_of_large_tensors_are_in_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "CHUNK", 1 << 19)
    w = [np.ones(1_200_000, np.float32) for _ in range(2)]
    optimizers = [ol.Adam([array], state_dtype="int8") for array in w]
    optimizers[1].offload(tmp_path)
    for step in range(3):
        gradient = np.random.default_rng(step).standard_normal(w[0].size, np.float32)
        for optimizer in optimizers:
            optimizer.step(grads=[gradient])
    assert values(optimizers[0]) == values(optimizers[1])
    assert len(optimizers[1].state.folder.stream.buckets[0].moves) == 4      # type: ignore[union-attr]


def halves(dtype: Any, **options: Any) -> Callable[[Params], ol.Optimizer]:
    return lambda params: ol.AdamW({"v": params["v"].astype(np.float16) if dtype is np.float16 else
                                    ol.Parameter(np.zeros(params["v"].shape, np.uint16), dtype="bfloat16")}, **options)


def shadowed(params: Params) -> ol.Optimizer:
    return ol.Adam({"v": ol.Parameter(params["v"], shadow=np.empty(params["v"].shape, np.float16))})


LAYOUTS: dict[str, Callable[[Params], ol.Optimizer]] = {
    "float16": halves(np.float16), "bfloat16": halves(np.uint16), "shadow": shadowed,
    "no master": halves(np.float16, master="none"), "kahan": halves(np.uint16, master="kahan"),
    "complex": lambda params: ol.Adam({"v": params["v"].astype(np.complex64)}),
    "Fortran": lambda params: ol.Adam({"W": np.asfortranarray(params["W"][:150])}, state_dtype="int8"),
    "large Fortran": lambda params: ol.Adam({"W": np.asfortranarray(params["W"])}),
    "strided": lambda params: ol.Adam({"W": np.repeat(params["W"], 2, axis=1)[:, ::2], "v": params["v"]}),
    "cast": lambda params: ol.Adam({"v": params["v"].astype(np.float64)}, cast_grads=True),
    "looks ahead": lambda params: ol.Lookahead(ol.Adam({"v": params["v"]}), k=2)}


@pytest.mark.parametrize("name", LAYOUTS)
def test_parameters_of_every_kind(name: str, tmp_path: Path) -> None:
    def run(folder: Path | None) -> ol.Optimizer:
        params = model()
        optimizer = LAYOUTS[name](params)
        if folder:
            optimizer.offload(folder)
        for step in range(4):
            gradients = summed(params, 1, step)
            for p in optimizer.param_groups[0]["params"]:
                gradient: Any = np.resize(gradients[optimizer.state.name_of(p)], p.shape)      # type: ignore[arg-type]
                p.grad = gradient.astype("F" if name == "complex" else np.float32)
            optimizer.step()
        return optimizer

    in_files, in_memory = run(tmp_path), run(None)
    assert values(in_files) == values(in_memory)
    assert in_files.memory().in_files > 0
    assert streams(in_files) == (name not in ("looks ahead", "large Fortran"))
    if name == "shadow":
        ours, theirs = (next(iter(one.state)).shadow for one in (in_files, in_memory))
        assert np.array_equal(ours, theirs)              # type: ignore[arg-type]


def mapped(path: Path, array: np.ndarray) -> np.ndarray:
    made = np.memmap(path, array.dtype, "w+", shape=array.shape)
    made[...] = array
    return made


def test_parameters_and_gradients_in_files(tmp_path: Path) -> None:
    ours, theirs = {name: mapped(tmp_path / name, array) for name, array in model().items()}, model()
    optimizers = ol.Adam(ours), ol.Adam(theirs)
    optimizers[0].offload(tmp_path)
    for step in range(3):
        gradients: Any = summed(theirs, 1, step)
        optimizers[1].step(grads=gradients)
        optimizers[0].step(grads={name: None if gradient is None else mapped(tmp_path / f"{name}.grad", gradient)
                                  for name, gradient in gradients.items()})
    assert values(optimizers[0]) == values(optimizers[1])
    ours["v"].flush()                                    # type: ignore[attr-defined]
    assert np.array_equal(np.fromfile(tmp_path / "v", np.float32), theirs["v"])


def edited(optimizer: ol.Optimizer, params: Params) -> list[Any]:
    """What users do to an optimizer between steps."""
    def step(**gradients: np.ndarray) -> None:
        optimizer.step(grads={name: gradients.get(name) for name in optimizer.state._names})

    train(optimizer, params, range(2))
    optimizer.add_param_group({"params": {"late": (late := np.ones((300, 70), np.float32))}, "amsgrad": True})
    step(late=late.copy(), v=params["v"].copy())
    optimizer.param_groups[0]["amsgrad"] = True
    optimizer.state["v"]["step"] += 3
    step(late=late.copy(), v=params["v"].copy(), W=params["W"].copy())
    keep = np.arange(200)
    optimizer.replace("late", late[keep].copy(), rows=keep)
    optimizer.zero_grad()
    optimizer.add_param_group({"params": {"second": np.ones((100, 200))}})
    optimizer.step_parameter("W", params["W"].copy())
    optimizer.watch(1)
    step(late=late[keep].copy(), second=np.ones((100, 200)))         # of which this one begins on mapped files
    optimizer.watch(None)
    step(second=np.ones((100, 200)))
    optimizer.remove("W")
    del optimizer.state["v"]
    step(late=late[keep].copy(), v=params["v"].copy())
    optimizer.watch(1)
    step(v=params["v"].copy())
    return [values(optimizer), optimizer.metrics()]


def test_optimizers_are_changed_as_in_memory(tmp_path: Path) -> None:
    ours, theirs = model(), model()
    in_files = ol.Adam(ours)
    in_files.offload(tmp_path)
    assert edited(in_files, ours) == edited(ol.Adam(theirs), theirs)


@pytest.mark.parametrize(("cls", "options"), [(ol.Adam, {}), (ol.SGD, {"state_dtype": "int8"}), (ol.SGD, {}), (
    ol.ADOPT, {"state_dtype": "bfloat16"})])
def test_parameters_that_begin_later(cls: Any, options: dict[str, Any], tmp_path: Path) -> None:
    def run(folder: Path | None) -> list[Any]:
        optimizer = cls({"v": model()["v"], "late": np.ones(20_000, np.float32)}, **options)
        if folder:
            optimizer.offload(folder)
        for step in range(4):
            optimizer.step(grads={"v": model()["v"], "late": np.ones(20_000, np.float32) if step > 1 else None})
        return values(optimizer)

    assert run(tmp_path) == run(None)


def test_sparse_gradients_step_the_rows_that_they_touch(tmp_path: Path) -> None:
    def run(folder: Path | None) -> list[Any]:
        table = np.ones((3000, 8), np.float32)
        optimizer = ol.SparseAdam([table])
        if folder:
            optimizer.offload(folder)
        for _ in range(2):
            optimizer.step(grads=[ol.SparseGrad(np.array([1, 2500]), np.ones((2, 8), np.float32))])
        return values(optimizer)

    assert run(tmp_path) == run(None)


def test_checkpoints_are_those_of_state_in_memory(tmp_path: Path) -> None:
    params, others = model(), model()
    in_files, in_memory = ol.AdamW(params), train(ol.AdamW(others), others, range(2))
    in_files.offload(tmp_path)
    train(in_files, params, range(2))
    for name, optimizer, arrays in (("a", in_files, params), ("b", in_memory, others)):
        ol.save(tmp_path / name, model=arrays, optimizer=optimizer)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    train(in_memory, others, range(2, 4))
    resumed = ol.AdamW(again := model())
    resumed.offload(tmp_path)
    ol.restore(tmp_path / "b", model=again, optimizer=resumed)
    assert resumed.memory().in_files == in_files.memory().in_files           # which didn't come by way of memory
    train(resumed, again, range(2, 4))
    in_files.load_state_dict(pickle.loads(pickle.dumps(in_files.state_dict())))
    train(in_files, params, range(2, 4))
    assert values(resumed) == values(in_files) == values(in_memory)


def scratch_files(folder: Path) -> list[str]:
    """The files of a folder that this process has open."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [target for link in links if os.path.lexists(link)
            and (target := os.readlink(link)).startswith(os.fspath(folder))]


def test_state_that_comes_later_takes_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have a thousand open; and none takes more of the disk than its arrays need."""
    monkeypatch.setattr(offload, "MOST", 1 << 20)
    arrays = [np.ones(2000, np.float32) for _ in range(60)]
    optimizer = ol.SGD(arrays)
    optimizer.offload(tmp_path)                          # of no state
    files = [len({*scratch_files(tmp_path)})]
    for change in ({"momentum": 0.9}, {"state_dtype": "bfloat16"}, {"state_dtype": None}):
        optimizer.param_groups[0].update(change)
        if "state_dtype" in change:
            optimizer.state.clear()
        optimizer.step(grads=arrays)
        files.append(len({*scratch_files(tmp_path)}))
    assert optimizer.memory().in_files == 60 * 8000
    assert files[-1] <= 9
    used = {file for state in optimizer.state.values() for array in state.values() if (file := offload.file_of(array))}
    assert all(os.fstat(file.fd).st_blocks * 512 <= file.used + 2 * offload.PAGE for file in used)
    sizes = [len(file) for file in used]
    for _ in range(20):                                  # what is dropped leaves holes, of bounded size
        optimizer.state.clear()
        optimizer.step(grads=arrays)
        sizes += [len(file) for [array] in map(dict.values, optimizer.state.values())
                  if (file := offload.file_of(array))]
    assert max(sizes) <= offload.MOST


def there_and_back(folder: Path) -> None:
    params = model()
    optimizer = train(ol.Adam(params), params, range(2))
    before = values(optimizer)
    optimizer.offload(folder)                            # of state that there is
    assert "in files" in repr(optimizer.memory())
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert values(other) == before
        assert other.memory().in_files == 0
        train(other, params, [2])
    assert values(optimizer)[0][1] == before[0][1]       # whose steps are their own
    train(optimizer, params, [2])
    optimizer.offload(os.fspath(folder))                 # from one file to another
    moved = values(optimizer)
    optimizer.offload(None)
    assert values(optimizer) == moved
    assert optimizer.memory().in_files == 0
    optimizer.offload(folder)
    train(optimizer, params, [3])
    assert scratch_files(folder)


def test_back_to_memory_and_copies_in_memory(tmp_path: Path) -> None:
    gc.disable()                                         # no cycle keeps the files
    try:
        there_and_back(tmp_path)
        deadline = time.monotonic() + 10                 # a thread that has just ended may still hold one
        while scratch_files(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert scratch_files(tmp_path) == []
    finally:
        gc.enable()
    assert os.listdir(tmp_path) == []                    # they never had names


def test_states_of_an_own_rule_may_be_called_like_scales(tmp_path: Path) -> None:
    class Own(ol.SGD):
        def rule(self, group: Any) -> Any:
            return "momentum", {"run_scale": 0.0}

    agrees(lambda params: Own(params, lr=0.1, momentum=0.9), tmp_path)


@pytest.mark.parametrize("room", range(7))
def test_steps_take_the_threads_that_there_are(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one that can't be started on, no other can; none is started behind the first bucket."""
    ours, theirs = model(), model()
    in_files, in_memory = ol.Adam(ours), train(ol.Adam(theirs), theirs)
    in_files.offload(tmp_path)
    start, left, stepped = threads.start_new_thread, [0], list[bool]()

    def limited(*task: Any) -> int:
        assert not stepped
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("can't start new thread")
        return start(*task)

    whole = streaming.of_parts.step
    monkeypatch.setattr(threads, "start_new_thread", limited)
    monkeypatch.setattr(streaming.of_parts, "step", lambda *given: (stepped.append(True), whole(*given)))
    for step in range(4):
        stepped, left[0] = [], room
        train(in_files, ours, [step])
    assert stepped
    assert streams(in_files)
    assert values(in_files) == values(in_memory)


def test_without_parameters_a_step_does_nothing(tmp_path: Path) -> None:
    optimizer = ol.Adam({"w": np.ones(10_000, np.float32)})
    optimizer.offload(tmp_path)
    optimizer.step(grads={"w": np.ones(10_000, np.float32)})
    optimizer.remove("w")
    with pytest.warns(UserWarning, match="changed nothing"):
        optimizer.step()


def test_a_folder_may_be_relative_to_where_the_program_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    optimizer = ol.Adam([np.ones(10_000, np.float32)])
    optimizer.offload("scratch")
    monkeypatch.chdir("/")
    optimizer.add_param_group({"params": [np.ones(20_000, np.float32)]})
    for group in optimizer.param_groups:
        [parameter] = group["params"]
        parameter.grad = np.ones_like(parameter.data)
    optimizer.step()
    assert optimizer.memory().in_files == 2 * 4 * 30_000
