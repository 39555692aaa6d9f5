"""A torch.optim.Optimizer whose step is optimlite's, over arrays that share the tensors' memory.

Tensors, groups and state are torch's to its users, and arrays to `inner`, the optimizer that steps.  Memory is shared,
so there is nothing to copy; what can't be shared (which tensors there are, numbers in groups) is brought over before
each step, where a comparison finds that it changed.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from torch.autograd.graph import increment_version
from torch.optim.optimizer import _global_optimizer_post_hooks as _after_any_step
from torch.optim.optimizer import _global_optimizer_pre_hooks as _before_any_step

from ..checks import flag
from ..engine.method import parameters_of
from ..engine.optimizer import Optimizer
from ..engine.parameter import Parameter
from .gradients import address, aspects_of, places_of, sorted_by_size
from .tensors import array_of, plain, tensor_of

values_of = operator.methodcaller("values")
OWN = ("params", "param_names")                  # of a group: what each side has in its own way


class TensorOptimizer(torch.optim.Optimizer):  # type: ignore[misc]
    """The base of `optimlite.torch`'s classes.

    params: tensors on the CPU, named pairs, or groups, as torch's own optimizers take them; float32 or float64, and
        bfloat16, float16 and complex ones where optimlite's class takes such arrays.
    args, options: those of optimlite's class.  torch's `foreach`, `fused`, `capturable` and `differentiable` aren't
        there: kernels are always fused.

    `inner` is the optimizer that steps.  `state[p]` has tensors that share its memory; integers count steps.  Raises
    ValueError for tensors that aren't on the CPU, TypeError for those of another type or layout, and what optimlite's
    class raises.

        >>> import torch, optimlite.torch
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> opt = optimlite.torch.SGD([weight], lr=0.5)
        >>> (weight ** 2).sum().backward()
        >>> opt.step()
        >>> weight.tolist()
        [0.0, 0.0]
    """

    kind: ClassVar[type[Optimizer]]

    def __init__(self, params: Any, *args: Any, **options: Any) -> None:
        self._building = True                    # the groups are in `inner` before torch's constructor adds them
        groups = listed(params)
        self._arguments = args, {key: plain(value) for key, value in options.items()}
        self._make(groups)
        super().__init__(groups, dict(self.inner.defaults))
        self._building = False
        self._show_groups()

    def _make(self, groups: list[dict[str, Any]]) -> None:
        """An inner optimizer of these groups, without state."""
        args, options = self._arguments
        self.inner: Any = self.kind([inner_group(group, number, self.kind) for number, group in enumerate(groups)],
                                    *args, **options)
        self._state: Any = defaultdict(dict)     # what `state` shows
        self._shown: dict[torch.Tensor, dict[str, tuple[np.ndarray, torch.Tensor]]] = {}
        self._looked = False                     # whether somebody has seen `state`, and may have changed it
        self._known: list[list[Any]] = []        # what `state` held when it was last known to be what is shown
        self._learn([tensor for group in groups for tensor in tensors_of(group)])

    def _learn(self, tensors: list[torch.Tensor]) -> None:
        self._tensors = tensors
        # torch's groups as they were; {} where a tensor is among the values, which may change by itself
        self._seen: list[dict[str, Any]] = [{} for _ in self.inner.param_groups]
        self._parameters = parameters_of(self.inner.param_groups)
        self._addresses = [*map(address, tensors)]
        self._aspects = aspects_of(tensors)
        self._layered = [tensor for tensor in tensors if tensor.numel() > 1 or tensor.is_complex()]
        self._places = places_of(self._layered, self._aspects)
        self._sizes = [len(group["params"]) for group in self.inner.param_groups]
        names = [*map(self.inner.state.name_of, self._parameters)]
        self._gradients = sorted_by_size(tensors, self._parameters, names)

    # Groups ----------------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with hyper-parameters of their own, as in torch."""
        if not self._building:
            self._follow()
            param_group = listed([param_group])[0]
            ours = inner_group(param_group, len(self.param_groups), self.kind)
        super().add_param_group(param_group)
        if self._building:
            return
        try:
            self.inner.add_param_group(ours)
        except BaseException:
            self.param_groups.pop()
            raise
        self._learn([*self._listed()])
        self._show_groups()

    def _listed(self) -> Iterable[torch.Tensor]:
        return chain.from_iterable([group["params"] for group in self.param_groups])

    def _show_groups(self) -> None:
        """Writes the inner groups' values into torch's."""
        for theirs, ours in zip(self.param_groups, self.inner.param_groups, strict=True):
            for key, value in ours.items():
                if isinstance(theirs.get(key), torch.Tensor) and isinstance(value, (int, float)):
                    theirs[key].fill_(value)     # schedulers hold it
                elif key not in OWN:
                    theirs[key] = value

    def _follow(self) -> None:
        """Brings over whatever torch's side has changed, but for gradients."""
        same = ([len(group["params"]) for group in self.param_groups] == self._sizes
                and all(map(operator.is_, self._listed(), self._tensors))
                and [*map(address, self._tensors)] == self._addresses
                and places_of(self._layered, self._aspects) == self._places)     # `p.data = p.data.t()` stays there
        if not same:
            self._remake()
        for at, (theirs, seen) in enumerate(zip(self.param_groups, self._seen, strict=True)):
            if not equal(theirs, seen):
                self._take_values(theirs, self.inner.param_groups[at])
                live = any([isinstance(value, torch.Tensor) for value in theirs.values()])
                self._seen[at] = {} if live else dict(theirs)
        if self._looked:
            self._take_state()

    def _take_values(self, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
        for key, value in theirs.items():
            if key not in OWN and differs(plain(value), ours.get(key)):
                ours[key] = plain(value)         # only where it changed: `inner` validates a group that did

    def _remake(self) -> None:
        """Another inner optimizer: parameters came, went or have other memory now."""
        state, before = self.state, self.inner
        self._make(self.param_groups)
        self.inner.steps_taken, self.inner.skipped_steps = before.steps_taken, before.skipped_steps
        self.state = state

    # State -----------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        """Tensors by parameter and name, which share the memory of the inner optimizer's arrays."""
        self._looked = True
        for tensor, parameter in zip(self._tensors, self._parameters, strict=True):
            ours, shown = self.inner.state[parameter], self._shown.get(tensor, {})
            if [*map(id, ours.values())] != [id(array) for array, _ in shown.values()]:
                self._shown[tensor] = shown = {key: (array, tensor_of(array)) for key, array in ours.items()}
                self._state[tensor] = {key: each for key, (_, each) in shown.items()}
                self._known = []
        return self._state

    @state.setter
    def state(self, state: Mapping[torch.Tensor, Any]) -> None:
        if self._building:                       # torch's constructor
            return
        self._state, self._looked, self._known = state, True, []

    def _take_state(self) -> None:
        """Loads what somebody has put into `state`, or forgets what isn't there any more."""
        held = contents(self._state)
        if self._known and all(map(same_objects, held, self._known)):
            return                               # which costs a fraction of asking each tensor
        given = {tensor: self._state.get(tensor) or {} for tensor in self._tensors}
        if all([same_entries(entries, self._shown.get(tensor, {})) for tensor, entries in given.items()]):
            self._known = held
            return
        groups = self.inner.state_dict(copy=False)["param_groups"]
        self.inner.load_state_dict({"state": dict(enumerate(given.values())), "param_groups": groups})
        self._shown.clear()
        self._known = []
        for tensor in given:
            self._state.pop(tensor, None)

    def state_dict(self) -> dict[str, Any]:
        """The state in torch's layout, which torch's class of this name loads; live tensors, as torch's are."""
        self._follow()
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        ours = self.inner.state_dict(copy=False)
        state_dict = {
            "state": {index: {key: as_torch_keeps_it(array) for key, array in entries.items()}
                      for index, entries in ours["state"].items()},
            "param_groups": [{key: value.item() if isinstance(value, np.ndarray) else value
                              for key, value in group.items()} for group in ours["param_groups"]]}
        for change in self._optimizer_state_dict_post_hooks.values():
            state_dict = change(self, state_dict) or state_dict
        return state_dict

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """Loads a state dict of torch's class, of this one or of optimlite's; raises, and changes nothing, for others.

        See `Optimizer.load_state_dict`: what doesn't fit is named, `strict=False` loads what does, and returns what
        doesn't; parameters are matched by name where they have names.
        """
        self._follow()
        state_dict = dict(state_dict)
        for change in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = change(self, state_dict) or state_dict
        groups = [{key: plain(value) for key, value in group.items()} for group in state_dict.get("param_groups", ())]
        mismatch = self.inner.load_state_dict({**state_dict, "param_groups": groups}, strict)
        self._show_groups()
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)
        return mismatch

    def __getstate__(self) -> dict[str, Any]:
        self._follow()
        return {**super().__getstate__(), "state": dict(self.state), "_arguments": self._arguments}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self._arguments, self._building = saved["_arguments"], False
        self._make(saved["param_groups"])
        super().__setstate__({key: value for key, value in saved.items() if key != "state"})
        self.state = defaultdict(dict, saved["state"])
        self._follow()

    # Stepping --------------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients, or fills them with zeros in place."""
        super().zero_grad(set_to_none)
        if set_to_none:                          # else their memory would stay until the next step
            for part in self._gradients:
                part.let_go()

    def step(self, closure: Callable[[], Any] | None = None, **options: Any) -> Any:
        """Updates every parameter that has a gradient, in place; returns the closure's first loss, or None.

        `closure`: as torch has it; clears the gradients, computes the loss, calls backward() and returns the loss.
        Other arguments are those of optimlite's step: `max_grad_norm=1.0`, `zero_grad=True`, …
        """
        if (_before_any_step or _after_any_step or self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
                or torch._C._autograd._profiler_enabled()):
            return hooked_step(self, closure, **options)
        return self._step(closure, options)

    # else torch wraps it, though `step` has seen to the hooks
    step.hooked = True                           # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], Any] | None, options: dict[str, Any]) -> Any:
        losses: list[Any] = []

        def evaluate() -> Any:
            with torch.enable_grad():
                loss = closure()                 # type: ignore[misc]
            if not losses:
                losses.append(loss)
            self._bring_gradients()
            return plain(loss.detach()) if isinstance(loss, torch.Tensor) else loss

        self._follow()
        zero_grad = flag("zero_grad", options.pop("zero_grad", False))    # torch's, not what was gathered of them
        if closure is None:
            self._bring_gradients()
            self.inner.step(**options)
        else:
            self.inner.step(evaluate, **options)
        # Backward passes through graphs from before the step must notice it, as they do after torch's own.
        increment_version(self._tensors if self._complete else
                          [tensor for tensor in self._tensors if tensor.grad is not None])
        for part in self._gradients:
            part.stepped()
        if zero_grad:
            self.zero_grad(set_to_none=False)
        return losses[0] if losses else None

    def _bring_gradients(self) -> None:
        self._complete = all([part.bring() for part in self._gradients])


