"""Fuzzing of constructors and parameter groups: any arguments, any nesting of parameters. `make fuzz` runs it."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from frame import Source, done, image, np, ol, run

from optimlite import reference
from support.bits import same_bits
from support.helpers import gradient, parameters

KINDS = [ol.SGD, ol.Adam, ol.AdamW, ol.Adagrad, ol.Adadelta, ol.Adamax, ol.NAdam, ol.RAdam, ol.RMSprop, ol.Rprop,
         ol.ASGD, ol.Adafactor, ol.Muon]
NAMES = {kind: list(inspect.signature(kind).parameters)[1:] for kind in KINDS}


def arguments(source: Source, kind: type[ol.Optimizer]) -> dict[str, Any]:
    """Some hyper-parameters with any value, or a pair; at times a key that the optimizer doesn't know."""
    found = {}
    for _ in range(source.below(4)):
        key = source.pick(NAMES[kind]) if source.below(6) else source.word()
        found[key] = source.pick([source.number(), (source.number(), source.number()), source.value(1)])
    return found


def leaf(source: Source, given: list[np.ndarray]) -> Any:
    array = source.array(np.zeros(source.pick([(3, 4), (5,), (2, 3)]), source.pick(["f4", "f8", "c8", "f2"])), given)
    given.append(array)
    try:
        return ol.Parameter(array, source.pick([None, "W", "b"])) if source.below(4) == 3 else array
    except (TypeError, ValueError):
        return array


def nesting(source: Source, given: list[np.ndarray], depth: int = 3) -> Any:
    """Parameters in any nesting; at times with something among them that is none."""
    kind = source.below(12 if depth else 5)
    if kind < 4:
        return leaf(source, given)
    if kind == 4:
        return source.value(1)
    items = [nesting(source, given, depth - 1) for _ in range(source.below(4))]
    if kind < 8:
        return items
    if kind == 8:
        return tuple(items)
    if kind == 9:
        return {source.word(): item for item in items}
    return iter(items) if kind == 10 else [(source.word(), item) for item in items]


def group(source: Source, kind: type[ol.Optimizer], given: list[np.ndarray]) -> Any:
    found = {"params": nesting(source, given, 2), **arguments(source, kind)}
    if source.below(4) == 3:
        found["param_names"] = source.value(2)
    return found if source.below(16) < 15 else source.altered(found)


def same(one: ol.Optimizer, other: ol.Optimizer) -> bool:
    def values(optimizer: ol.Optimizer) -> Any:
        return [(p.data, *optimizer.state[p].values()) for p in parameters(optimizer)]

    return all(same_bits(a, b) for these, those in zip(values(one), values(other), strict=True)
               for a, b in zip(these, those, strict=True))


def step_as_twin(optimizer: ol.Optimizer) -> None:
    """Two steps, and the same bits as the twin in plain NumPy, if the steps aren't refused."""
    for step in range(2):
        for index, p in enumerate(parameters(optimizer)):
            p.grad = gradient(step, index, p)
        twin = copy.deepcopy(optimizer)
        if done(optimizer.step, lambda: image(optimizer)):
            reference.step(twin)
            if not same(optimizer, twin):
                raise RuntimeError("a step differs from its twin")


def one(data: bytes) -> None:
    source = Source(data)
    kind = source.pick(KINDS)
    given: list[np.ndarray] = []
    params = ([group(source, kind, given) for _ in range(source.below(3) + 1)] if source.below(2)
              else nesting(source, given))
    options = arguments(source, kind)
    made: list[ol.Optimizer] = []
    if done(lambda: made.append(kind(params, **options)), lambda: image(given)):
        [optimizer] = made
    else:
        optimizer = kind([np.ones((3, 4), np.float32)])
    for _ in range(source.below(3)):
        added = group(source, kind, given)
        done(lambda: optimizer.add_param_group(added), lambda: (image(optimizer), image(given)))  # noqa: B023
    if source.below(2):
        target = source.pick(optimizer.param_groups)
        key = source.pick([*target, "lr"])
        target[key] = list(target["params"])[::-1] if key == "params" else source.value(2)
    step_as_twin(optimizer)


if __name__ == "__main__":
    run(one)
