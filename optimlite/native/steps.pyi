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

class Probe:
    gradient: float
    before: float
    change: float
    parameters: list[Any]
    def __init__(self, each: bool) -> None: ...
    def rows(self) -> list[tuple[Any, float, float, float]]: ...

class GroupPlanCore:
    group: dict[str, Any]
    scalars: tuple[str, ...]
    watched: tuple[str, ...]
    counts: bool
    version: int | None
    plans: list[Plan]
    totals: list[np.ndarray]
    of_modifier: dict[str, float]
    special: bool
    def __init__(self, group: dict[str, Any], special: bool = False) -> None: ...
    def remember(self, version: int) -> None: ...
    def bind(self, method: Any, memory: AddressRanges) -> None: ...
    def create_states(self, method: Any, created: list[tuple[dict[str, np.ndarray], str]]) -> None: ...
    def launches(self, method: Any, launches: list[Launch], factor: float, max_abs: float) -> None: ...

def execute(launches: list[Launch]) -> None: ...
def changed(groups: list[Any], param_groups: list[dict[str, Any]], version: int) -> list[int] | None: ...
def bind(method: Any, groups: list[Any], memory: AddressRanges) -> None: ...
def run_step(
    method: Any,
    groups: list[Any],
    created: list[tuple[dict[str, np.ndarray], str]],
    factor: float,
    max_abs: float,
    zero_grad: bool,
    probe: Probe | None = None,
) -> int: ...
def check_coefficients(kernel: Kernel, coefficients: Collection[str]) -> None: ...