# With hooks, and with a record for torch's profiler.
hooked_step = torch.optim.Optimizer.profile_hook_step(
    lambda optimizer, closure=None, **options: optimizer._step(closure, options))


def listed(params: Any) -> list[dict[str, Any]]:
    """The groups, with their parameters in lists: generators give them once."""
    if isinstance(params, (torch.Tensor, torch.nn.Module)):
        cure = "[tensor]" if isinstance(params, torch.Tensor) else "model.parameters()"
        raise TypeError(f"`params` must be an iterable of tensors or groups, got {type(params).__name__}; give {cure}")
    groups = list(params)
    if groups and not isinstance(groups[0], Mapping):
        groups = [{"params": groups}]
    for number, group in enumerate(groups):
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"parameter group {number} must be a dict with a 'params' key, got "
                            f"{list(group) if isinstance(group, Mapping) else type(group).__name__}")
        if isinstance(group["params"], (set, frozenset)):
            raise TypeError("parameters must come in a fixed order, got a set; use a list")
        params = group["params"]
        groups[number] = {**group, "params": [params] if isinstance(params, torch.Tensor) else list(params)}
    return groups


def tensors_of(group: Mapping[str, Any]) -> list[torch.Tensor]:
    return [each[1] if isinstance(each, tuple) else each for each in group["params"]]


