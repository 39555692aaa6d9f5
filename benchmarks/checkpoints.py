"""Checkpoints of 1.5 GB (GPT-2's parameters and Adam's state) against raw transfers, torch, NumPy, safetensors.

What is measured is the software, not a disk: nobody calls fsync, what is written goes to a memory-backed folder, if the
machine has one, and what is read lies in the page cache, in files of the folder for temporary ones (TMPDIR).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import optimlite as ol

from .cases import MODELS, Shapes
from .measure import Contender
from .rows import Result, Row

CASE, ROUNDS = "checkpoint", 7
# (what is at least `ratio` times as fast, as what, ratio)
TARGETS = (
    ("save", "raw write", 0.8), ("save", "torch.save", 1.25), ("save", "np.savez", 1.25),
    ("restore unverified", "torch.load + load_state_dict", 4.0),
    ("restore unverified", "safetensors load_file + copy", 3.0),
    ("restore", "torch.load + load_state_dict", 1.5), ("restore", "safetensors load_file + copy", 1.5),
)
MOST_MEMORY = 64 << 20               # bytes beyond what is there already, for each of
PIECE = 1 << 18                      # elements that a thread copies at a time
READ = 8 << 20                       # bytes that a thread reads at a time
LEAD = 64                            # bytes before a raw file's arrays, without which copies are slow on some CPUs
SPARING = ("save", "restore", "restore unverified")


class Training:
    """Parameters and Adam's state, in optimlite's hands and, as copies, in torch's."""

    def __init__(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        random = np.random.default_rng(0)
        self.model = {f"p{index}": random.random(shape, np.float32) for index, shape in enumerate(shapes)}
        self.optimizer = ol.Adam(self.model)
        self.arrays = {f"model.{name}": array for name, array in self.model.items()}
        for name, array in self.model.items():
            state = self.optimizer.state[name]
            state.update(step=np.int64(1), exp_avg=random.random(array.shape, np.float32),
                         exp_avg_sq=random.random(array.shape, np.float32))
            self.arrays.update({f"{name}.{key}": value for key, value in state.items()})
        self.nbytes = sum(array.nbytes for array in self.arrays.values())

    def torch(self) -> tuple[Any, Any]:
        import torch

        model = torch.nn.ParameterList([torch.from_numpy(array.copy()) for array in self.model.values()])
        optimizer = torch.optim.Adam(model.parameters())
        for parameter, name in zip(model.parameters(), self.model, strict=True):
            state = self.optimizer.state[name]
            optimizer.state[parameter] = {"step": torch.tensor(1.0),
                                          "exp_avg": torch.from_numpy(state["exp_avg"].copy()),
                                          "exp_avg_sq": torch.from_numpy(state["exp_avg_sq"].copy())}
        return model, optimizer


def as_buffer(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1)).cast("B")


