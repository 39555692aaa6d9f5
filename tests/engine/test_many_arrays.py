"""Work that grows with the number of arrays grows in proportion to it: no list is searched for each of its items."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol

pytestmark = pytest.mark.plain


def arrays(count: int) -> dict[str, np.ndarray]:
    return {f"layer{index}": np.ones(1, np.float32) for index in range(count)}


def seconds(action: Callable[[], Any], repeats: int = 5) -> float:
    """The least of some repeats: what others do on the machine only adds."""
    best = float("inf")
    gc.collect()
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - begun)
    return best


def assert_linear(make: Callable[[int], Callable[[], Any]], count: int = 2_000, repeats: int = 5) -> None:
    """Twice the arrays, twice the time; quadratic would be four times."""
    for _ in range(4):                           # a busy machine can spoil one comparison
        ratio = seconds(make(2 * count), repeats) / seconds(make(count), repeats)
        if ratio <= 2.5:
            return
    raise AssertionError(f"twice the arrays took {ratio:.1f} times as long")


def by_key(params: dict[str, np.ndarray]) -> Any:
    return {name: array.copy() for name, array in params.items()}


NESTINGS: dict[str, tuple[Callable[[dict[str, np.ndarray]], Any], Callable[[dict[str, np.ndarray]], Any]]] = {
    "dict": (dict, by_key),
    "dict, reversed": (dict, lambda params: dict(reversed(by_key(params).items()))),
    "list": (lambda params: list(params.values()), lambda params: list(by_key(params).values())),
    "pairs": (lambda params: list(params.items()), lambda params: list(by_key(params).items())),
    "by name": (lambda params: [("first", np.ones(1)), *params.items()], by_key),
    "nested": (lambda params: [{"W": array} for array in params.values()],
               lambda params: [{"W": array.copy()} for array in params.values()]),
}


@pytest.mark.parametrize("form", NESTINGS)
def test_gradients_in_a_nesting(form: str) -> None:
    params, grads = NESTINGS[form]

    def make(count: int) -> Callable[[], Any]:
        given = arrays(count)
        optimizer, values = ol.SGD(params(given)), grads(given)
        if form == "by name":
            values["first"] = None
        optimizer.step(grads=values)
        return lambda: optimizer.step(grads=values)

    assert_linear(make)


@pytest.mark.parametrize("count", [1, 161, 5_000])
@pytest.mark.parametrize("form", ["dict", "list"])
def test_gradients_in_a_nesting_cost_little_more_than_assigned_ones(count: int, form: str) -> None:
    """Twice at most, beside some microseconds for a call."""
    params, grads = NESTINGS[form]
    given = arrays(count)
    optimizer = ol.SGD(params(given))
    parameters = optimizer.param_groups[0]["params"]
    values = [grads(given), grads(given)]        # in turns: each is another array than the one before

    def assigned() -> None:
        values.reverse()
        for parameter, gradient in zip(parameters, values[0].values() if form == "dict" else values[0], strict=True):
            parameter.grad = gradient
        optimizer.step()

    def nested() -> None:
        values.reverse()
        optimizer.step(grads=values[0])

    nested()
    for _ in range(4):
        spent, allowed = seconds(nested, 20), 2 * seconds(assigned, 20) + 30e-6
        if spent <= allowed:
            return
    raise AssertionError(f"{1e6 * spent:.0f} us where assigning takes {1e6 * allowed:.0f}")


def groups(count: int) -> list[dict[str, Any]]:
    return [{"params": [array]} for array in arrays(count).values()]


def test_making_many_groups() -> None:
    assert_linear(lambda count: lambda: ol.SGD(groups(count)), count=1_000, repeats=3)


def test_adding_groups_one_by_one() -> None:
    def make(count: int) -> Callable[[], Any]:
        def add() -> None:
            optimizer = ol.SGD([np.ones(1, np.float32)])
            for group in groups(count):
                optimizer.add_param_group(group)

        return add

    assert_linear(make, count=1_000, repeats=3)


def test_the_first_step_of_many_groups() -> None:
    def make(count: int) -> Callable[[], Any]:
        optimizers = [ol.SGD(groups(count)) for _ in range(4)]
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"][0].grad = np.ones(1, np.float32)
        return lambda: optimizers.pop().step()

    assert_linear(make, count=500, repeats=4)


def test_group_by_name_with_many_names() -> None:
    def make(count: int) -> Callable[[], Any]:
        params = arrays(count)
        return lambda: ol.group_by_name(params, {"layer1*": {"lr": 0.1}})

    assert_linear(make)


def test_names_that_stand_in_many_groups_are_one_each() -> None:
    """Equal names of different groups don't make one another's lookups ambiguous by position."""
    optimizer = ol.SGD(groups(3), lr=1.0)
    optimizer.step(grads=[[np.full(1, value, np.float32)] for value in (1, 2, 3)])
    assert [group["params"][0].data[0] for group in optimizer.param_groups] == [0, -1, -2]
