"""What checks let pass, and what they make of it."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite import checks
from optimlite.closures.bounds import Bounds
from support.details import bounds, pair_of

# Checks --------------------------------------------------------------------------------------------------------------

def test_what_checks_let_pass_and_give() -> None:
    whole = 2 ** 53                                  # larger integers are read as floats
    for value, result in ((np.float32(0.5), 0.5), (np.array([[3]]), 3), (2, 2), (np.int8(4), 4), (whole, whole),
                          (-whole, -whole), (whole + 1, float(whole)), (-whole - 1, -float(whole))):
        got = checks.number("x", value)
        assert (got, type(got)) == (result, type(result))
    assert [checks.interval(0, 1)("x", value) for value in (0, 0.5, 1)] == [0, 0.5, 1]
    assert checks.interval(0, 1, closed="right")("x", 1) == 1
    assert checks.interval(0, 1, closed="left")("x", 0) == 0
    assert checks.interval()("x", -1e308) == -1e308
    assert pair_of(np.array([0.5, 0.25])) == (0.5, 0.25)
    assert pair_of(iter([0.5, 0])) == (0.5, 0)
    assert checks.flag("x", np.bool_(True)) is True
    assert checks.flag("x", False) is False
    for value, result in ((1, 1), (3.0, 3)):
        got = checks.count("x", value)
        assert (got, type(got)) == (result, int)
    assert [checks.optional_count("x", value) for value in (None, 1)] == [None, 1]
    assert checks.shown("a" * 198) == f"'{'a' * 198}'"                           # 200 characters are shown, no more
    assert checks.shown("a" * 199) == f"'{'a' * 199}..."


def test_one_of_a_few_words_is_itself_or_refused() -> None:
    assert [checks.one_of("a", "b", None)("x", value) for value in ("a", "b", None)] == ["a", "b", None]
    for words, value, message in ((("a", "b", None), "c", "`x` must be 'a', 'b' or None, got 'c'"),
                                  (("a", "b"), None, "`x` must be 'a' or 'b', got None"),
                                  (("a", "b"), np.ones(2), "`x` must be 'a' or 'b', got array([1., 1.])")):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            checks.one_of(*words)("x", value)


@pytest.mark.parametrize(("key", "known", "meant"), [
    ("LEARNING_RATE", ["lr"], "lr"), ("learning_rate", ["rate"], None), ("beta1", ["lr", "betas"], "betas"),
    ("wd", ["weight_decay"], "weight_decay"), ("momentun", ["lr", "momentum"], "momentum"),
    ("NESTEROV_", ["nesterov"], "nesterov"), ("name", ["lr"], None), ("lrr", ["lr"], "lr"), ("l", ["lr"], None),
    ("epsilon", ["eps"], "eps"), ("moment", ["momentum", "maximize"], "momentum")])
def test_what_a_slip_resembles(key: str, known: list[str], meant: str | None) -> None:
    assert checks.resembles(key, iter(known)) == meant


def test_keys_of_ones_own_are_let_through() -> None:
    checks.group_keys({"params": 1, 3: 1, "initial_lrr": 1, "max_lr": 1, "lr": 1, "name": 1, "mine": 1}, ["lr"], "SGD")
    with pytest.raises(ValueError, match="`lrr`"):   # the last of many is looked at too
        checks.group_keys({"params": 1, 3: 1, "initial_lr": 1, "max_lr": 1, "lr": 1, "lrr": 1}, ["lr"], "SGD")
    checks.constructor("SGD", ["params", "lr"], ["self", "lr"])
    with pytest.raises(TypeError, match="`lrr`"):
        checks.constructor("SGD", ["params", "lr", "lrr"], ["self", "lr"])


# State dicts ---------------------------------------------------------------------------------------------------------

def test_the_parameters_of_functions_are_those_that_inspect_gives() -> None:
    """Through decorators, too; what isn't a function of Python's may take anything."""
    def plain(self: Any, a: int, /, b: int = 1, *rest: int, c: int, d: int = 2) -> int:
        return a + b + c + d                         # its other variables are none of its parameters

    def open_ended(a: int, **others: int) -> None:
        names = list(others)
        del names

    @functools.wraps(plain)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    assert checks.parameters_of(plain) == (("self", "a", "b", "c", "d"), False)
    assert checks.parameters_of(wrapped) == checks.parameters_of(plain)
    assert checks.parameters_of(len) == checks.parameters_of(functools.partial(plain, 1)) == ((), True)
    assert checks.parameters_of(open_ended) == (("a",), True)


# Bounds --------------------------------------------------------------------------------------------------------------

def test_bounds_in_every_form() -> None:
    inf = np.inf

    def limits(value: Any) -> list[Any]:
        return [(low.tolist(), high.tolist()) for low, high in bounds(value).arrays.values()]

    assert limits((0, 5)) == [([[0] * 3] * 2, [[5] * 3] * 2), ([0] * 3, [5] * 3)]
    assert limits((None, 5))[1] == ([-inf] * 3, [5] * 3)
    assert limits({"b": (1, None)}) == [([[-inf] * 3] * 2, [[inf] * 3] * 2), ([1] * 3, [inf] * 3)]
    assert limits([None, [0, np.array([1, 2, 3])]])[1] == ([0] * 3, [1, 2, 3])
    assert limits(((0, 1), (2, 3))) == [([[0] * 3] * 2, [[1] * 3] * 2), ([2] * 3, [3] * 3)]
    assert limits((1, 1))[1] == ([1] * 3, [1] * 3)
    fortran = ol.Parameter(np.asfortranarray(np.ones((2, 3), np.float32)))
    low, _ = next(iter(Bounds((0, 1), [fortran], ["W"]).arrays.values()))
    assert low.flags.f_contiguous
    assert low.dtype == np.float32
