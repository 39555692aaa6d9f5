"""Optimizers that step another one in their own way, and leave everything else to it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

from ..checks import shown
from .optimizer import Optimizer
from .rule_optimizer import RuleOptimizer


class Wrapper(Optimizer):
    """The base of wrappers: `wrapper.optimizer` is what they step.

    Groups, state, gradients, hooks and counts are the other's, so a scheduler, a checkpoint or a hook may be made with
    either.  Attributes that a wrapper lacks are looked up in the other.
    """

    optimizer: RuleOptimizer | Wrapper
    own: ClassVar[tuple[str, ...]] = ()          # its own attributes: what it is made with
    own_state: ClassVar[tuple[str, ...]] = ()    # state that it adds to the other's
    steps_another = True

    def __init__(self, optimizer: Any) -> None:
        name = type(self).__name__
        if not isinstance(optimizer, (RuleOptimizer, Wrapper)):
            got = type(optimizer).__name__ if isinstance(optimizer, Optimizer) else shown(optimizer)
            raise TypeError(f"{name} needs an optimizer with a compiled rule, got {got}; use one such as "
                            f"{name}(ol.Adam(params))")
        self.optimizer = optimizer

    @property
    def base(self) -> RuleOptimizer:
        """The optimizer that has the rule, if wrappers are wrapped."""
        found = self.optimizer
        while isinstance(found, Wrapper):
            found = found.optimizer
        return found

    def __getattr__(self, name: str) -> Any:
        if name == "optimizer" or name.startswith("__"):         # before there is one, as in a copy
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        return getattr(self.optimizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        base = None if name in ("optimizer", *self.own) else self.base
        if base is not None and (name in base.checks or name in base.__dict__):
            setattr(base, name, value)           # a hyper-parameter is refused, with where it belongs
        else:
            super().__setattr__(name, value)

    def step(self, closure: Callable[[], Any] | None = None, **options: Any) -> Any:
        """Steps the optimizer, whose own arguments it takes."""
        return self.optimizer.step(closure, **options)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__dict__.update(saved)

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.optimizer!r}"


def passed_on(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that calls the other's, with the signature and the docstring of `Optimizer`'s."""
    name = method.__name__

    @functools.wraps(method)
    def call(wrapper: Wrapper, *args: Any, **kwargs: Any) -> Any:
        return getattr(wrapper.optimizer, name)(*args, **kwargs)

    return call


def of_other(name: str) -> property:
    return property(lambda wrapper: getattr(wrapper.optimizer, name))


def with_own(name: str) -> property:
    return property(lambda wrapper: (*getattr(wrapper.optimizer, name), *wrapper.own_state))


for method in (Optimizer.add_param_group, Optimizer.remove, Optimizer.replace, Optimizer.check_group,
               Optimizer.check_parameter, Optimizer.state_shapes, Optimizer.initial_state, Optimizer.scalars_of,
               Optimizer.totals, Optimizer.offload, Optimizer._assign):
    setattr(Wrapper, method.__name__, passed_on(method))
# Class attributes are those of the other.
for name in ("checks", "scalars", "line_states", "fine_states", "unsigned_states", "mixes_rows", "later_options",
             "options"):
    setattr(Wrapper, name, of_other(name))
for name in ("state_names", "exact_states"):
    setattr(Wrapper, name, with_own(name))
