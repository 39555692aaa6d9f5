"""State that is larger than memory, beside the disk's bandwidth and the bits of a run in memory.

    python -m benchmarks.offload FOLDER [--gigabytes 3] [--limit 1] [--steps 5]

One process has so many gigabytes of state under RLIMIT_DATA, which counts what it has in memory of its own, another has
all in memory; both train the same model.  Before and after each step, the disk is measured: as many blocks of 8 MB read
and written back past the page cache (O_DIRECT) as take a gigabyte each way, by 1, 2 and 4 threads, of which the best
counts.  State goes past the page cache, too.  Parameters and gradients in files are thrown out of it before each step
(fsync, MADV_DONTNEED, POSIX_FADV_DONTNEED), and the step is timed until its parameters are on the disk.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from statistics import median
from typing import Any

import numpy as np

import optimlite as ol

BLOCK = 8 << 20
TENSOR = 12_500_000              # elements
STATE = {"memory": 10, "files": 8}       # bytes for each element: of bfloat16 parameters, and of float32 ones
TITLE = {"memory": "bfloat16 parameters in memory", "files": "float32 parameters and gradients in files"}


class Model:
    """bfloat16 parameters in memory, all with the same gradient; or float32 parameters and gradients in files."""

    def __init__(self, kind: str, folder: str, tensors: int) -> None:
        self.folder, self.maps = folder, list[np.memmap[Any, Any]]()
        if kind == "memory":
            bits = np.random.default_rng(0).standard_normal(TENSOR, np.float32).view(np.uint32) >> 16
            self.arrays = [bits.astype(np.uint16) for _ in range(tensors)]
            self.params: list[Any] = [ol.Parameter(bits, dtype="bfloat16") for bits in self.arrays]
            self.gradients: list[Any] = [np.empty(TENSOR, np.float32)] * tensors
            self.moved = tensors * TENSOR * 20
        else:
            self.params = self.arrays = [self.mapped() for _ in range(tensors)]
            self.gradients = [self.mapped() for _ in range(tensors)]
            self.moved = tensors * TENSOR * 28

    def mapped(self) -> np.ndarray:
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            self.maps.append(np.memmap(file.name, np.float32, "w+", shape=(TENSOR,)))
        self.maps[-1][...] = np.random.default_rng(len(self.maps)).standard_normal(TENSOR, np.float32)
        return self.maps[-1]

    def new_gradients(self, step: int) -> None:
        for number, gradient in enumerate({id(array): array for array in self.gradients}.values()):
            np.random.default_rng([step, number]).standard_normal(out=gradient, dtype=np.float32)

    def on_disk(self, forget: bool) -> None:
        """Has all that is in files written, and forgets it, perhaps."""
        for array in self.maps:
            with open(str(array.filename), "rb") as file:
                os.fsync(file.fileno())
                if forget:
                    array._mmap.madvise(mmap.MADV_DONTNEED)      # type: ignore[attr-defined]
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        for array in self.maps:
            os.unlink(str(array.filename))


def bandwidth(folder: str) -> float:
    """Bytes a second that the disk reads and writes together."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as plain:
        size, blocks = 1 << 30, [mmap.mmap(-1, BLOCK) for _ in range(4)]
        os.posix_fallocate(plain.fileno(), 0, size)
        fd = os.open(f"/proc/self/fd/{plain.fileno()}", os.O_RDWR | os.O_DIRECT)
        for at in range(0, size, BLOCK):
            os.pwritev(fd, blocks[:1], at)
        best = max(2 * size / by_threads(fd, size, blocks[:count]) for count in (1, 2, 4))
        os.close(fd)
    return best


def by_threads(fd: int, size: int, blocks: list[mmap.mmap]) -> float:
    places, lock = iter(range(0, size, BLOCK)), threading.Lock()

    def work(block: mmap.mmap) -> None:
        while True:
            with lock:
                at = next(places, None)
            if at is None:
                return
            os.preadv(fd, [block], at)
            os.pwritev(fd, [block], at)

    threads = [threading.Thread(target=work, args=(block,)) for block in blocks]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) * 1024


def digest(model: Model, optimizer: ol.Optimizer) -> int:
    found = 0
    for array in [*model.arrays, *(array for state in optimizer.state.values() for array in state.values())]:
        flat = array.reshape(-1)
        for at in range(0, flat.size, 1 << 20):
            found = zlib.crc32(flat[at:at + (1 << 20)].tobytes(), found)
    return found


def run(kind: str, folder: str, tensors: int, steps: int, limit: float) -> None:
    """In a process of its own; without a limit, in memory."""
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 1e9), int(limit * 1e9)))
    model, ratios, most = Model(kind, folder, tensors), [], 0
    try:
        optimizer = ol.AdamW(model.params)
        if limit:
            optimizer.offload(folder)
        for step in range(steps + 1):
            model.new_gradients(step)
            model.on_disk(forget=True)
            before = bandwidth(folder) if limit else 1.0
            begun = time.perf_counter()
            optimizer.step(grads=model.gradients)
            model.on_disk(forget=False)
            took = time.perf_counter() - begun
            most = max(most, status("RssAnon"))
            if limit:
                disk, ours = (before + bandwidth(folder)) / 2, model.moved / took
                ratios.append(ours / disk)
                print(f"step {step}: {took:5.2f} s, {ours / 1e6:5.0f} MB/s, disk {disk / 1e6:5.0f} MB/s, "
                      f"ratio {ours / disk:.2f}", flush=True)
        if limit:
            print(f"without the first: median {median(ratios[1:]):.2f} ({min(ratios[1:]):.2f} to "
                  f"{max(ratios[1:]):.2f}); state {sum(optimizer.memory().state.values()) / 1e9:.2f} GB; of its own in "
                  f"memory {most / 1e9:.2f} GB, with files {status('VmHWM') / 1e9:.2f} GB", flush=True)
        print(f"digest {digest(model, optimizer):08x}")
    finally:
        model.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offload", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--run", choices=STATE, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(given.run, given.folder, round(given.gigabytes), given.steps, given.limit)
        return
    same = True
    for kind, size in STATE.items():
        tensors = max(1, round(given.gigabytes * 1e9 / size / TENSOR))
        print(f"{TITLE[kind]}, {tensors} x {TENSOR:,} elements, AdamW", flush=True)
        digests = []
        for limit in (given.limit, 0.0):
            command = [sys.executable, "-m", "benchmarks.offload", given.folder, "--run", kind, "--steps",
                       str(given.steps), "--limit", str(limit), "--gigabytes", str(tensors)]
            text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            print("\n".join(text.splitlines()[:-1]), end="\n" if limit else "", flush=True)
            digests.append(text.splitlines()[-1])
        same &= digests[0] == digests[1]
        print("the bits of state in memory" if digests[0] == digests[1] else f"other bits: {digests}", flush=True)
    sys.exit(not same)


if __name__ == "__main__":
    main()
