"""What the engine asks of a method: the whole of what it knows of one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from .parameter import Parameter
from .state import StateMap

Group = dict[str, Any]
Recipe = tuple[str, dict[str, float]]            # a compiled rule, and its state arrays: name and initial value


class Method(Protocol):
    """An optimizer, as plans of its groups and its state dicts see it."""

    defaults: Mapping[str, Any]
    state: StateMap
    scalars: Mapping[str, float | int]
    line_states: Collection[str]
    _state_format: str | None

    def _check_group(self, group: Group) -> None: ...
    def _check_parameters(self) -> None: ...
    def rules(self, group: Group) -> tuple[Recipe, ...]: ...
    def which_rule(self, parameter: Parameter) -> int: ...
    def first_rule(self, group: Group) -> str | None: ...
    def totals(self, group: Group) -> dict[str, float]: ...
    def state_shapes(self, group: Group, parameter: Parameter) -> dict[str, tuple[int, ...]]: ...
    def coefficients(self, group: Group, state: dict[str, Any], first: bool) -> dict[str, float]: ...
    def leaves_zero_rows_unchanged(self, group: Group) -> bool: ...
