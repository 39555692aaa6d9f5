"""Every optimizer × format that can be spread, a row each, as a run of one process and of ranks leaves it: a hash."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

import optimlite as ol
from optimlite import mpi
from support import halves
from support.cases import CASES, Case
from support.ranks import gradients, model, summed

# The format of parameters, if they aren't as they are in `model`, and how their state is kept.
FORMATS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "float32": (None, {}), **{form: (None, {"state_dtype": form, "seed": 5}) for form in ("bfloat16", "int8")},
    **{f"{half} parameters, master {master}": (half, {"master": master, "seed": 5}) for half, master in halves.KINDS},
    "bfloat16 parameters, int8": ("bfloat16", {"state_dtype": "int8", "seed": 5})}
STEPS = 2                        # the second one with state, and without a gradient of "b"
LONGEST = 30                     # side of matrices that are decomposed
GIVEN: dict[str, Any] = {"max_grad_norm": 40.0, "max_grad_value": 0.3}


class Row(NamedTuple):
    case: Case
    format: str

    @property
    def id(self) -> str:
        return f"{self.case.id}, {self.format}"

    def fit(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.case.fit(tuple(min(n, LONGEST) for n in shape) if self.case.whole else shape)

    def made(self) -> ol.Optimizer:
        half, options = FORMATS[self.format]
        params: dict[str, Any] = model(self.fit)
        if half is not None:
            params |= {name: halves.made(array, half, name) for name, array in params.items() if name != "C"}
        return self.case.optimizer(params, **self.case.options, **options)       # type: ignore[call-arg]

    def taken(self) -> bool:
        """Whether the optimizer takes the format, in one process."""
        try:
            self.made()
        except (TypeError, ValueError):
            return False
        return True

    def alone(self, ranks: int) -> str:
        """One process, which has the gradients of all."""
        opt = self.made()
        for step in range(STEPS):
            opt.step(grads=summed(model(self.fit), ranks, step), grad_scale=1 / ranks, **GIVEN)
        return digest(opt, opt.state_dict())

    def spread(self, comm: Any) -> str:
        opt = mpi.Sharded(self.made(), comm)
        for step in range(STEPS):
            opt.step(grads=gradients(model(self.fit), comm.rank, step), **GIVEN)
        return digest(opt, mpi.gathered(opt))


def digest(opt: Any, state_dict: dict[str, Any]) -> str:
    """Of parameters, what a group has learnt, and all state."""
    found = hashlib.sha256()
    for group in opt.param_groups:
        for p in group["params"]:
            found.update(np.ascontiguousarray(p.data).tobytes())
    for group in state_dict["param_groups"]:
        found.update(repr(sorted((key, value) for key, value in group.items() if key != "params")).encode())
    for at, entries in sorted(state_dict["state"].items()):
        for key, value in sorted(entries.items()):
            found.update(f"{at} {key} {np.shape(value)}".encode() + np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


# An optimizer with the first of its options in the table; all options are tests/mpi/test_sharded.py's.
FIRST = list({case.optimizer: case for case in reversed(CASES)}.values())[::-1]
ROWS = [row for case in FIRST for name in FORMATS if (row := Row(case, name)).taken()]
