"""The kinds of rows beside a plain step: each is a module with `rows` and `targets`, and a title here."""

from __future__ import annotations

from . import (
    bridges,
    checkpoints,
    closures,
    elementwise,
    formats,
    gradients,
    measured,
    ranks,
    sparse,
    training_loop,
    watched,
)

MODULES = (elementwise, measured, formats, gradients, sparse, closures, training_loop, watched, bridges,
           checkpoints, ranks)

TITLES = {
    "elementwise": "{case}: time of a step, in times of optimlite's",
    "measured": "{case}, after measuring each tensor: time of a step, in times of optimlite's",
    "formats": "Adam with state in fewer bytes, {case}: time of a step, in times of float32 state",
    "eight bits": "AdamW with state in eight bits, {case}: time of a step, in times of optimlite's",
    "all bfloat16": "AdamW, all in bfloat16, {case}: time of a step, in times of optimlite's",
    "gradients": "AdamW, clip + step + zero (limit: the step's bytes alone), in times of optimlite's",
    "subnormal": "AdamW with moments that decayed",
    "sparse": "SparseAdam, 4,096 rows of 64 touched",
    "closures": "A million float32 unknowns: an iteration beside the closure, in times of optimlite's",
    "training loop": "Adam, {case}, {pause:g} s of computing between steps, beside {busy} busy processes",
    "watched": "Adam that is measured at every step: time of a step, in times of one that isn't",
    "bridges": "Adam of torch's tensors, {gradients} gradients: time of a step, in times of optimlite.torch's",
    "checkpoint": "Checkpoint of 1.5 GB, files in the page cache",
    "ranks": "Adam over 4 ranks of MPI on this machine, {elements:,} elements: time of a step, in times of optimlite's",
    "overhead": "Overhead of optimlite",
}

# Rounds with --quick by case; 0 leaves it out.
QUICK = {"subnormal": 5, formats.IN_CACHE.name: 5, measured.MATRIX.name: 3, **dict.fromkeys(sparse.TABLES, 3),
         **dict.fromkeys(closures.CONTENDERS, 1), **dict.fromkeys(training_loop.NAMES, 2), checkpoints.CASE: 0,
         ranks.CASE: 0}
