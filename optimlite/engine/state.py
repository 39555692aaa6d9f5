"""The state of an optimizer: for each parameter a mapping of arrays, which the kernels update in place."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..native.parameters import byte_bounds
from .overlap import first_overlap, refusal, relation
from .parameter import Parameter, laid_out


class Version:
    """Counts changes of entries.

    A separate object: if a state held the mapping that holds it, only the cyclic collector would free the two.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class State(dict[str, np.ndarray]):
    """One parameter's state. Arrays only: numbers become 0-d arrays. Every change of an entry is noticed."""

    __slots__ = ("_version",)

    def __init__(self, version: Version) -> None:
        self._version = version

    def _changed(self) -> None:
        self._version.count += 1

    def __setitem__(self, key: str, value: Any) -> None:
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"state `{key}` must be a numeric array or a number, got {type(value).__name__}")
        if self.get(key) is not array:               # `state["step"] += 1` ends here: the same array
            super().__setitem__(key, array)
            self._changed()

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> State:          # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = 0) -> np.ndarray:
        if key not in self:
            self[key] = default
        return self[key]

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._changed()

    def pop(self, *args: Any) -> Any:
        self._changed()
        return super().pop(*args)

    def popitem(self) -> tuple[str, np.ndarray]:
        self._changed()
        return super().popitem()

    def clear(self) -> None:
        super().clear()
        self._changed()

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class StateMap(Mapping[Any, State]):
    """The states by parameter; a key is the Parameter, the array it wraps, or its name.

    A parameter that has not stepped has an empty state, and is left out when iterating, as in torch.
    """

    def __init__(self) -> None:
        self.changes = Version()
        self._states: dict[Parameter, State] = {}
        self._called: dict[Parameter, str] = {}
        self._names: dict[str, list[Parameter]] = {}
        self._arrays: dict[int, Parameter] = {}
        self._begins: list[int] = []                 # addresses, in order, the parameters that lie there,
        self._lying: list[Parameter] = []
        self._reach: list[int] = []                  # and the furthest end of these, and of all before them
        self.folder: Any = None                      # the `offload.Folder` where large arrays lie, if there is one

    @property
    def version(self) -> int:
        """Of the entries: plans compare it before each step."""
        return self.changes.count

    def invalidate(self) -> None:
        """Makes plans look again."""
        self.changes.count += 1

    def register(self, parameter: Parameter, name: str, state: State | None = None) -> None:
        self._states[parameter] = State(self.changes) if state is None else state
        self._called[parameter] = name
        self._names.setdefault(name, []).append(parameter)
        self._arrays[id(parameter.data)] = parameter
        if parameter.data.size:
            begin, end = byte_bounds(parameter.data)
            at = bisect_left(self._begins, begin)
            self._begins.insert(at, begin)
            self._lying.insert(at, parameter)
            self._reach.insert(at, end)
            self._extend(at)
        self.invalidate()

    def _extend(self, at: int) -> None:
        """Corrects the ends from a place on; it stops early where no views interleave."""
        furthest = self._reach[at - 1] if at else 0
        for place in range(at, len(self._lying)):
            furthest = max(furthest, byte_bounds(self._lying[place].data)[1])
            if place > at and self._reach[place] == furthest:
                break
            self._reach[place] = furthest

    def copied(self) -> StateMap:
        """Another mapping of the same states, to be changed, and then adopted as a whole."""
        other = StateMap()
        for name, table in vars(self).items():
            setattr(other, name, table if name in ("changes", "folder") else table.copy())
        other._names = {name: called.copy() for name, called in self._names.items()}
        return other

    def forget(self, parameter: Parameter) -> State:
        """Takes a parameter out; returns its state."""
        state, name = self._states.pop(parameter), self._called.pop(parameter)
        self._names[name].remove(parameter)
        if not self._names[name]:
            del self._names[name]
        if self._arrays.get(id(parameter.data)) is parameter:
            del self._arrays[id(parameter.data)]
        if parameter.data.size:
            at = self._lying.index(parameter)
            del self._begins[at], self._lying[at], self._reach[at]
            self._extend(at)
        self.invalidate()
        return state

    def sharing(self, parameter: Parameter) -> list[Parameter]:
        """The parameters that have memory of this one, itself among them."""
        if not parameter.data.size:
            return [parameter] if parameter in self._states else []
        begin, end = byte_bounds(parameter.data)
        at, found = bisect_left(self._begins, end), []
        while at and self._reach[at - 1] > begin:
            at -= 1
            if relation(parameter.data, self._lying[at].data):
                found.append(self._lying[at])
        return found[::-1]

    def called(self, name: str) -> list[Parameter]:
        return self._names.get(name, [])

    def name_of(self, parameter: Parameter) -> str:
        return self._called[parameter]

    def unique_names(self) -> bool:
        return len(self._names) == len(self._called)

    def names_any(self, keys: Iterable[Any]) -> bool:
        return any(key in self._names for key in keys)

    def find(self, key: Any) -> Parameter:
        if isinstance(key, Parameter) and key in self._states:
            return key
        if isinstance(key, np.ndarray) and id(key) in self._arrays:
            return self._arrays[id(key)]
        if isinstance(key, str) and key in self._names:
            if len(self._names[key]) > 1:
                raise KeyError(f"'{key}' names {len(self._names[key])} parameters; use the Parameter itself")
            return self._names[key][0]
        raise KeyError(f"the optimizer has no parameter {key!r}" if isinstance(key, str)
                       else f"the optimizer has no such parameter (got {type(key).__name__})")

    def __getitem__(self, key: Any) -> State:
        state = self._states.get(key) if isinstance(key, Parameter) else None
        return state if state is not None else self._states[self.find(key)]

    def __delitem__(self, key: Any) -> None:
        """The parameter begins anew, as if it had not stepped."""
        self[key].clear()

    def clear(self) -> None:
        for state in self._states.values():
            state.clear()

    def __contains__(self, key: object) -> bool:
        try:
            return bool(self[key])
        except KeyError:
            return False

    def __iter__(self) -> Iterator[Parameter]:
        return (parameter for parameter, state in self._states.items() if state)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{self.name_of(p)!r}: {state!r}' for p, state in self.items())}}}"

    def empty(self, place: Place) -> np.ndarray:
        """Room for an array, which holds anything."""
        return empty(place) if self.folder is None else self.folder.empty(place)

    def arrays(self) -> Iterator[np.ndarray]:
        """All the memory that steps write to: of the parameters, of their shadows and of their state."""
        for parameter, state in self._states.items():
            yield parameter.data
            if parameter.shadow is not None:
                yield parameter.shadow
            yield from state.values()

    def labels(self) -> Iterator[str]:
        """What to call each of `arrays()` in a message."""
        for parameter, state in self._states.items():
            yield f"parameter '{self.name_of(parameter)}'"
            if parameter.shadow is not None:
                yield f"the shadow of '{self.name_of(parameter)}'"
            yield from (f"state `{key}` of '{self.name_of(parameter)}'" for key in state)


