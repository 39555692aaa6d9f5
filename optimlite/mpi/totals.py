"""Numbers of whole groups, such as a distance: each rank measures its share, and all get the sums of one process."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np

from ..engine.optimizer import Optimizer
from ..engine.parts import Part, kernels_of, plans_of
from ..engine.rule_optimizer import RuleOptimizer

Measured = tuple[Any, Part, Any, np.ndarray, float]      # the plans of a group, a part, its cohort, sums, elements


class Totals:
    """What a share asks behind the pass that measures.  All ranks take part, also those that have nothing of a group.

    `optimizer`: the one whose groups have the totals; `method`: the one that has the rule.
    """

    def __init__(self, comm: Any, optimizer: Optimizer, method: RuleOptimizer, mine: Mapping[int, Part]) -> None:
        self.comm, self.optimizer, self.method, self.mine = comm, optimizer, method, mine
        self.numbers = {id(part): at for at, part in mine.items()}
        self.group_of = [number for number, group in enumerate(method.param_groups) for _ in group["params"]]
        self.by_group = np.array([any(kernel.by_group for kernel in kernels_of(method, group, parameter))
                                  for group in method.param_groups for parameter in group["params"]], bool)
        self.asked = False

    def needed(self) -> bool:
        return bool(self.by_group.any()) or any(map(self.optimizer.totals, self.optimizer.param_groups))

    def __call__(self, measured: list[Measured]) -> list[tuple[Any, np.ndarray, float]]:
        """Sums over the blocks of each parameter, in the order of a process that has all of them."""
        self.asked = True
        plans, groups, first = plans_of(self.method), dict[int, Any](), dict[Any, int]()
        mine = []
        for group, part, cohort, sums, count in measured:
            at = self.numbers[id(part)]
            groups[plans[at][0]] = group
            mine.append((at, part.offset, repr(cohort), sums, count))
        rows = sorted((row for theirs in self.comm.allgather(mine) for row in theirs), key=lambda row: row[:2])
        for at, _, cohort, _, _ in rows:
            first.setdefault((plans[at], cohort), at)
        rows.sort(key=lambda row: (plans[row[0]], first[plans[row[0]], row[2]], row[:2]))
        found = []
        for at, of_parameter in groupby(rows, key=lambda row: row[0]):
            _, _, _, blocks, counts = zip(*of_parameter, strict=True)
            found.append((groups.get(plans[at][0]), np.concatenate(blocks), sum(counts)))
        return found

    def end(self, flags: np.ndarray) -> None:
        """Behind a step: who has nothing of a group learns where its totals are now."""
        if (flags & self.by_group).any() and not self.asked:
            self([])
        self.asked, moved = False, {}
        stepped = {self.group_of[at] for at, part in self.mine.items() if part.grad is not None}
        totals = {(number, name): group[name] for number, group in enumerate(self.optimizer.param_groups)
                  for name in self.optimizer.totals(group)}
        for theirs in self.comm.allgather({key: float(totals[key]) for key in totals if key[0] in stepped}):
            moved.update(theirs)
        for key, value in moved.items():
            if key[0] not in stepped:
                totals[key][...] = value
