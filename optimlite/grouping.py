"""Splits parameters into groups by patterns of their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from .checks import shown
from .engine import nesting


def group_by_name(params: Any, overrides: Mapping[str | tuple[str, ...], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, made from patterns of names: no decay for biases and norms, and the like.

    params: any nesting of Parameters or arrays, named by path ("encoder.0.bias").
    overrides: for a pattern (`*`, `?` and `[abc]` as in file names, case counts) or a tuple of patterns, the
        hyper-parameters of what matches.

    A parameter takes the overrides of every entry that it matches; those with the same overrides form a group, in order
    of their first parameter, and keep their names (give gradients as `.grad`, by name, or in
    dicts nested as `params`).

    Raises ValueError for a pattern that matches nothing, for a parameter that gets two values of one hyper-parameter,
    and for parameters of one name.

        >>> params = {"encoder": {"W": np.ones((2, 2)), "bias": np.ones(2)}, "norm": np.ones(2)}
        >>> groups = ol.group_by_name(params, {("*.bias", "norm*"): {"weight_decay": 0}, "encoder.*": {"lr": 1e-4}})
        >>> opt = ol.AdamW(groups, lr=1e-3)
        >>> [(group["param_names"], group["lr"]) for group in opt.param_groups]
        [(['encoder.W'], 0.0001), (['encoder.bias'], 0.0001), (['norm'], 0.001)]
    """
    if not isinstance(overrides, Mapping) or not all(isinstance(values, Mapping) for values in overrides.values()):
        raise TypeError(f"`overrides` must be a dict of dicts, {{pattern: {{hyper-parameter: value}}}}, got "
                        f"{shown(overrides)}")
    parameters, names, _ = nesting.as_parameters(nesting.read(params))
    if repeated := sorted({name for name, count in Counter(names).items() if count > 1}):
        raise ValueError(f"parameters must have different names to be grouped by them, got {repeated} repeatedly")
    unmatched = {pattern for key in overrides for pattern in _patterns(key)}
    groups: list[dict[str, Any]] = []
    for parameter, name in zip(parameters, names, strict=True):
        own: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for key, values in overrides.items():
            matched = [pattern for pattern in _patterns(key) if fnmatchcase(name, pattern)]
            unmatched.difference_update(matched)
            for option, value in values.items() if matched else ():
                if own.setdefault(option, value) != value:
                    raise ValueError(f"parameter '{name}' gets `{option}` = {own[option]} from '{origin[option]}' and "
                                     f"{value} from '{matched[0]}'; let one pattern match it")
                origin.setdefault(option, matched[0])
        group = next((group for group in groups if group["overrides"] == own), None)
        if group is None:
            group = {"overrides": own, "params": [], "param_names": []}
            groups.append(group)
        group["params"].append(parameter)
        group["param_names"].append(name)
    if unmatched:
        raise ValueError(f"no parameter matches {sorted(unmatched)}; the names are {names}")
    return [{**group.pop("overrides"), **group} for group in groups]


def _patterns(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)