def inner_group(group: Mapping[str, Any], number: int, kind: type[Optimizer]) -> dict[str, Any]:
    """A group of torch's with arrays in the place of tensors."""
    given = group["params"]
    names = group.get("param_names") or [each[0] for each in given if isinstance(each, tuple)]
    parameters: Iterable[Any] = [
        Parameter(array_of(tensor, names[at] if names else f"{at}' of group '{number}", kind))
        for at, tensor in enumerate(tensors_of(group))]
    if names:
        parameters = zip(names, parameters, strict=True)
    return {**{key: plain(value) for key, value in group.items() if key not in OWN}, "params": list(parameters)}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two dicts hold equal values, as far as these can be compared."""
    try:
        return one == other
    except (ValueError, RuntimeError):           # arrays or tensors, in lists too, that are not the same
        return False


def differs(one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except (ValueError, RuntimeError):           # arrays that somebody keeps in a group
        return True


def same_entries(entries: Mapping[str, Any], shown: dict[str, tuple[np.ndarray, torch.Tensor]]) -> bool:
    return entries.keys() == shown.keys() and all(entries[key] is tensor for key, (_, tensor) in shown.items())


def contents(state: Mapping[Any, Any]) -> list[list[Any]]:
    """Which objects it holds: parameters, how many entries each has, their names and their values."""
    entries = [each or {} for each in state.values()]
    return [[*state], [*map(len, entries)], [*chain.from_iterable(entries)],
            [*chain.from_iterable(map(values_of, entries))]]


def same_objects(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def as_torch_keeps_it(array: np.ndarray) -> torch.Tensor:
    """The live array as a tensor; a number of steps as the float that torch counts in."""
    if array.dtype.kind in "iu" and array.ndim == 0:
        return torch.tensor(array.item(), dtype=torch.get_default_dtype())
    return tensor_of(array)


@functools.cache
def wrap(kind: type[Optimizer]) -> type[TensorOptimizer]:
    """A torch.optim.Optimizer that steps as an optimizer class of optimlite's, or of your own, does.

    kind: the class; its constructor takes the parameters first.  Raises TypeError for what isn't one.

        >>> import torch, optimlite.torch
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> opt = optimlite.torch.wrap(ol.SGD)([weight], lr=0.5)
        >>> (weight ** 2).sum().backward()
        >>> opt.step()
        >>> weight.tolist()
        [0.0, 0.0]
    """
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        raise TypeError(f"`kind` must be a class of optimlite's optimizers, such as optimlite.AdamW, got {kind!r}")
    made = type(kind.__name__, (TensorOptimizer,), {
        "kind": kind, "__module__": __package__, "__signature__": inspect.signature(kind),
        "__doc__": f"optimlite.{kind.__name__} as a torch.optim.Optimizer: help(optimlite.{kind.__name__}) says what "
                   f"its arguments are.\n\n{TensorOptimizer.__doc__}"})
    return made
