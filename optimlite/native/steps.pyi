from collections.abc import Collection
from typing import Any

import numpy as np

from .parameters import AddressRanges
from .plans import Plan
from .runtime import Kernel

class Launch:
    plan: Plan
    cohort: int
    kernel: Kernel
    coefficients: dict[str, float]
    scalars: dict[str, float | int]
    def __init__(
        self, plan: Plan, cohort: int, coefficients: dict[str, float], scalars: dict[str, Any]
    ) -> None: ...

class PreparedStep:
    def __init__(self, launches: list[Launch], zero_grad: bool) -> None: ...
    def run(self) -> None: ...

class GroupPlanCore:
    group: dict[str, Any]
    scalars: tuple[str, ...]
    version: int | None
    plans: list[Plan]
    totals: list[np.ndarray]
    def __init__(self, group: dict[str, Any], scalars: tuple[str, ...], watched: tuple[str, ...]) -> None: ...
    def unchanged(self, version: int) -> bool: ...
    def remember(self, version: int) -> None: ...
    def bind(self, method: Any, memory: AddressRanges) -> None: ...
    def create_states(self, method: Any, created: list[tuple[dict[str, np.ndarray], str]]) -> bool: ...
    def launches(self, method: Any, launches: list[Launch], factor: float, max_abs: float) -> None: ...

def execute(launches: list[Launch]) -> None: ...
def check_coefficients(kernel: Kernel, coefficients: Collection[str]) -> None: ...
