"""Puts a checkpoint into live objects: every part is matched and checked first, and only then is anything written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import Any

import numpy as np

from ..average import Average
from ..engine import state_dict as state_dicts
from ..engine.formats import BFLOAT16, is_bfloat16
from ..engine.optimizer import Optimizer
from ..engine.overlap import overlaps_itself
from ..engine.parameter import USE_IT, Parameter, masked
from ..lr_scheduler.base import LRScheduler
from ..swapping import place_outside
from .error import CheckpointError
from .files import printable
from .header import Tensor, code_of
from .matching import ByPath, Printer, matched
from .reader import File
from .tree import leaves, printed, replaced, state_of


class Restored(dict[str, Any]):
    """The plain values of a checkpoint by part. With `strict=False`, the lists say what was not restored.

    True also where there are no values: None is what `Checkpoints.restore` returns where there is no checkpoint.
    """

    def __init__(self) -> None:
        super().__init__()
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.misshapen: list[str] = []
        self.defaulted: list[str] = []           # options that are newer than the file

    def __bool__(self) -> bool:
        return True


class Stored(state_dicts.Deferred):
    """An array that is still in the file."""

    def __init__(self, tensor: Tensor, fetch: Callable[[Tensor], np.ndarray]) -> None:
        self.tensor, self.fetch = tensor, fetch
        self.shape, self.dtype = tensor.shape, BFLOAT16 if tensor.code == "BF16" else tensor.dtype

    def read(self) -> np.ndarray:
        return self.fetch(self.tensor).view(self.dtype)

    def part(self, elements: slice) -> Stored:
        """Some of the elements, in C order; nothing verifies them."""
        start, stop, step = elements.indices(prod(self.shape))
        begin, size = self.tensor.begin, self.dtype.itemsize
        return Stored(self.tensor._replace(shape=(len(range(start, stop, step)),), begin=begin + start * size,
                                           end=begin + stop * size, crc=None), self.fetch)


def restore(path: str | os.PathLike[str], parts: Mapping[str, Any], strict: bool, verify: bool,
            planned: Callable[[File, bool], Plan] | None = None) -> Restored:
    with File(path) as file:
        plan = (planned or Plan)(file, verify)
        saved = dict(file.parts)
        if not file.ours and len(parts) == 1:             # a file of one model, whoever wrote it
            saved = {name: dict(file.parts) for name in parts}
        for name, live in parts.items():
            if name not in saved:
                plan.result.missing.append(f"part '{name}'")
            else:
                plan.add(name, live, saved.pop(name))
        for name, node in saved.items():
            if any(isinstance(leaf, Tensor) for _, leaf in leaves(node)):
                plan.result.unexpected.append(f"part '{name}'")
            else:
                plan.result[name] = node
        result = plan.result
        if strict and (result.missing or result.unexpected or result.misshapen):
            lines = [f"  {kind}: {', '.join(map(printable, found))}" for kind in ("missing", "unexpected", "misshapen")
                     if (found := getattr(result, kind))]
            raise ValueError(f"{file.path} doesn't fit (strict=False restores what fits):\n" + "\n".join(lines))
        plan.carry_out()
    return result


class Plan:
    """The work of a restore: arrays to read into place, and calls to make before and after that."""

    def __init__(self, file: File, verify: bool) -> None:
        self.file, self.verify, self.result = file, verify, Restored()
        self.reads: list[tuple[Tensor, np.ndarray]] = []
        self.casts: list[tuple[np.ndarray, np.ndarray]] = []                 # (live, values)
        self.loads: list[tuple[Any, Any]] = []                               # (object, its state): may still refuse
        self.commits: list[Callable[[], None]] = []                          # can't fail

    def add(self, name: str, live: Any, saved: Any) -> None:
        if isinstance(live, Optimizer):
            if live.restored_by:
                raise TypeError(f"part '{name}' is a {type(live).__name__}, whose state isn't all here; use "
                                f"{live.restored_by}")
            self._optimizer(name, live, saved)
        elif hasattr(live, "load_state_dict"):
            self._object(name, live, saved)
        else:
            self._nesting(name, live, saved)

    def fresh(self, tensors: list[Tensor]) -> dict[str, np.ndarray]:
        return self.file.fresh(tensors, self.verify)

    # The kinds of parts ----------------------------------------------------------------------------------------------

    def _optimizer(self, name: str, live: Optimizer, saved: Any) -> None:
        fit = self._fit(name, live, saved)
        self._place(live, fit)

    def _fit(self, name: str, live: Optimizer, saved: Any) -> state_dicts.Fit:
        counts: dict[str, Tensor] = {}
        together = cache(lambda: self.fresh(list(counts.values())))

        def stored(tensor: Tensor) -> Stored:
            if not tensor.shape:
                counts[tensor.name] = tensor
            return Stored(tensor, fetch)

        def fetch(tensor: Tensor) -> np.ndarray:         # a model has many counts, which one call reads
            if tensor.name in counts:
                with contextlib.suppress(CheckpointError):        # the damage may be in another count
                    return together()[tensor.name]
            return self.fresh([tensor])[tensor.name]

        state_dict = replaced(saved, stored)
        try:
            fit = state_dicts.fit(live, state_dict)
        except CheckpointError:                  # counts are read to be checked, and may be damaged
            raise
        except (TypeError, ValueError) as fault:
            raise ValueError(f"{self.file.path}: part '{name}' doesn't fit: {fault}") from None
        for kind, found in fit.problems._asdict().items():
            getattr(self.result, kind).extend(f"{name}: {what}" for what in found)
        return fit

    def _place(self, live: Optimizer, fit: state_dicts.Fit) -> None:
        """Has the states of a fit read into place."""
        placed: list[tuple[Parameter, dict[str, np.ndarray]]] = []
        for parameter, entries in fit.states:
            new: dict[str, np.ndarray] = {}
            state = live.state[parameter]
            for key, value in entries.items():
                own = state_dicts.place(live, parameter, key, value)
                deferred, there = isinstance(value, Stored), own is state.get(key)
                if deferred:
                    self.reads.append((value.tensor, own))
                elif not there:
                    np.copyto(own, value)
                if deferred or not there:
                    entries[key] = own
                if not there:
                    new[key] = own
            placed.append((parameter, new))

        def commit() -> None:
            for parameter, new in placed:        # new arrays become the state's own, in order and without another copy
                live.state[parameter].update(new)
            state_dicts.commit(live, fit)

        self.commits.append(commit)

    def _object(self, name: str, live: Any, saved: Any) -> None:
        tensors = [(keys, leaf) for keys, leaf in leaves(saved) if isinstance(leaf, Tensor)]
        places = dict(leaves(state_of(live))) if isinstance(live, Average) else {}
        direct = [(tensor, places[keys]) for keys, tensor in tensors if isinstance(places.get(keys), np.ndarray)
                  and (places[keys].shape, places[keys].dtype) == (tensor.shape, tensor.dtype)]
        names = {tensor.name for tensor, _ in direct}    # not keys, whose numbers a crafted file could make collide
        arrays = self.fresh([tensor for _, tensor in tensors if tensor.name not in names])
        # An average checks and loads its own arrays, which changes nothing, and they are read into later.
        arrays.update({tensor.name: place for tensor, place in direct})
        self.reads.extend(direct)
        if isinstance(live, Average):
            self.commits.append(live._show)
        state = replaced(saved, lambda tensor: arrays[tensor.name])
        if isinstance(live, LRScheduler):
            try:
                live._check_state(live.state_dict(), state)
            except (TypeError, ValueError) as fault:
                raise ValueError(f"{self.file.path}: part '{name}' doesn't fit: {fault}") from None
        self.loads.append((live, state))

    def _nesting(self, name: str, live: Any, saved: Any) -> None:
        ours = [(keys, leaf) for keys, leaf in leaves(live) if isinstance(leaf, np.ndarray)]
        arrays = [(keys, leaf) for keys, leaf in leaves(saved) if isinstance(leaf, Tensor)]
        if not ours and not arrays:
            self.result[name] = saved                     # plain values on both sides: the file's are the answer
            return
        print_, plain = Printer(self.file.header_bytes), ByPath()
        with self.file.named():
            pairs, missing, unexpected = matched(ours, arrays, print_)
            for keys, leaf in leaves(saved):
                if not isinstance(leaf, Tensor):
                    plain.add(print_(keys), leaf)
        if plain:
            self.result[name] = dict(plain)
        self.result.missing.extend(printed((name, *keys)) for keys in missing)
        self.result.unexpected.extend(printed((name, *keys)) for keys in unexpected)
        for keys, array, tensor in pairs:
            self._array(printed((name, *keys)), array, tensor)

    def _array(self, path: str, live: np.ndarray, tensor: Tensor) -> None:
        if masked(live):
            raise TypeError(f"'{path}' must be a plain array to be restored into, got a masked one; "
                            f"use its .data, and its .mask as another part")
        if live.dtype.kind in "OSUMmV" and code_of(live.dtype) is None:
            raise TypeError(f"'{path}' must be a numeric array to be restored into, got {live.dtype}")
        live = np.asarray(live)                  # a subclass may slice differently
        if live.shape != tensor.shape:
            self.result.misshapen.append(f"{path} has shape {tensor.shape} in the file, not {live.shape}")
        elif not live.flags.writeable or overlaps_itself(live):
            fault = "elements that share memory" if live.flags.writeable else "read-only memory"
            self.result.misshapen.append(f"{path} has {fault} and can't be restored in place; use a.copy(), {USE_IT}")
        elif live.dtype == tensor.dtype or (tensor.code == "BF16" and is_bfloat16(live.dtype)):
            self.reads.append((tensor, place_outside(live)))
        else:
            values = self.fresh([tensor])[tensor.name]
            cast = lossless(values, live.dtype)
            if cast is None:
                self.result.misshapen.append(f"{path} is {values.dtype} in the file and would lose values as "
                                             f"{live.dtype}")
            else:
                self.casts.append((place_outside(live), cast))

    # Doing it --------------------------------------------------------------------------------------------------------

    def carry_out(self) -> None:
        if self.verify:                                   # a first pass, so that damage is found before it does any
            self.file.verify([tensor for tensor, _ in self.reads])
        with Undo() as undo:
            for live, state in self.loads:
                undo.add(live)
                live.load_state_dict(state)
            self.file.read(self.reads, verify=False)
        for array, values in self.casts:
            np.copyto(array, values)
        for commit in self.commits:
            commit()


class Undo:
    """Gives objects the states they had, if the block fails."""

    def __init__(self) -> None:
        self.before: list[tuple[Any, Any]] = []

    def add(self, live: Any) -> None:
        self.before.append((live, state_of(live)))

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for live, state in self.before:
                live.load_state_dict(state)


def lossless(array: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """The array in another dtype, or None if that changes a value."""
    if array.dtype.kind == "c" and dtype.kind != "c":
        return None
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
        same = np.array_equal(cast.astype(array.dtype), array, equal_nan=array.dtype.kind not in "biu")
    return cast if same else None
