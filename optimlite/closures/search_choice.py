"""What users say of the line search: which one, by name or as a function, and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from ..checks import count, number, resembles, shown
from .line_search import SEARCHES
from .method import Search

BY_METHODS = ("largest", "weak")         # arguments of line searches that the methods set


def search(name: str, value: Any) -> Any:
    if callable(value) or (isinstance(value, str) and value in SEARCHES):
        return value
    raise ValueError(f"`{name}` must be a line search function or one of "
                     f"{', '.join(repr(key) for key in SEARCHES)}, got {shown(value)}")


def search_options(name: str, value: Any) -> dict[str, Any] | None:
    """Numbers by name; `suits` knows the search that they are for."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a dict of the line search's arguments, got {shown(value)}")
    return {str(key): (count if key == "max_evals" else number)(f"{name}[{key!r}]", one) for key, one in value.items()}


def suits(options: Mapping[str, Any], chosen: Any, searches: Mapping[str, Search]) -> None:
    """Refuses `search_options` that the chosen line search doesn't have, or that contradict its others."""
    if chosen is None:
        raise ValueError(f"`search_options` need a line search, got {shown(options)} with line_search_fn=None; "
                         f"leave them out")
    known = arguments(searches[chosen] if isinstance(chosen, str) else chosen)
    if known is None:                            # it takes any
        return
    of = repr(chosen) if isinstance(chosen, str) else getattr(chosen, "__name__", "this function")
    for key in options:
        if key not in known:
            meant = resembles(key, known)
            raise ValueError(f"`search_options` has no `{key}` with line_search_fn={of}; " + (
                f"did you mean `{meant}`?" if meant else f"it has {', '.join(f'`{name}`' for name in known)}"))
    merged = {**known, **options}
    limits = {key: merged[key] for key in ("c1", "c2") if isinstance(merged.get(key), (int, float))}
    if not all(low < high for low, high in pairwise([0, *limits.values(), 1])):
        raise ValueError(f"`search_options` must have {' and '.join(map(repr, limits))} with "
                         f"{' < '.join(['0', *limits, '1'])} for line_search_fn={of}, "
                         f"got {' and '.join(f'{key} = {value}' for key, value in limits.items())}")


def arguments(search: Search) -> dict[str, Any] | None:
    """What a line search takes beside phi, loss, slope and step, with the defaults; None if it takes any, or has no
    signature."""
    import inspect  # here: its import can cost as much as half of ours

    try:
        parameters = list(inspect.signature(search).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    by_place = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    by_name = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    return {each.name: each.default for each in (*by_place[4:], *by_name) if each.name not in BY_METHODS}
