"""Parts of a training as JSON and a list of arrays, and back.

JSON says what it can say itself.  What it can't is a dict with one key that begins with "$": an array by its name in
the file, a tuple, a float that isn't finite, and a dict whose keys aren't all plain strings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..average import Average
from ..engine.nesting import is_pair
from ..engine.optimizer import Optimizer
from ..engine.parameter import Parameter, masked
from ..swapping import outside
from .files import quoted
from .header import Tensor, code_of

MOST = 1 << 20                       # lists, tuples and dicts of a tree
DEEPEST = 1000                       # levels
PROBES = 16                          # of occupied places, on average over a dict's keys; by chance, there are below 2
LONGEST = 1000                       # way over occupied places; by chance, below 60
QUOTED = re.compile(r'"(?:[^"\\]++|\\.)*+"')
UNFIT_FOR_NAMES = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass
class Encoded:
    """JSON with the arrays it mentions: (name, array), …"""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    json: str = ""

    _counts: dict[str, int] = field(default_factory=dict)

    def name_for(self, path: str) -> str:
        """The path, made unique: names are labels, and the JSON has the exact keys."""
        name = base = UNFIT_FOR_NAMES.sub("_", path)
        while name in self.arrays or name == "__metadata__":
            self._counts[base] = self._counts.get(base, 1) + 1
            name = f"{base}~{self._counts[base]}"
        return name


def encode(parts: Mapping[str, Any]) -> Encoded:
    encoded = Encoded()
    try:
        tree = {key: _encode(state_of(part), key, encoded) for key, part in parts.items()}
        encoded.json = json.dumps(tree, separators=(",", ":"), allow_nan=False)
        check_size(encoded.json)
    except RecursionError:
        raise ValueError("the parts are nested too deeply, or contain themselves") from None
    return encoded


def state_of(part: Any) -> Any:
    """What is saved of a part: its live state if it has one, else the part itself."""
    if not hasattr(part, "state_dict"):
        return part
    return part.state_dict(copy=False) if isinstance(part, (Average, Optimizer)) else part.state_dict()


def _encode(node: Any, path: str, encoded: Encoded) -> Any:
    node = normal(node)
    if isinstance(node, np.ndarray):
        check(node, path)
        node = outside(np.asarray(node))         # a subclass may slice differently
        name = encoded.name_for(path)
        encoded.arrays[name] = node
        complex128 = code_of(node.dtype) == "C128"
        return {"$complex128" if complex128 else "$array": name}
    if node is None or isinstance(node, (bool, str)):
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node) if math.isfinite(node) else {"$float": repr(float(node))}
    below = f"{path}.{{}}".format if path else "{}".format
    if isinstance(node, Mapping):
        pairs = [(key, _encode(value, below(key), encoded)) for key, value in node.items()]
        if all(type(key) is str and not key.startswith("$") for key, _ in pairs):
            return dict(pairs)
        for key, _ in pairs:
            if not isinstance(key, (str, int, float, type(None))):
                raise TypeError(f"the keys of '{path}' must be strings or numbers, got {key!r}")
        return {"$dict": [[_encode(key, path, encoded), value] for key, value in pairs]}
    if isinstance(node, (list, tuple)):
        items = [_encode(item, below(index), encoded) for index, item in enumerate(node)]
        return items if isinstance(node, list) else {"$tuple": items}
    if hasattr(node, "state_dict"):
        raise TypeError(f"'{path}' must be a part of its own to be saved, got a {type(node).__name__} within another")
    raise TypeError(f"'{path}' must be an array, a Parameter, a number, a string, a bool, None, or a dict, list or "
                    f"tuple of these, got {type(node).__name__}"
                    + ("; give tensor.detach().numpy()" if hasattr(node, "detach") else ""))


def normal(node: Any) -> Any:
    """Parameters as their arrays, NumPy scalars as Python's, iterators as lists, a list of named pairs as a dict."""
    if isinstance(node, Parameter):
        return node.data
    if isinstance(node, np.generic):
        return node.item()
    if isinstance(node, Iterator):
        node = list(node)
    if isinstance(node, list) and node and all(is_pair(item) and isinstance(item[1], (Parameter, np.ndarray))
                                               for item in node):
        named = dict(node)
        return named if len(named) == len(node) else node
    return node


def check(array: np.ndarray, path: str) -> None:
    if masked(array):
        raise TypeError(f"'{path}' must be a plain array, got a masked one; save .data and .mask")
    if code_of(array.dtype) is None:
        raise TypeError(f"'{path}' must have a numeric dtype of the same size on every machine, got {array.dtype}; "
                        f"use a.astype(np.float64), or another that fits")


# Back ----------------------------------------------------------------------------------------------------------------

