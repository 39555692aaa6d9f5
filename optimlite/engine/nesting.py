"""Nestings of dicts, lists, tuples, generators and dataclasses: read into trees, flattened, matched with gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from .parameter import ANEW, TRACED, USE_IT, Parameter, is_traced


class Branch(NamedTuple):
    key: str
    chosen: bool         # somebody chose the key (a dict's, a named pair's); else it is a position
    tree: Any            # a leaf (Parameter or array), or a Tree


class Tree:
    """The branches of a nesting, in order, and what every step asks of them."""

    __slots__ = ("branches", "flat", "keys", "leaves")

    def __init__(self, branches: Iterable[Branch]) -> None:
        self.branches = list(branches)
        self.keys = [branch.key for branch in self.branches]
        below = [branch.tree for branch in self.branches if isinstance(branch.tree, Tree)]
        self.flat = not below
        self.leaves: int = len(self.branches) - len(below) + sum(tree.leaves for tree in below)


def is_pair(node: Any) -> bool:
    """A tuple is a named pair only if its first item is a str."""
    return isinstance(node, tuple) and len(node) == 2 and isinstance(node[0], str)


def read(node: Any) -> Any:
    """The tree of a nesting, or a leaf. Generators are consumed, once."""
    try:
        return _read(node, "")
    except RecursionError:
        raise ValueError(f"parameters must not be nested that deeply, or contain themselves, got a "
                         f"{type(node).__name__}") from None


def _read(node: Any, path: str) -> Any:
    if isinstance(node, (Parameter, np.ndarray)):
        return node
    if isinstance(node, (set, frozenset)):
        raise TypeError("parameters must come in a fixed order, got a set; use a list")
    node = [node] if is_pair(node) else opened(node)
    if cure := cure_of(node):
        raise TypeError(f"parameters must be NumPy arrays, Parameters or nestings of them, got {type(node).__name__}"
                        f"{f' at {path!r}' if path else ''}; {cure}")
    below = f"{path}." if path else ""
    if isinstance(node, Mapping):
        return Tree(Branch(str(key), True, _read(child, below + str(key))) for key, child in node.items())
    if isinstance(node, Iterable) and not isinstance(node, (str, bytes, np.generic)):
        children = list(node)
        if 0 < (named := sum(map(is_pair, children))) < len(children):
            raise TypeError(f"parameters{f' at {path!r}' if path else ''} must all be named or none, got names for "
                            f"{named} of {len(children)}; give (name, array) for each")
        return Tree(Branch(child[0], True, _read(child[1], below + child[0])) if is_pair(child)
                    else Branch(str(index), False, _read(child, below + str(index)))
                    for index, child in enumerate(children))
    raise TypeError(f"parameters must be NumPy arrays, Parameters or nestings of them, got {type(node).__name__}"
                    f"{f' at {path!r}' if path else ''}")


def opened(node: Any) -> Any:
    """The arrays of a dataclass, an attrs class or an object with `parameters()`; anything else as it is.

    Fields that hold no array are left out: a class has settings, too.
    """
    kind = type(node)
    if kind in (dict, list, tuple) or isinstance(node, (type, ModuleType)):
        return node
    if hasattr(kind, "__dataclass_fields__"):
        names: Iterable[str] = kind.__dataclass_fields__
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__]
    else:
        return node.parameters() if callable(getattr(node, "parameters", None)) else node
    return {name: value for name in names if has_arrays(value := getattr(node, name, None))}


def has_arrays(node: Any) -> bool:
    if isinstance(node, (Parameter, np.ndarray)):
        return True
    if isinstance(node, Mapping):
        return any(map(has_arrays, node.values()))
    if isinstance(node, (list, tuple)):
        return any(map(has_arrays, node))
    inside = opened(node)
    return inside is not node and (not isinstance(inside, Mapping) or has_arrays(inside))


def cure_of(node: Any) -> str:
    """What to give in place of something that is neither an array nor, usually, a nesting; else empty."""
    if type(node) in (dict, list, tuple):
        return ""
    if node is None:
        return "leave it out"
    if isinstance(node, (bool, int, float)):
        return ANEW
    if hasattr(node, "detach") and hasattr(node, "numpy"):
        return "optimlite.torch has this optimizer for tensors, which share memory as tensor.detach().numpy()"
    if hasattr(node, "to_numpy"):
        return f"use its to_numpy(np.float32, copy=True), {USE_IT}"
    if hasattr(node, "toarray"):
        return f"use its toarray(), {USE_IT}"
    if hasattr(node, "__array__") and not isinstance(node, np.generic):
        return f"it {TRACED}" if is_traced(node) else ANEW
    if hasattr(node, "zip") and hasattr(node, "files"):
        return "np.load reads a file's arrays anew each time; give dict(value), and let the model use those arrays"
    if isinstance(node, (FunctionType, MethodType)):
        return f"call it: {node.__name__}()"
    if isinstance(node, (Iterable, type, ModuleType, str, bytes, np.generic)):
        return ""
    return cure_of_object(node)


def cure_of_object(node: Any) -> str:
    """How to give the arrays of an object, such as a layer: by the names of its attributes."""
    names = [*getattr(node, "__dict__", ()), *(name for kind in type(node).__mro__
                                               for name in listed(getattr(kind, "__slots__", ())))]
    held = [name for name in names if isinstance(getattr(node, name, None), (Parameter, np.ndarray))]
    if held:
        this = type(node).__name__.lower()
        shown = ", ".join(f"'{name}': {this}.{name}" for name in held[:3])
        return f"give its arrays, {{{shown}{', ...' if len(held) > 3 else ''}}}"
    return "give its arrays, in a dict or a list" if names else ""


def listed(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def skeleton(tree: Any) -> Any:
    """The tree without the arrays, which it would keep alive."""
    if not isinstance(tree, Tree):
        return None
    return Tree(branch._replace(tree=skeleton(branch.tree)) for branch in tree.branches)


def without(tree: Any, leaf: int) -> Tree:
    """The tree without one of its leaves, by its number, and without branches that have no leaf any more."""
    branches = []
    for branch in tree.branches if isinstance(tree, Tree) else ():
        size = branch.tree.leaves if isinstance(branch.tree, Tree) else 1
        rest = branch
        if 0 <= leaf < size:
            rest = branch._replace(tree=without(branch.tree, leaf))
        if rest is branch or rest.tree.leaves:
            branches.append(rest)
        leaf -= size
    return Tree(branches)


Trees = list[tuple[Any, list[Parameter]]]        # of each group: how it is nested, and what is in it


def pruned(trees: Trees, parameter: Parameter) -> Trees:
    """The nestings without a parameter, which they would keep alive."""
    return [(without(tree, at := parameters.index(parameter)), parameters[:at] + parameters[at + 1:])
            if parameter in parameters else (tree, parameters) for tree, parameters in trees]


def flatten(tree: Any, path: str = "", chosen: bool = False) -> Iterator[tuple[str, bool, Any]]:
    """The (path, whether a key of it was chosen, leaf) of a tree, in order."""
    if not isinstance(tree, Tree):
        yield path, chosen, tree
        return
    for branch in tree.branches:
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


def has_keys(tree: Any, grads: Mapping[Any, Any]) -> bool:
    """Whether a dict has the keys of a tree's branches, in any order."""
    if not isinstance(tree, Tree):
        return False
    return list(grads) == tree.keys or set(map(str, grads)) == set(tree.keys)


