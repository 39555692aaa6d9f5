"""`least_squares`: what is refused before anything is evaluated, and what functions must return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.residuals import Array, decay, given


@pytest.mark.parametrize(("options", "message"), [
    ({"fun": 3}, "`fun` must be a function that returns the residuals, got 3"),
    ({"x0": None}, "`x0` must be an array of numbers, got None"),
    ({"x0": [1j, 0]}, "`x0` must be real"),
    ({"jac": "4-point"}, "`jac` must be '2-point' or '3-point', a function"),
    ({"jac": True}, "`jac` must be '2-point' or '3-point', a function"),
    ({"method": "dogleg"}, "`method` must be one of 'lm', 'trust-region', 'gauss-newton', got 'dogleg'"),
    ({"method": "lm", "bounds": (0, 1)}, "`method` 'lm' takes no bounds; use 'trust-region', or leave it out"),
    ({"bounds": (2, 1)}, "must have low <= high"),
    ({"bounds": ([0, 0, 0], 1)}, "must be numbers or arrays that broadcast"),
    ({"ftol": -1}, "`ftol` must be >= 0, got -1"),
    ({"gtol": "small"}, "`gtol` must be a number"),
    ({"max_nfev": 0}, "`max_nfev` must be an integer >= 1, got 0"),
    ({"x_scale": [1, -1]}, "`x_scale` must be 'jac' or positive numbers"),
    ({"x_scale": [1, 2, 3]}, "`x_scale` must be 'jac' or positive numbers that broadcast to"),
    ({"loss": "l1"}, "`loss` must be one of 'linear', 'huber', 'soft_l1', 'cauchy', 'arctan' or a function"),
    ({"f_scale": 0}, "`f_scale` must be > 0, got 0"),
    ({"verbose": 3}, "`verbose` must be 0, 1 or 2, got 3"),
    ({"workers": 0}, "`workers` must be a number of threads"),
    ({"history_size": -1}, "`history_size` must be >= 0, got -1"),
    ({"callback": 3}, "`callback` must be callable, got 3"),
    ({"state": {}}, "`state` must be the `state` of a result"),
    ({"tr_solver": "exact"}, "least_squares has no argument `tr_solver`"),
])
def test_what_is_refused_before_anything_is_evaluated(options: dict[str, Any], message: str) -> None:
    calls: list[Array] = []
    arguments = {"fun": lambda x: calls.append(x) or decay(x), "x0": [1.0, 1.0], **options}
    with pytest.raises((TypeError, ValueError)) as caught:
        ol.least_squares(**arguments)
    assert message in str(caught.value)
    assert not calls


@pytest.mark.parametrize(("fun", "jac", "message"), [
    (lambda x: None, None, "`fun` must return real numbers, got None; is a `return` missing?"),
    (lambda x: x + 1j, None, "`fun` must return real numbers"),
    (lambda x: np.zeros(0), None, "`fun` must return at least one residual, got none"),
    (lambda x: np.array([1.0, np.nan]), None, "finite residuals at `x0`, got nan as the element 1"),
    (lambda x: np.full(3, 1e200), None, "finite residuals at `x0`, and their squares overflow"),
    (decay, lambda x: np.ones((2, 9)), "a matrix of shape (9, 2), a row for each residual, got (2, 9); transpose it"),
    (decay, lambda x: np.ones(18), "got (18,)"),
    (decay, lambda x: "J", "`jac` must return real numbers or an operator with `matvec` and `rmatvec`, got 'J'"),
    (decay, (lambda x, v: np.ones(8), lambda x, u: np.ones(2)), "must have one real number for each of 9 residuals"),
    (decay, (lambda x, v: np.ones(9), lambda x, u: np.ones(3)), "must have one real number for each of 2 unknowns"),
])
def test_what_functions_must_return(fun: Any, jac: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        ol.least_squares(fun, [1.0, 1.0], jac)
    assert message in str(caught.value)


def test_residuals_must_not_change_their_number() -> None:
    with pytest.raises(ValueError, match="of the same shapes each time"):
        ol.least_squares(lambda x: np.ones(2 + (x[0] != 1)), [1.0], lambda x: np.ones((2, 1)))


def test_x_scale_jac_needs_a_matrix() -> None:
    with pytest.raises(ValueError, match="`x_scale='jac'` needs a matrix, and `jac` is an operator"):
        ol.least_squares(decay, [1.0, 1.0], given("operator"), x_scale="jac")


def test_fun_can_not_alter_x() -> None:
    def fun(x: Array) -> Array:
        x += 1
        return x

    with pytest.raises(ValueError, match="read-only"):
        ol.least_squares(fun, np.zeros(2))
