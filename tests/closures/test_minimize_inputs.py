"""What `minimize` is given: unknowns in any nesting, functions, methods and options; what of them is refused."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from support.closures import Rosenbrock, square

# Nestings ------------------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "u v")


def test_unknowns_in_any_nesting() -> None:
    x0 = {"model": [np.ones((2, 3), np.float32), Pair(np.zeros(4), 2.0)], "shift": 1}
    seen = []

    def fun(x: Any) -> Any:
        seen.append(x)
        a, (b, c), d = x["model"][0], x["model"][1], x["shift"]
        loss = float(((a - 1) ** 2).sum() + ((b - 2) ** 2).sum() + (c - 3) ** 2 + (d - 4) ** 2)
        return loss, {"shift": 2 * (d - 4), "model": [2 * (a - 1), (2 * (b - 2), 2 * (c - 3))]}

    result = ol.minimize(fun, x0, bounds={"model": [None, Pair((None, 1.5), (0, 2.5))], "shift": None})
    assert result.success
    for found in (result.x, result.jac, seen[0]):
        assert isinstance(found["model"][1], Pair)
        assert (found["model"][0].dtype, found["model"][1].u.dtype) == (np.float32, np.float64)
        assert found["shift"].shape == ()
    (a, (b, c)), d = result.x["model"], result.x["shift"]
    assert (a == 1).all()
    assert (b == 1.5).all()
    assert c == 2.5
    assert d == pytest.approx(4)
    assert (x0["model"][0] == 1).all()           # type: ignore[index]
    assert all(same is seen[0] for same in seen)


@pytest.mark.parametrize("bounds", [
    (0.5, 2), SimpleNamespace(lb=0.5, ub=2), SimpleNamespace(lb={"a": 0.5, "b": np.full(2, 0.5)}, ub={"a": 2, "b": 2}),
    {"a": (0.5, 2), "b": [(0.5, 2), (0.5, None)]}, {"a": SimpleNamespace(lb=0.5, ub=2), "b": np.array([[0.5, 2]] * 2)},
    ({"a": 0.5, "b": 0.5}, None), ({"a": 0.5, "b": np.full(2, 0.5)}, {"a": 2, "b": 3}),
])
def test_bounds_of_a_nesting(bounds: Any) -> None:
    result = ol.minimize(lambda x: (float((x["a"]**2).sum() + (x["b"]**2).sum()), {"a": 2 * x["a"], "b": 2 * x["b"]}),
                         {"a": np.ones((2, 2)), "b": np.ones(2)}, bounds=bounds)
    assert (result.x["a"] == 0.5).all()
    assert (result.x["b"] == 0.5).all()


@pytest.mark.parametrize("bounds", [
    ([(0.5, 2)] * 3, [(0.5, 2)] * 3), [[(0.5, 2)] * 3, (0.5, 2)], ((0.5, 2), [(0.5, None)] * 3), (0.5, 2),
    (np.array([[0.5, 2]] * 3), [(0.5, 2)] * 3), SimpleNamespace(lb=[0.5, 0.5], ub=[np.full(3, 2), 2])])
@pytest.mark.parametrize("kind", [list, tuple])
def test_bounds_of_a_list_of_two(kind: Any, bounds: Any) -> None:
    """A tuple of two lists is what the unknowns are, too, not (low, high)."""
    result = ol.minimize(lambda x: (float((x[0]**2).sum() + (x[1]**2).sum()), [2 * x[0], 2 * x[1]]),
                         kind([np.ones(3), np.ones(3)]), bounds=bounds)
    assert all((x == 0.5).all() for x in result.x)


@pytest.mark.parametrize("x0", [[1, 2], (1.0, 2.0), [np.float64(1), 2], [np.array(1.0), np.array(2.0)], range(1, 3)])
def test_numbers_in_a_list_are_one_array(x0: Any) -> None:
    assert ol.minimize(square, x0).x.shape == (2,)


@pytest.mark.parametrize(("gradient", "message"), [
    ({"a": np.ones(2)}, "the gradient must be nested as `x0` is, a dict with the keys \\['a', 'b'\\], got the keys"),
    ({"a": np.ones(2), "b": [np.ones(1)]}, "a list of 2, got 1 items"),
    ({"a": np.ones(3), "b": [1, 1]}, "the gradient of 'a' must have one element for each of x's 2, got shape"),
    ({"a": np.ones(2), "b": [1, 1j]}, "the gradient of 'b.1' must be an array of real numbers"),
    (np.ones(4), "nested as `x0` is"),
])
def test_gradients_of_a_nesting(gradient: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.minimize(lambda x: (1.0, gradient), {"a": np.ones(2), "b": [np.ones(1), np.ones(1)]}, jac=True)


def test_what_is_wrong_in_a_nesting_is_named() -> None:
    with pytest.raises(TypeError, match=r"`x0` of 'a\.0' must be"):
        ol.minimize(square, {"a": [np.array(["one"])]})
    with pytest.raises(ValueError, match="`bounds` of 'a' must be a pair, or one pair for each of 2 elements"):
        ol.minimize(square, {"a": np.ones(2)}, bounds={"a": [(0, 1)]})


# Starts, functions, methods, options ---------------------------------------------------------------------------------

@pytest.mark.parametrize(("fun", "error", "message"), [
    (lambda x: (1.0, x, x), TypeError, r"`fun` must return \(loss, gradient\), got 3 values"),
    (lambda x: None, TypeError, r"`fun` must return \(loss, gradient\), got None"),
    (lambda x: (1.0, None), TypeError, "^the gradient must be an array of real numbers, got None$"),
    (lambda x: (1.0, x + 1j), TypeError, r"be its gradient: use gradient.view\(np.float64\) if x is such a view"),
    (lambda x: (1.0, x[:2]), ValueError, r"one element for each of x's 3, got shape \(2,\)$"),
    (lambda x: (1.0, np.array(["a"] * 3)), TypeError, "^the gradient must be an array of real numbers"),
    (lambda x: (None, x), TypeError, "is a `return` missing"),
    (lambda x: (1j, x), TypeError, "the loss must be a real number, got 1j"),
])
def test_what_fun_returns(fun: Any, error: type[Exception], message: str) -> None:
    for jac in (True, None):
        with pytest.raises(error, match=message):
            ol.minimize(fun, np.ones(3), jac=jac)


def test_the_gradient_may_be_missing_only_where_it_was_not_promised() -> None:
    with pytest.raises(TypeError, match=r"`fun` must return \(loss, gradient\), got 3.0; .* as `jac`, or jac='2"):
        ol.minimize(lambda x: float(x @ x), np.ones(3), jac=True)


@pytest.mark.parametrize(("x0", "message"), [
    (None, "^`x0` must be an array of numbers, got None$"),
    ("abc", "^`x0` must be an array of numbers, got 'abc'$"),
])
def test_what_is_no_start(x0: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ol.minimize(square, x0)


def test_complex_unknowns_by_the_cure_of_the_message() -> None:
    target = np.array([1 - 2j, 3j])

    def fun(parts: np.ndarray) -> tuple[float, np.ndarray]:
        r = parts.view(np.complex128) - target
        return float((abs(r)**2).sum()), 2 * r.view(np.float64)

    result = ol.minimize(fun, np.array([1 + 1j, 2]).view(np.float64))
    np.testing.assert_allclose(result.x.view(np.complex128), target, atol=1e-6)


@pytest.mark.parametrize(("method", "cure"), [
    ("BFGS", "use 'lbfgs', which takes bounds, too"), ("TNC", "use 'lbfgs', which takes bounds, too"),
    ("Nelder-Mead", "use 'lbfgs' with jac='2-point', or scipy")])
def test_methods_that_are_not_here(method: str, cure: str) -> None:
    with pytest.raises(ValueError, match=f"'lbfgs', 'cg', 'newton-cg', got '{method}'; {cure}$"):
        ol.minimize(square, np.ones(3), method=method)


@pytest.mark.parametrize(("method", "options", "message"), [
    ("lbfgs", {"iprint": 1}, "`options` has no `iprint`; print in a `callback`"),
    ("lbfgs", {"return_all": True}, "`options` has no `return_all`; keep each x in a `callback`"),
    ("lbfgs", {"maxit": 1}, "`options` has no `maxit`; did you mean `maxiter`"),
    ("lbfgs", {"max_iters": 3}, r"`options` has no `max_iters`; did you mean `max_iter`\?"),
    ("lbfgs", {"norm": 2}, "it must be np.inf: gradients are measured by max"),
    ("cg", {"maxcor": 5}, "`options` has no `maxcor` with method 'cg', which keeps no history"),
    ("lbfgs", {"c1": 0.5, "c2": 0.1}, "`search_options` must have 'c1' and 'c2' with 0 < c1 < c2 < 1"),
])
def test_scipys_other_options_are_refused_with_a_cure(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ol.minimize(square, np.ones(3), method=method, options=options)


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_callbacks_truth_stops_whoever_computed_it(answer: Any) -> None:
    assert ol.minimize(square, np.ones(3), callback=lambda x: answer).nit == 1
    for make in (ol.LBFGS, ol.ConjugateGradient):
        problem = Rosenbrock()
        opt = make(problem.params, callback=lambda result: answer)
        opt.step(problem)
        assert opt.result.reason == "the callback asked to stop"


@pytest.mark.parametrize("jac", ["4-point", 1.0])
def test_what_is_no_jac(jac: Any) -> None:
    with pytest.raises(TypeError, match="`jac` must be True"):
        ol.minimize(square, np.zeros(3), jac=jac)
