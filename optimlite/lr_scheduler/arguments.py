"""What only schedules ask of their arguments: lists, one value per group, a place inside a group."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from ..checks import at_least, number, real, shown
from ..engine.optimizer import Optimizer

T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])


def alone(step: Method) -> Method:
    """A method without arguments that says so; Python's own message counts `self` among them."""

    @functools.wraps(step)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            given = ", ".join([*map(shown, args), *(f"{name}={shown(value)}" for name, value in kwargs.items())])
            raise TypeError(f"{type(self).__name__}.step() takes no arguments, since it counts by itself, got {given}; "
                            "only ReduceLROnPlateau follows a metric, and at(t) gives the values of any count")
        step(self)

    return checked  # type: ignore[return-value]


def listed(name: str, what: str, values: Any) -> list[Any]:
    """The items of anything that can be iterated over, except text and dicts."""
    try:
        items = None if isinstance(values, (str, bytes, Mapping)) else iter(values)
    except TypeError:
        items = None
    if items is None:
        raise TypeError(f"`{name}` must be a list of {what}, got {shown(values)}")
    return list(items)


def counts(name: str, values: Any) -> list[int]:
    return [at_least(0)(name, each) for each in listed(name, "integers, such as [30, 80]", values)]


def power(base: float, exponent: float) -> float:
    """Infinite where Python's own raises OverflowError, as a product is: the next step refuses that rate by name."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


def function(name: str, value: Any) -> Any:
    if not callable(value):
        raise TypeError(f"`{name}` must be a function, got {type(value).__name__}")
    return value


def result_of(name: str, fn: Callable[[Any], Any], t: float) -> float:
    """What a user's function makes of a count, as a float."""
    value = fn(t)
    if value is None:
        raise TypeError(f"`{name}` must return a number, got None for {t}; does it lack a `return`?")
    return real(value, f"`{name}` must return a number")


def an_optimizer(value: Any) -> Optimizer:
    if not isinstance(value, Optimizer):
        cure = "; torch.optim.lr_scheduler drives those of optimlite.torch" if hasattr(value, "inner") else ""
        raise TypeError(f"`optimizer` must be an optimlite.Optimizer, got {type(value).__name__}{cure}")
    return value


class PerGroup(Generic[T]):
    """An argument given once, for all groups and those added later, or as a list with one entry per group."""

    def __init__(self, name: str, value: Any, optimizer: Any, check: Callable[[str, Any], T]) -> None:
        groups = len(an_optimizer(optimizer).param_groups)
        self.name = name
        self.shared = not isinstance(value, (list, tuple))
        self.values = [check(name, each) for each in ([value] if self.shared else value)]
        if not self.shared and len(self.values) != groups:
            raise ValueError(f"`{name}` must have one entry per group: {groups}, got {len(self.values)}")

    def __getitem__(self, i: int) -> T:
        if self.shared:
            i = 0
        elif i >= len(self.values):
            raise ValueError(f"`{self.name}` lists {len(self.values)} groups, but the optimizer has more by now; "
                             f"add the new group's entry with `scheduler.{self.name}.append(...)`")
        return self.values[i]

    def append(self, value: T) -> None:
        self.values.append(value)

    def __repr__(self) -> str:
        return repr(self.values[0] if self.shared else self.values)


class Hyperparameter:
    """Where a group keeps a number: under a name (`lr`), or in a tuple under a name (`betas[0]`)."""

    def __init__(self, key: str, optimizer: Optimizer) -> None:
        match = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", key) if isinstance(key, str) else None
        if match is None:
            raise ValueError(f"`key` must be a name such as 'lr' or 'betas[0]', got {key!r}")
        self.key = key
        self.initial = f"initial_{key}"
        self.name = match[1]
        self.index = None if match[2] is None else int(match[2])
        for i, group in enumerate(optimizer.param_groups):
            try:
                number(key, self._held(group))
            except (KeyError, IndexError, TypeError):
                known = ", ".join(sorted(optimizer.defaults))
                raise ValueError(f"`key` must name a number in every group, got {key!r}, which group {i} doesn't have; "
                                 f"its hyper-parameters are {known}") from None

    def _held(self, group: Mapping[str, Any]) -> Any:
        return group[self.name] if self.index is None else group[self.name][self.index]

    def get(self, group: Mapping[str, Any]) -> float:
        value = self._held(group)
        return value if type(value) is float else float(number(self.key, value))

    def get_initial(self, group: Mapping[str, Any]) -> float:
        """The value that the first scheduler of this number found in the group."""
        return float(number(self.initial, group[self.initial])) if self.initial in group else self.get(group)

    def set(self, group: dict[str, Any], value: float) -> None:
        if self.index is None:
            group[self.name] = value
        else:
            old = group[self.name]
            group[self.name] = (*old[:self.index], value, *old[self.index + 1:])