class Place(NamedTuple):
    """How an array of state lies: with the strides of `like`, or C-contiguous."""

    shape: tuple[int, ...]
    dtype: np.dtype
    like: np.ndarray | None


def place_of(parameter: Parameter, shape: tuple[int, ...], dtype: np.dtype, by_line: bool = False) -> Place:
    """Arrays of the parameter's shape lie as it does, unless they have a value for each of its lines (`by_line`)."""
    data = parameter.data
    return Place(shape, dtype, data if shape == data.shape and data.flags.forc and not by_line else None)


def empty(place: Place) -> np.ndarray:
    if place.like is None:
        return np.empty(place.shape, place.dtype)
    return laid_out(place.like, dtype=place.dtype)


def fitting(parameter: Parameter, array: np.ndarray, by_line: bool = False) -> np.ndarray:
    """An array of state as it is, or laid out as the parameter."""
    place = place_of(parameter, array.shape, array.dtype, by_line)
    if place.like is None or place.like.flags.fnc == array.flags.fnc:
        return array
    result = empty(place)
    result[...] = array
    return result


def check_distinct(labels: Iterable[str], arrays: Iterable[np.ndarray], cure: str = "give each its own array") -> None:
    """Raises ValueError for arrays that overlap in memory."""
    if found := first_overlap(list(arrays)):
        one, other, how = found
        names = list(labels)
        raise ValueError(refusal(names[one], names[other], how, cure))