class Transfer:
    """Writes a file, or reads one: before the clock starts, what writers wrote is removed, and a reader's file is read.

    In between as many bytes are written elsewhere and removed: a virtual machine's free memory may not be there yet,
    and who gets it first waits up to ten times as long as for the write.
    """

    def __init__(self, run: Callable[[], object], nbytes: int, written: Path, read: Path | None = None) -> None:
        self.run, self.nbytes, self.written, self.read = run, nbytes, written, read

    def enter(self) -> None:
        self.clear()
        with open(self.written / "spare", "wb", buffering=0) as file:
            for _ in range(0, self.nbytes, 1 << 20):
                file.write(bytes(1 << 20))
        self.clear()
        if self.read:
            with open(self.read, "rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass

    def clear(self) -> None:
        for path in self.written.iterdir():
            path.unlink()

    def __call__(self) -> None:
        self.run()


def contenders(shapes: Shapes) -> Mapping[str, Contender]:
    training = Training(shapes)
    written = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    cached = Path(tempfile.mkdtemp())
    for folder in (written, cached):
        weakref.finalize(training, shutil.rmtree, folder)
    parts: dict[str, Any] = {"model": training.model, "optimizer": training.optimizer}

    def raw_write(folder: Path = written) -> None:
        with open(folder / "raw", "wb", buffering=0) as file:
            file.write(bytes(LEAD))
            for array in training.arrays.values():
                buffer = as_buffer(array)
                while buffer:
                    buffer = buffer[file.write(buffer):]

    ends = LEAD + np.cumsum([array.nbytes for array in training.arrays.values()])
    parts_of_file = [(as_buffer(array)[at:at + READ], int(end) - array.nbytes + at)
                     for array, end in zip(training.arrays.values(), ends, strict=True)
                     for at in range(0, array.nbytes, READ)]

    def raw_read() -> None:                      # by all threads: the least that any restore into live arrays costs
        with open(cached / "raw", "rb") as file, ThreadPoolExecutor(ol.get_num_threads()) as pool:
            if sum(pool.map(lambda part: os.preadv(file.fileno(), part[:1], part[1]), parts_of_file)) < ends[-1] - LEAD:
                raise OSError("a read was cut short")

    copies = [array.copy() for array in training.arrays.values()]
    pairs = [(to.reshape(-1)[at:at + PIECE], of.reshape(-1)[at:at + PIECE])
             for to, of in zip(training.arrays.values(), copies, strict=True) for at in range(0, to.size, PIECE)]

    def memory_copy() -> None:                   # for comparison: a read from the page cache copies, too
        with ThreadPoolExecutor(ol.get_num_threads()) as pool:
            for _ in pool.map(lambda pair: np.copyto(*pair), pairs):
                pass

    def save(folder: Path = written) -> None:
        ol.save(folder / "ours", **parts, fsync=False)

    raw_write(cached)
    save(cached)
    def restore(verify: bool) -> None:
        ol.restore(cached / "ours", **parts, verify=verify)

    transfer = partial(Transfer, nbytes=training.nbytes, written=written)
    found = {
        "raw write": transfer(raw_write),
        "save": transfer(save),
        "np.savez": transfer(lambda: np.savez(written / "a.npz", **training.arrays)),      # type: ignore[arg-type]
        "memory copy": transfer(memory_copy),
        "raw read": transfer(raw_read, read=cached / "raw"),
        "restore": transfer(partial(restore, True), read=cached / "ours"),
        "restore unverified": transfer(partial(restore, False), read=cached / "ours"),
    }
    if importlib.util.find_spec("safetensors"):
        import safetensors.numpy

        def library() -> None:
            loaded = safetensors.numpy.load_file(cached / "library")
            for name, array in training.arrays.items():
                np.copyto(array, loaded[name])

        safetensors.numpy.save_file(training.arrays, cached / "library")
        found["safetensors load_file + copy"] = transfer(library, read=cached / "library")
    if importlib.util.find_spec("torch"):
        import torch

        model, optimizer = training.torch()

        def torch_save(folder: Path = written) -> None:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "torch")

        def torch_load() -> None:
            loaded = torch.load(cached / "torch")
            model.load_state_dict(loaded["model"])
            optimizer.load_state_dict(loaded["optimizer"])

        torch_save(cached)
        found["torch.save"] = transfer(torch_save)
        found["torch.load + load_state_dict"] = transfer(torch_load, read=cached / "torch")
    os.sync()                                    # or the disk would be written to meanwhile
    return found


def extra_memory(run: Callable[[], object]) -> int:
    """Bytes by which the resident memory grows at most while something runs (Linux)."""
    def status(key: str) -> int:
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
        return int(line.split()[1]) * 1024

    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


class Checkpoints(Row):
    """Times as of every row, and peaks of memory where the system tells them."""

    def run(self) -> Result:
        present = self.build()
        result = Row.run(replace(self, build=lambda: present))
        if os.access("/proc/self/clear_refs", os.W_OK):
            result["memory"] = {name: extra_memory(present[name]) for name in SPARING}
        return result


def rows() -> Iterator[Row]:
    shapes = MODELS["gpt2-small"]
    elements = sum(int(np.prod(shape)) for shape in shapes)
    about = {"optimizer": "Adam", "tensors": len(shapes), "elements": elements, "bytes": 12 * elements}
    yield Checkpoints("checkpoint", CASE, about, ROUNDS, partial(contenders, shapes), at_least=0.0)


def lines(result: Result) -> Iterator[str]:
    for name, seconds in result["seconds"].items():
        more = result.get("memory", {}).get(name)
        yield (f"  {name:<30} {seconds:7.3f} s {result['gb_per_s'][name]:6.2f} GB/s"
               + (f"{more / 2**20:7.1f} MB of more memory" if more is not None else ""))


def targets(results: list[Result]) -> Iterator[dict[str, Any]]:
    """What saving and restoring should reach, in the form of report.targets."""
    for result in results:
        if result["kind"] != "checkpoint":
            continue
        seconds = result["seconds"]
        for ours, theirs, least in TARGETS:
            if theirs in seconds:
                ratio = seconds[theirs] / seconds[ours]
                yield {"what": f"checkpoint, {ours}: {theirs} / optimlite", "target": f">= {least:g}",
                       "measured": ratio, "met": ratio >= least}
        for name, more in result.get("memory", {}).items():
            ratio = MOST_MEMORY / max(more, 1)
            yield {"what": f"checkpoint, {name}: 64 MB / peak of more memory", "target": ">= 1", "measured": ratio,
                   "met": ratio >= 1}
