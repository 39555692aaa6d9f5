"""Checkpoints of 1.5 GB (GPT-2's parameters and Adam's state) against raw reads and writes, torch, NumPy, safetensors.

    python -m benchmarks.checkpoints [--rounds N] [--folder DIR] [--model NAME] [--json FILE] [--targets]

The files lie in the page cache (a memory-backed folder, if the machine has one) and nobody calls fsync: what is
measured is the software, not a disk.  Every contender runs in every round, the order turns, figures are medians.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import optimlite as ol

from .cases import MODELS

# (what is at least `ratio` times as fast, as what, ratio)
TARGETS = (
    ("save", "raw write", 0.8), ("save", "torch.save", 1.25), ("save", "np.savez", 1.25),
    ("restore, verify=False", "torch.load + load_state_dict", 4.0),
    ("restore, verify=False", "safetensors load_file + copy", 3.0),
    ("restore", "torch.load + load_state_dict", 1.5), ("restore", "safetensors load_file + copy", 1.5),
)
MOST_MEMORY = 64 << 20               # bytes beyond what is there already


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


def contenders(training: Training, folder: Path) -> dict[str, tuple[Path, Callable[[], object]]]:
    """Each with the file that it writes or reads; writers before the readers of their file."""
    parts: dict[str, Any] = {"model": training.model, "optimizer": training.optimizer}

    def raw_write() -> None:
        with open(folder / "raw", "wb", buffering=0) as file:
            for array in training.arrays.values():
                buffer = as_buffer(array)
                while buffer:
                    buffer = buffer[file.write(buffer):]

    def raw_read() -> None:
        with open(folder / "raw", "rb", buffering=0) as file:
            for array in training.arrays.values():
                buffer = as_buffer(array)
                while buffer:
                    buffer = buffer[file.readinto(buffer):]        # type: ignore[attr-defined]

    found: dict[str, tuple[Path, Callable[[], object]]] = {
        "raw write": (folder / "raw", raw_write),
        "save": (folder / "ours", lambda: ol.save(folder / "ours", **parts, fsync=False)),
        "np.savez": (folder / "a.npz", lambda: np.savez(folder / "a.npz", **training.arrays)),      # type: ignore[arg-type]
        "raw read": (folder / "raw", raw_read),
        "restore": (folder / "ours", lambda: ol.restore(folder / "ours", **parts)),
        "restore, verify=False": (folder / "ours", lambda: ol.restore(folder / "ours", **parts, verify=False)),
    }
    if importlib.util.find_spec("safetensors"):
        import safetensors.numpy

        def library() -> None:
            loaded = safetensors.numpy.load_file(folder / "library")
            for name, array in training.arrays.items():
                np.copyto(array, loaded[name])

        found["safetensors save_file"] = (folder / "library",
                                          lambda: safetensors.numpy.save_file(training.arrays, folder / "library"))
        found["safetensors load_file + copy"] = folder / "library", library
    if importlib.util.find_spec("torch"):
        import torch

        model, optimizer = training.torch()

        def load() -> None:
            loaded = torch.load(folder / "torch")
            model.load_state_dict(loaded["model"])
            optimizer.load_state_dict(loaded["optimizer"])

        found["torch.save"] = (folder / "torch", lambda: torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "torch"))
        found["torch.load + load_state_dict"] = folder / "torch", load
    return found


def measure(found: dict[str, tuple[Path, Callable[[], object]]], rounds: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in found}
    writers = [name for name in found if "sav" in name or "write" in name]
    readers = [name for name in found if name not in writers]
    for turn in range(rounds + 1):                           # the first warms up, and isn't counted
        for names in (writers, readers):
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                path, run = found[name]
                if names is writers:
                    path.unlink(missing_ok=True)             # nobody pays for the removal of an old file
                start = time.perf_counter()
                run()
                if turn:
                    samples[name].append(time.perf_counter() - start)
                if name == "np.savez":
                    path.unlink()
    return samples


def extra_memory(run: Callable[[], object]) -> int:
    """Bytes by which the resident memory grows at most while something runs (Linux)."""
    def status(key: str) -> int:
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
        return int(line.split()[1]) * 1024

    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoints",
                                     description="Checkpoints against raw reads and writes, torch, NumPy, safetensors.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    parser.add_argument("--model", default="gpt2-small", choices=list(MODELS))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--targets", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        training = Training(MODELS[options.model])
        found = contenders(training, folder)
        samples = measure(found, options.rounds)
        memory = {name: extra_memory(found[name][1]) for name in ("save", "restore", "restore, verify=False")}
    finally:
        shutil.rmtree(folder)
    times = {name: median(values) for name, values in samples.items()}
    print(f"{training.nbytes / 1e9:.2f} GB in {len(training.arrays)} arrays, {ol.get_num_threads()} threads")
    for name, seconds in times.items():
        print(f"  {name:<30} {seconds:7.3f} s  {training.nbytes / seconds / 1e9:6.2f} GB/s"
              + (f"  {memory[name] / 2**20:6.1f} MB more memory" if name in memory else ""))
    checked = [{"of": ours, "over": theirs, "ratio": times[theirs] / times[ours], "at_least": ratio,
                "met": times[theirs] / times[ours] >= ratio} for ours, theirs, ratio in TARGETS if theirs in times]
    for entry in checked:
        print(f"  {entry['of']}: {entry['ratio']:.2f} times as fast as {entry['over']} (target {entry['at_least']})"
              + ("" if entry["met"] else "  MISSED"))
    if options.json:
        Path(options.json).write_text(json.dumps({"samples": samples, "memory": memory, "targets": checked}, indent=1))
    met = all(entry["met"] for entry in checked) and max(memory.values()) <= MOST_MEMORY
    return 1 if options.targets and not met else 0


if __name__ == "__main__":
    raise SystemExit(main())
