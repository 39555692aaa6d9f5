"""An optimizer over parts of another one's parameters: of the same class, with state for these parts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..checks import BESIDE
from ..native import dispatch
from ..native.runtime import Kernel
from . import state_dict as state_dicts
from .formats import SHARING
from .gradient_options import GradientOptions
from .group_plan import alike
from .groups import _OF_THIS_OBJECT, Grouped
from .halves import LOST, LOW, MASTER
from .hooks import call, passed
from .method import Group
from .modifiers import modifier_of
from .parameter import Parameter, check_still_writeable
from .sparse_grad import SparseGrad
from .state import StateMap
from .storage import scales_of

Method = TypeVar("Method", bound=Grouped)
RuleOptimizer = Any              # the class itself comes to import this: its steps may be in parts
BLOCK = 16_384                   # elements: parts begin at multiples of it, so that no block of a tensor is cut


class Part(Parameter):
    """Elements [start, stop) of a parameter, in C order, or all of it in its shape.

    `offset` is where it begins in the tensor, of which the parameter may be a part itself.
    """

    __slots__ = ("offset", "start", "whole")

    def __init__(self, parameter: Parameter, name: str, start: int, stop: int) -> None:
        whole, shadow = stop - start == parameter.data.size, parameter.shadow
        data = parameter.data if whole else parameter.data.reshape(-1)[start:stop]
        super().__init__(data, name, dtype="bfloat16" if data.dtype == np.uint16 else None)
        self.start, self.offset, self.whole = start, start + parameter.offset, parameter
        self._shadow = shadow if whole or shadow is None else shadow.reshape(-1)[start:stop]

    @property
    def partial(self) -> bool:
        return self.data.size < self.whole.data.size

    @property
    def tensor_size(self) -> int:
        return self.whole.tensor_size

    def extent(self, key: str, array: np.ndarray) -> tuple[tuple[int, ...], int, int]:
        """The shape of the whole parameter's array, and which elements of it an array of this part's state is."""
        if array.ndim == 0 or self.data.size == self.tensor_size:
            return array.shape, 0, array.size
        if array.dtype == np.int8 and key.endswith(scales_of("")):
            return (-(-self.tensor_size // SHARING),), self.offset // SHARING, self.offset // SHARING + array.size
        return self.whole.shape, self.offset, self.offset + array.size

    def taken(self, entries: Any, keys: Sequence[str]) -> dict[str, Any]:
        """This part's of the state of the whole; `keys`: those that have a value for each element."""
        if self.data.size == self.tensor_size:
            return dict(entries)
        start, stop = self.offset, self.offset + self.data.size
        scales = slice(start // SHARING, -(-stop // SHARING))
        return {key: section(array, slice(start, stop)) if key in keys else
                section(array, scales) if key in map(scales_of, keys) else array for key, array in entries.items()}


def section(array: Any, elements: slice) -> np.ndarray:
    """Some elements of an array, in C order, or of one that is still in a file."""
    found: np.ndarray = array.part(elements) if hasattr(array, "part") else array.reshape(-1)[elements]
    return found


def divisible(method: RuleOptimizer, group: Group, parameter: Parameter, name: str) -> bool:
    """Whether a parameter may be stepped in parts: an element's step depends on it alone, and on numbers of groups."""
    if not parameter.data.flags.c_contiguous or parameter.data.size <= BLOCK or modifier_of(group):
        return False
    if method.whole(group):
        return False
    flat, rules = Part(parameter, name, 0, BLOCK), method.rules(group)
    try:
        method.check_parameter(flat, name, group)
        shapes = method.state_shapes(group, flat)
    except (TypeError, ValueError):              # it must be a matrix
        return False
    recipe, kernels = rules[method.which_rule(parameter)], kernels_of(method, group, parameter)
    return (rules[method.which_rule(flat)] == recipe and all(shape == flat.shape for shape in shapes.values())
            and not any((kernel.measures and not kernel.by_group) or kernel.by_rows for kernel in kernels))


def kernels_of(method: RuleOptimizer, group: Group, parameter: Parameter) -> list[Kernel]:
    """The kernel of a parameter, and that of its first step, if it is another one."""
    names = [method.rules(group)[method.which_rule(parameter)][0], *filter(None, [method.first_rule(group)])]
    return [dispatch.kernel(name, parameter.float_type) for name in names]


def over_parts(method: Method, parts: Sequence[Sequence[Part]]) -> Method:
    """The optimizer over parts, a list for each group; it has no state yet."""
    made: Any = object.__new__(type(method))
    made.__dict__.update({key: value for key, value in method.__dict__.items() if key not in _OF_THIS_OBJECT})
    made._prepare_to_step()
    made._state, made._trees, made._grouped = StateMap(), [], True
    made._warned = True                          # a share without a gradient is nothing to warn of
    made.param_groups = [{**{key: value for key, value in group.items() if key != "param_names"}, "params": tuple(own)}
                         for group, own in zip(method.param_groups, parts, strict=True)]
    for part in made._parameters():
        made._state.register(part, str(part.name))
    result: Method = made
    return result


def of_share(made: RuleOptimizer, method: Grouped, found: state_dicts.Fit) -> state_dicts.Fit:
    """What the parts take of a state dict that was matched with the whole."""
    of_whole = {id(parameter): entries for parameter, entries in found.states}
    states: list[tuple[Parameter, dict[str, Any]]] = [
        (part, part.taken(of_whole[id(part.whole)], (*method.state_shapes(group, part), LOW, LOST, MASTER)))
        for group in made.param_groups for part in group["params"] if id(part.whole) in of_whole]
    return state_dicts.Fit(found.problems, states, made.param_groups)


def load(made: RuleOptimizer, method: Grouped, state_dict: Mapping[str, Any], strict: bool) -> state_dicts.Mismatch:
    """Loads a state dict of the whole: the parts take what is theirs of it."""
    found = state_dicts.fit(method, passed(method._before_load, method, state_dict))
    state_dicts.refuse(found.problems, strict)
    state_dicts.commit(method, found._replace(states=[]))
    state_dicts.commit(made, of_share(made, method, found))
    call(method._after_load, method)
    return found.problems


def follow(made: RuleOptimizer, method: RuleOptimizer) -> None:
    """Checks the groups of the whole, and gives those of the parts their values; raises as a step would."""
    made.follower = method.follower
    for mine, theirs in zip(made.param_groups, method.param_groups, strict=True):
        names = [name for name in theirs if name not in BESIDE]
        if any(mine.get(name) is not theirs[name] for name in names) or len(names) != len(mine) - 1:
            method.check_group(theirs)
            for name in [name for name in mine if name != "params" and name not in theirs]:
                del mine[name]
            mine.update({name: theirs[name] for name in names})
    made._renew()


def check_plain(parameter: Parameter, name: str) -> None:
    """Raises for what can't be summed over ranks, or given to all."""
    if parameter.dtype.kind == "c":
        raise TypeError(f"'{name}' must be of real numbers to be stepped by many ranks, got {parameter.dtype}; use "
                        f"a.real and a.imag, two parameters that share its memory")
    if isinstance(parameter.grad, SparseGrad):
        raise TypeError(f"the gradient of '{name}' is sparse, which can't be summed over ranks; make it dense with "
                        f"gradient.to_dense(len(parameter))")


def unlocked_parameters(method: Grouped) -> list[Parameter]:
    """All parameters.  Raises for one that others' values can't be written to, though parts of it could be stepped."""
    parameters = [parameter for group in method.param_groups for parameter in group["params"]]
    for parameter in parameters:
        check_still_writeable(parameter.data, method.state.name_of(parameter))
    return parameters


def check_gradients(method: RuleOptimizer, zero: bool) -> list[bool]:
    """Which parameters have a gradient.  Raises for one that can't be summed, or zeroed where it shall be."""
    parameters = unlocked_parameters(method)
    for parameter in parameters:
        check_plain(parameter, method.state.name_of(parameter))
    if zero:
        method._check_zeroing([parameter for parameter in parameters if parameter.grad is not None])
    return [parameter.grad is not None for parameter in parameters]


def step(made: RuleOptimizer, factor: float, max_abs: float | None) -> None:
    """Steps parts by their gradients times a factor, which is what the whole's norm made of it."""
    made._update(GradientOptions(grad_scale=factor, max_grad_value=max_abs))


def plans_of(method: RuleOptimizer) -> list[tuple[int, int, int]]:
    """For each parameter, its group and the plan there, as numbers by which plans are in order."""
    found = []
    for number, group in enumerate(method.param_groups):
        seen: dict[Any, int] = {}
        for parameter in group["params"]:
            kind = alike(method, group, parameter)
            found.append((number, kind[0], seen.setdefault(kind, len(seen))))
    return found


def order_of_norm(method: RuleOptimizer) -> list[int]:
    """The parameters in the order in which a step adds up their squares."""
    sizes = [parameter.float_type.itemsize for group in method.param_groups for parameter in group["params"]]
    plans = plans_of(method)
    return sorted(range(len(sizes)), key=lambda at: (sizes[at], plans[at], at))