def by_name(grads: Mapping[Any, Any], names: list[str]) -> dict[str, Any]:
    """Nested gradients by the parameters' names; None in place of a branch skips all parameters below it.

    Raises ValueError for a parameter that has two.
    """
    known, found = set(names), dict[str, Any]()
    leading = {name[:at] for name in known for at, letter in enumerate(name) if letter == "."}

    def put(name: str, value: Any) -> None:
        if name in found:
            raise ValueError(f"`grads` must have one gradient for each parameter, got two for '{name}'")
        found[name] = value

    def take(name: str, value: Any) -> None:
        if name in known or name not in leading or not (value is None or isinstance(value, (Mapping, list, tuple))):
            put(name, value)
        elif value is None:
            for below in names:
                if below.startswith(f"{name}."):
                    put(below, None)
        else:
            for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
                take(f"{name}.{key}", each)

    for key, value in grads.items():
        take(str(key), value)
    return found


def gradients(grads: Any, tree: Any, path: str = "") -> list[Any]:
    """The gradients in the order of the tree's leaves, from the same nesting; None skips a leaf or a whole branch."""
    if not isinstance(tree, Tree):
        return [grads]
    if grads is None:
        return [None] * tree.leaves
    values = _of_branches(grads, tree, f" at '{path}'" if path else "")
    if tree.flat:
        return values
    result = []
    for branch, value in zip(tree.branches, values, strict=True):
        result += gradients(value, branch.tree, f"{path}.{branch.key}" if path else branch.key)
    return result


def _of_branches(grads: Any, tree: Tree, where: str) -> list[Any]:
    """What `grads` has for each branch, in the tree's order."""
    keys = tree.keys
    grads = [grads] if is_pair(grads) else opened(grads)
    if isinstance(grads, Mapping):
        given, values = list(grads), list(grads.values())
        if given != keys:
            given = [str(key) for key in given]
    elif isinstance(grads, (np.ndarray, str, bytes)) or not isinstance(grads, Iterable):
        raise ValueError(f"`grads`{where} must be nested as the parameters are, got {type(grads).__name__} "
                         f"for {len(keys)} parameters or branches")
    else:
        values = list(grads)
        if len(values) != len(keys):
            raise ValueError(f"`grads`{where} must have {len(keys)} items as the parameters do, got {len(values)}")
        if not all(map(is_pair, values)):
            return values
        given, values = [key for key, _ in values], [value for _, value in values]
    if given == keys:                # in the same order even equal names are told apart
        return values
    known, had = set(keys), set(given)
    if unknown := [key for key in given if key not in known]:
        raise ValueError(f"`grads`{where} has unknown names {unknown}; the parameters are {keys}")
    if missing := [key for key in keys if key not in had]:
        raise ValueError(f"`grads`{where} lacks {missing}; give None to skip a parameter")
    if len(had) < len(keys):
        raise ValueError(f"`grads`{where} has names that stand twice: {given}; give them in the order {keys}")
    by_key = dict(zip(given, values, strict=True))
    return [by_key[key] for key in keys]
