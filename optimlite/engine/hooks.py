"""Hooks: functions that are called around steps and state dicts, with torch's names and in torch's order.

Around a step: the hooks of all optimizers, those of this one, the step, those of this one, those of all.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from ..checks import constructor, parameters_of, shown

Hook = Callable[..., Any]
Hooks = dict["Handle", Hook]

_forks = 0                                       # a parent's steps in other threads don't go on in a child


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

_before_any_step: Hooks = {}
_after_any_step: Hooks = {}


class Handle:
    """What registering a hook returns: `remove()` takes the hook out again, and so does the end of a `with` block."""

    def __init__(self, hooks: Hooks, hook: Hook, prepend: bool = False) -> None:
        if not callable(hook):
            raise TypeError(f"a hook must be callable, got {shown(hook)}")
        self._hooks = hooks
        later = list(hooks.items()) if prepend else []
        if prepend:
            hooks.clear()
        hooks[self] = hook
        hooks.update(later)

    def remove(self) -> None:
        self._hooks.pop(self, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def register_optimizer_step_pre_hook(hook: Hook) -> Handle:
    """Has `hook(optimizer, args, kwargs)` called before every step of every optimizer.

    `args` starts with the optimizer, as in torch; the hook may return new `(args, kwargs)` for the step.  Returns a
    handle: `handle.remove()`, or the end of a `with` block, takes the hook out again.  Raises TypeError for a hook that
    can't be called.  What a hook raises comes out of `step`, which has changed nothing then.

        >>> with ol.register_optimizer_step_pre_hook(lambda opt, args, kwargs: print("before a step")):
        ...     ol.SGD([np.ones(2)]).step(grads=[np.ones(2)])
        before a step
    """
    return Handle(_before_any_step, hook)


def register_optimizer_step_post_hook(hook: Hook) -> Handle:
    """Has `hook(optimizer, args, kwargs)` called after every step of every optimizer; returns a handle.

    The handle is that of `register_optimizer_step_pre_hook`.  Raises TypeError for a hook that can't be called.  What a
    hook raises comes out of `step`, which is done by then.

        >>> with ol.register_optimizer_step_post_hook(lambda opt, args, kwargs: print("after a step")):
        ...     ol.SGD([np.ones(2)]).step(grads=[np.ones(2)])
        after a step
    """
    return Handle(_after_any_step, hook)


class Hooked:
    """The part of an optimizer that keeps its hooks. They belong to the object: copies and pickles have none."""

    steps_taken: int
    _assign: Callable[[Any], None]               # gradients to the parameters
    steps_alone = True                           # other ranks needn't know that a hook raised

    def _has_step_hooks(self) -> bool:
        return bool(_before_any_step or _after_any_step or self._before_step or self._after_step)

    def _call_before(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that the hooks before a step make of those given."""
        return _arguments(self._before_step, self, *_arguments(_before_any_step, self, args, kwargs))

    def _call_after(self, args: Any, kwargs: Any) -> None:
        call(self._after_step, self, args, kwargs)
        call(_after_any_step, self, args, kwargs)

    def _forget_hooks(self) -> None:
        self._in_step = -1                       # else the count of forks when the step began
        self._before_step: Hooks = {}
        self._after_step: Hooks = {}
        self._before_save: Hooks = {}
        self._after_save: Hooks = {}
        self._before_load: Hooks = {}
        self._after_load: Hooks = {}

    def register_step_pre_hook(self, hook: Hook) -> Handle:
        """Has `hook(optimizer, args, kwargs)` called before every step.

        `args` starts with the optimizer, as in torch; the hook may return new `(args, kwargs)` for the step.
        """
        return Handle(self._before_step, hook)

    def register_step_post_hook(self, hook: Hook) -> Handle:
        """Has `hook(optimizer, args, kwargs)` called after every step."""
        return Handle(self._after_step, hook)

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> Handle:
        """Has `hook(optimizer)` called before `state_dict` reads the state; `prepend`: before the hooks there are."""
        return Handle(self._before_save, hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> Handle:
        """Has `hook(optimizer, state_dict)` called with every state dict made; it may change it or return another."""
        return Handle(self._after_save, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> Handle:
        """Has `hook(optimizer, state_dict)` called before loading, with a shallow copy of the state dict.

        The hook may change the copy or return another state dict.
        """
        return Handle(self._before_load, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> Handle:
        """Has `hook(optimizer)` called after a state dict was loaded."""
        return Handle(self._after_load, hook, prepend)


def call(hooks: Hooks, *args: Any) -> None:
    for hook in tuple(hooks.values()):           # a hook may remove itself
        hook(*args)


def passed(hooks: Hooks, optimizer: Hooked, state_dict: Any) -> Any:
    """The state dict that the hooks make of the one given."""
    if hooks and isinstance(state_dict, Mapping):
        state_dict = dict(state_dict)
    for hook in tuple(hooks.values()):
        result = hook(optimizer, state_dict)
        state_dict = state_dict if result is None else result
    return state_dict


def _arguments(hooks: Hooks, optimizer: Hooked, args: tuple[Any, ...], kwargs: dict[str, Any],
               ) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that the hooks before a step make of those given."""
    for hook in tuple(hooks.values()):
        result = hook(optimizer, args, kwargs)
        if result is None:
            continue
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"a hook before the step must return None or (args, kwargs), got {shown(result)}")
        args, kwargs = result
    return args, kwargs


def taking_gradients(step: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `grads=` to a user's `step` that lacks it: the gradients are assigned before the step runs."""
    names, any_other = parameters_of(step)
    if "grads" in names or any_other:
        return step

    @functools.wraps(step)
    def wrapper(self: Hooked, *args: Any, grads: Any = None, **kwargs: Any) -> Any:
        if grads is not None:
            self._assign(grads)
        return step(self, *args, **kwargs)

    return wrapper


def _name_unknown(function: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    try:
        constructor(function, given, known)
    except TypeError as named:
        raise named from None


def surrounded(step: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a class's `step`, a user's own too, with the hooks and with the count that schedulers ask for."""
    names, any_other = parameters_of(step)
    step = taking_gradients(step)

    @functools.wraps(step)
    def wrapper(self: Hooked, *args: Any, **kwargs: Any) -> Any:
        if self._in_step == _forks:              # a step that calls its parent's is one step
            return step(self, *args, **kwargs)
        self._in_step = _forks
        try:
            if self.steps_alone and not (_before_any_step or _after_any_step or self._before_step or self._after_step):
                result = step(self, *args, **kwargs)
                self.steps_taken += 1
                return result
            args, kwargs = self._call_before((self, *args), kwargs)
            result = step(*args, **kwargs)
            self.steps_taken += 1
            self._call_after(args, kwargs)
            return result
        except TypeError:                        # the step's own, or one for a name that it doesn't know
            if not any_other:
                _name_unknown(f"{type(self).__name__}.step", kwargs, tuple(dict.fromkeys((*names, "grads"))))
            raise
        finally:
            self._in_step = -1

    return wrapper
