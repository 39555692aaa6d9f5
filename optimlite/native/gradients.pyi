from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .parameters import AddressRanges
from .plans import Plan
from .runtime import Kernel

class BoundGradients:
    def disjoint(self, plans: list[Plan]) -> bool: ...
    def sum(
        self, plans: list[Plan], level: str, terms: Callable[[list[Plan], str], list[tuple[Kernel, Plan]]]
    ) -> float: ...

def not_zeroable_in_place(plans: list[Plan]) -> list[Any]: ...
def clippable_in_place(parameters: Iterable[Any], memory: AddressRanges) -> list[np.ndarray] | None: ...
def in_parameter_order(parameters: Iterable[Any]) -> list[np.ndarray]: ...
