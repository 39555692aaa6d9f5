# Data-parallel training: each rank has a share of the digits, and of the optimizer's state.
#
#     mpiexec -n 4 python examples/data_parallel.py              (pip install mpi4py mpich)
#     python examples/data_parallel.py --simulate 4              the same, bit for bit, in threads of one process
from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # ranks are processes already
import numpy as np
from mlp import MLP, Array, softmax_cross_entropy

import optimlite as ol
from optimlite import mpi

try:
    from sklearn.datasets import load_digits
except ImportError as missing:
    sys.exit(f"this example needs {missing.name}: pip install scikit-learn")

BATCH, WANTED_ACCURACY = 32, 0.95  # of each rank


def load_share(comm: Any) -> tuple[Array, Any, Array, Any]:
    """Every rank's own part of the images to train with, and all those for the test."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:-360], order[-360:]
    share = train[comm.rank :: comm.size][: len(train) // comm.size]  # equally many: all ranks step equally often
    return images[share], labels[share], images[test], labels[test]


def train(comm: Any, epochs: int, path: Path) -> float:
    images, labels, test_images, test_labels = load_share(comm)
    model = MLP([64, 512, 256, 10], seed=comm.rank)  # whatever ranks begin with,
    mpi.broadcast(model.parameters(), comm)  # they go on with rank 0's
    opt = mpi.Sharded(ol.AdamW(model.parameters(), lr=3e-3), comm)
    scheduler = ol.lr_scheduler.CosineAnnealingLR(opt, epochs)
    for epoch in range(epochs):
        order = np.random.default_rng((epoch, comm.rank)).permutation(len(images))
        for batch in np.array_split(order, len(order) // BATCH):
            _, grad = softmax_cross_entropy(model.forward(images[batch]), labels[batch])
            model.backward(grad)
            opt.step(max_grad_norm=1.0)  # the norm of the mean of all ranks' gradients
        scheduler.step()
    accuracy = float(np.mean(model.forward(test_images).argmax(axis=1) == test_labels))
    mpi.save(path, model=model.parameters(), optimizer=opt, scheduler=scheduler, accuracy=accuracy)
    state = sum(opt.memory().state.values())
    for rank, its in enumerate(comm.allgather(state)):
        if comm.rank == 0:
            print(f"rank {rank} has {its:,} bytes of state")
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--simulate", type=int, metavar="RANKS", help="threads instead of MPI's processes")
    options = parser.parse_args()
    path = Path(tempfile.gettempdir()) / "data_parallel.safetensors"
    if options.simulate:
        accuracy = mpi.simulate(options.simulate, train, options.epochs, path)[0]
    else:
        from mpi4py import MPI

        accuracy = train(MPI.COMM_WORLD, options.epochs, path)
        if MPI.COMM_WORLD.rank:
            return
    values = ol.load(path)  # one file, whoever reads it
    print(f"accuracy {accuracy:.3f} on the test images; {path.name} has {len(values['optimizer']['state'])} states")
    if accuracy < WANTED_ACCURACY:
        sys.exit(f"the accuracy should be {WANTED_ACCURACY}")


if __name__ == "__main__":
    main()
