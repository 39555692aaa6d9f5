"""The table of all rules in plain NumPy, and the modifiers."""

from __future__ import annotations

from typing import Any

from .distances import RULES as DISTANCES
from .elementwise import RULES as ELEMENTWISE
from .measured import RULES as MEASURED
from .rule import Array, Pass, Rule, quotient, root, sign

# Cautious updates: Liang et al. 2024.

def agreement(h: Any, u: Array, g: Array) -> tuple[Array, ...]:
    return ((sign(u) * sign(g) > 0).astype(u.dtype),)


def larger_for_it(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    own["scale"] = own["scale"] / max(sums[0] / count, 1e-3)
    own["against"] = 0.0
    return True


# Updates of a limited root mean square: Shazeer & Stern 2018.

def sizes_of_update(h: Any, u: Array, g: Array) -> tuple[Array, ...]:
    [counts] = agreement(h, u, g)
    return counts, u, counts * u


def within_limit(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    if c.masked:
        larger_for_it(c, sums, count, moved, own)
    rms = own["scale"] * root(sums[2 if c.masked else 1] / count)
    if rms > c.largest_rms:
        own["scale"] = own["scale"] * quotient(c.largest_rms, rms)
        own["against"] = 0.0 if c.masked else own["scale"]
    return True


# What passes measure, for tests.

def probe_numbers(h: Any, p: Array, g: Array, *s: Array) -> tuple[Array, ...]:
    return g, g, g, p


def probe_between(c: Any, sums: list[float], count: int, moved: Any, own: dict[str, float]) -> bool:
    own.update({f"number{k}": value for k, value in enumerate(sums)})
    if sums[0] < c.least:
        return False
    if moved:
        moved[0] = moved[0] + sums[0]
    return True


def probe(h: Any, p: Array, g: Array, *s: Array) -> Array:
    for k, array in enumerate(s):
        array[...] = getattr(h, f"number{k}")
    return g


PROBED = ("sum", "squares", "products", "largest")

RULES: dict[str, Rule] = {
    **ELEMENTWISE, **MEASURED, **DISTANCES,
    **{f"probe_{scope}": Rule(probe, (Pass(probe_numbers, PROBED, probe_between, scope=scope),))
       for scope in ("tensor", "group", "everything")},
    "probe_own": Rule(probe, (Pass(probe_numbers, PROBED, probe_between),), own_scalars=1),
}
MODIFIERS = {"cautious": Pass(agreement, ("sum",), larger_for_it, of_update=True),
             "limited": Pass(sizes_of_update, ("sum", "squares", "squares"), within_limit, of_update=True)}
