"""Modifiers: options that change the updates, or the decay, of any rule, in the pass that applies them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import Check, flag, optional, positive, shown
from .method import Group


def flag_or_rate(name: str, value: Any) -> bool | float:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if not isinstance(value, (int, float, np.generic, np.ndarray)):
        raise TypeError(f"`{name}` must be True, False or the largest learning rate, got {shown(value)}")
    return float(positive(name, value))


OF_UPDATES: dict[str, Check] = {"cautious": flag, "max_update_rms": optional(positive)}
OF_DECAY: dict[str, Check] = {"cautious_weight_decay": flag, "corrected_weight_decay": flag_or_rate}
MODIFIERS = {**OF_UPDATES, **OF_DECAY}


def settle(group: Group) -> None:
    """Checks the modifiers of decay together with the rest of a group, and finds the largest rate where none is given.

    Raises ValueError where there is no decay of their kind, and where the largest rate would be 0.
    """
    for name in OF_DECAY:
        if group.get(name) and not group.get("decoupled_weight_decay", True):
            raise ValueError(f"`{name}` needs decoupled_weight_decay=True, got {name}={group[name]} without it")
    if group.get("corrected_weight_decay") is True:
        if group["lr"] == 0:
            raise ValueError("`corrected_weight_decay` must be the largest learning rate where `lr` begins with 0, "
                             "got True; give that rate, such as corrected_weight_decay=0.001")
        group["corrected_weight_decay"] = float(group["lr"])


def decay_of(group: Group) -> float:
    """The decoupled weight decay, which `coefficients` multiplies by lr."""
    decay, largest = group["weight_decay"], group.get("corrected_weight_decay")
    corrected: float = decay * (group["lr"] / largest) if largest else decay
    return corrected


def modifier_of(group: Group) -> str | None:
    """The kernel that measures the updates of any rule and scales them, where the group asks for one."""
    if group.get("max_update_rms") is not None:
        return "limited"
    return "cautious" if group.get("cautious") else None


def coefficients_of(group: Group) -> dict[str, float]:
    """The coefficients of the group's modifier."""
    if modifier_of(group) != "limited":
        return {}
    return {"largest_rms": group["max_update_rms"] * group["lr"], "masked": float(bool(group.get("cautious")))}
