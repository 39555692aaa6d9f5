"""Nestings of dicts, lists, tuples and generators: read once into trees, flattened, and matched with gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .parameter import Parameter


class Branch(NamedTuple):
    key: str
    chosen: bool         # somebody chose the key (a dict's, a named pair's); else it is a position
    tree: Any            # a leaf (Parameter or array), or a list of branches


def is_pair(node: Any) -> bool:
    """A tuple is a named pair only if its first item is a str."""
    return isinstance(node, tuple) and len(node) == 2 and isinstance(node[0], str)


def read(node: Any, path: str = "") -> Any:
    """The tree of a nesting: a leaf, or a list of branches. Generators are consumed, once."""
    if isinstance(node, (Parameter, np.ndarray)):
        return node
    if isinstance(node, (set, frozenset)):
        raise TypeError("parameters must come in a fixed order, got a set; use a list")
    if is_pair(node):
        node = [node]
    below = f"{path}." if path else ""
    if isinstance(node, Mapping):
        return [Branch(str(key), True, read(child, below + str(key))) for key, child in node.items()]
    if isinstance(node, Iterable) and not isinstance(node, (str, bytes, np.generic)):
        return [Branch(child[0], True, read(child[1], below + child[0])) if is_pair(child)
                else Branch(str(index), False, read(child, below + str(index))) for index, child in enumerate(node)]
    raise TypeError(f"parameters must be NumPy arrays, Parameters or nestings of them, got {type(node).__name__}"
                    f"{f' at {path!r}' if path else ''}")


def flatten(tree: Any, path: str = "", chosen: bool = False) -> Iterator[tuple[str, bool, Any]]:
    """The (path, whether a key of it was chosen, leaf) of a tree, in order."""
    if not isinstance(tree, list):
        yield path, chosen, tree
        return
    for branch in tree:
        yield from flatten(branch.tree, f"{path}.{branch.key}" if path else branch.key, chosen or branch.chosen)


def as_parameters(tree: Any) -> tuple[list[Parameter], list[str], bool]:
    """The parameters of a tree, what each is called, and whether all these names were chosen by somebody.

    Bare arrays are wrapped and share memory.  A path with a chosen key goes before the parameter's own name, since it
    is unique in its nesting; a mere position does not.
    """
    parameters, names, all_chosen = [], [], True
    for path, chosen, leaf in flatten(tree):
        name = path
        if not isinstance(leaf, Parameter):
            leaf = Parameter(leaf, name=path or "0")
            name = name or "0"
        elif leaf.name and not chosen:
            name, chosen = leaf.name, True
        parameters.append(leaf)
        names.append(name or "0")
        all_chosen &= chosen
    return parameters, names, all_chosen


def gradients(grads: Any, tree: Any, path: str = "") -> Iterator[Any]:
    """The gradients in the order of the tree's leaves, from the same nesting; None skips a leaf or a whole branch."""
    if not isinstance(tree, list) or grads is None:
        yield from [grads] * (sum(1 for _ in flatten(tree)) if isinstance(tree, list) else 1)
        return
    where = f" at '{path}'" if path else ""
    keys = [branch.key for branch in tree]
    if is_pair(grads):
        grads = [grads]
    if isinstance(grads, Mapping):
        items = [(str(key), value) for key, value in grads.items()]
    elif isinstance(grads, (np.ndarray, str, bytes)) or not isinstance(grads, Iterable):
        raise ValueError(f"`grads`{where} must be nested as the parameters are, got {type(grads).__name__} "
                         f"for {len(keys)} parameters or branches")
    else:
        items = list(grads)
        if len(items) != len(keys):
            raise ValueError(f"`grads`{where} must have {len(keys)} items as the parameters do, got {len(items)}")
        items = items if all(map(is_pair, items)) else list(zip(keys, items, strict=True))
    given = [key for key, _ in items]
    if unknown := [key for key in given if key not in keys]:
        raise ValueError(f"`grads`{where} has unknown names {unknown}; the parameters are {keys}")
    if missing := [key for key in keys if key not in given]:
        raise ValueError(f"`grads`{where} lacks {missing}; give None to skip a parameter")
    if given != keys:                # in the same order even equal names are told apart
        if len(set(given)) < len(keys):
            raise ValueError(f"`grads`{where} has names that stand twice: {given}; give them in the order {keys}")
        values = dict(items)
        items = [(key, values[key]) for key in keys]
    for (key, value), branch in zip(items, tree, strict=True):
        yield from gradients(value, branch.tree, f"{path}.{key}" if path else key)