def decode(text: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The parts, with a Tensor for each array. ValueError for JSON that `encode` doesn't make."""
    try:
        check_size(text)
        tree = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
        used: set[str] = set()
        if not isinstance(tree, dict):
            raise ValueError("the tree of parts must be a dict")
        parts = {key: _decode(node, tensors, used) for key, node in tree.items()}
    except RecursionError:
        raise ValueError("the tree of parts is nested too deeply") from None
    if unused := tensors.keys() - used:
        raise ValueError(f"the tree of parts must mention every array, but lacks {quoted(min(unused))}")
    return parts


def check_size(text: str) -> None:
    """Refuses more lists and dicts than anybody needs: three bytes of text can take a hundred bytes of memory."""
    if brackets(text) > MOST and brackets(QUOTED.sub("", text)) > MOST:
        raise ValueError(f"the tree of parts must have at most {MOST} lists, tuples and dicts; store tables as arrays")


def brackets(text: str) -> int:
    return text.count("[") + text.count("{")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the tree of parts must have each key once")
    return found


def refuse(word: str) -> Any:
    raise ValueError(f"the tree of parts must not have {word}")


def _decode(node: Any, tensors: dict[str, Tensor], used: set[str]) -> Any:
    """The node with its forms resolved: lists and dicts are changed in place, since a copy would be as large again."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            node[index] = _decode(item, tensors, used)
        return node
    if not isinstance(node, dict):
        return node
    if not any(key.startswith("$") for key in node):
        for key, value in node.items():
            node[key] = _decode(value, tensors, used)
        return node
    [(kind, value), *more] = node.items()
    if more or kind not in FORMS or not isinstance(value, str if kind in ("$array", "$complex128", "$float") else list):
        raise ValueError(f"the tree of parts has an unknown form {quoted(kind)}")
    return FORMS[kind](value, tensors, used)


def _array(name: str, tensors: dict[str, Tensor], used: set[str]) -> Tensor:
    if name not in tensors:
        raise ValueError(f"the tree of parts has an array {quoted(name)} that isn't in the file")
    if name in used:
        raise ValueError(f"the tree of parts must have each array once, got {quoted(name)} twice")
    used.add(name)
    return tensors[name]


def _complex(name: str, tensors: dict[str, Tensor], used: set[str]) -> Tensor:
    tensor = _array(name, tensors, used)
    if tensor.code != "F64" or tensor.shape[-1:] != (2,):
        raise ValueError(f"{quoted(name)} must hold pairs of float64 to be complex128, "
                         f"got {tensor.code} of {tensor.shape}")
    return tensor._replace(code="C128", shape=tensor.shape[:-1])


def _float(text: str, *_: Any) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(f"the tree of parts has a float {quoted(text)}")
    return float(text)


def _dict(pairs: list[Any], tensors: dict[str, Tensor], used: set[str]) -> dict[Any, Any]:
    keys = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("the tree of parts has a dict that isn't made of pairs")
        keys.append(_decode(pair[0], tensors, used))
        if not isinstance(keys[-1], (str, int, float, type(None))):
            raise ValueError("the tree of parts has a dict with an unfit key")
    if keys != list(range(len(keys))) and collide([hash(key) for key in keys]):
        raise ValueError("the tree of parts has a dict whose keys were made to collide")
    found = {key: _decode(value, tensors, used) for key, (_, value) in zip(keys, pairs, strict=True)}
    if len(found) != len(pairs):
        raise ValueError("the tree of parts has a dict with the same key twice")
    return found


def collide(hashes: list[int]) -> bool:
    """Whether keys were made so that a dict of them takes quadratic time: by one hash, or by one path of probes.

    Text has hashes that nobody can know, but those of numbers are the numbers.  So the places are filled as CPython
    fills them, for each size that the dict has while it grows, and what it finds occupied is counted.  Looking up
    another number may not take long either: all ways end on one circle, place -> 5 * place + 1.
    """
    occupied, mask = bytearray(8), 7
    for bits in range(3, (len(hashes) * 3 // 2).bit_length() + 1):
        mask = (1 << bits) - 1
        occupied = bytearray(mask + 1)
        within = hashes[:(2 << bits) // 3]       # a dict grows when two thirds of its places are taken
        left = PROBES * len(within) + 1000
        for perturb in within:
            perturb &= (1 << 64) - 1
            place = perturb & mask
            while occupied[place]:
                perturb >>= 5
                place = (5 * place + perturb + 1) & mask
                left -= 1
                if left < 0:
                    return True
            occupied[place] = 1
    place = run = 0
    for _ in range(2 * mask):                    # twice around, since a run may go over the start
        run = run + 1 if occupied[place] else 0
        if run > LONGEST:
            return True
        place = (5 * place + 1) & mask
    return False


def _tuple(items: list[Any], tensors: dict[str, Tensor], used: set[str]) -> tuple[Any, ...]:
    return tuple(_decode(item, tensors, used) for item in items)


FORMS: dict[str, Callable[..., Any]] = {"$array": _array, "$complex128": _complex, "$float": _float, "$dict": _dict,
                                        "$tuple": _tuple}


def leaves(node: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The (keys, leaf) of a nesting, live or decoded; a Tensor is a leaf."""
    keys: list[Any] = []
    above: tuple[Any, ...] = ()
    stack: list[Iterator[tuple[Any, Any]]] = [iter([(None, node)])]
    while stack:                                 # not by recursion: each leaf would pass through all levels above it
        for key, child in stack[-1]:
            child = normal(child)                # once: it may be an iterator
            if (below := inside(child)) is None:
                yield (*above, key) if keys else (), child
                continue
            if len(keys) == DEEPEST:
                raise ValueError("the parts are nested too deeply, or contain themselves")
            keys.append(key)
            above = tuple(keys[1:])
            stack.append(below)
            break
        else:
            stack.pop()
            del keys[-1:]
            above = tuple(keys[1:])


def inside(node: Any) -> Iterator[tuple[Any, Any]] | None:
    """The (key, child) of a dict, list or tuple; None of a leaf."""
    if isinstance(node, Mapping):
        return iter(node.items())
    if isinstance(node, (list, tuple)) and not isinstance(node, Tensor):
        return iter(enumerate(node))
    return None


def printed(keys: tuple[Any, ...]) -> str:
    """The path of a leaf as names and messages have it: several leaves of one nesting may have the same."""
    return ".".join(map(str, keys))


def replaced(node: Any, arrays: Callable[[Tensor], Any]) -> Any:
    """A decoded tree with something else for each Tensor."""
    if isinstance(node, Tensor):
        return arrays(node)
    if isinstance(node, dict):
        return {key: replaced(child, arrays) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(replaced(child, arrays) for child in node)
    return node
