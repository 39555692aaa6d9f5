"""`l1`: minima and zeros are those of closed forms and of scikit-learn; and all that steps have works with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.closures.vectors import VectorSpace
from support.bits import same_bits
from support.closures import SEARCHES, interrupted

Fun = Callable[[np.ndarray], tuple[Any, np.ndarray]]


def soft(v: Any, w: Any) -> np.ndarray:
    return np.sign(v) * np.maximum(abs(v) - w, 0)


def lasso(count: int = 100, unknowns: int = 30) -> Fun:
    """Least squares with correlated columns, of which every fourth matters."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((count, unknowns)) @ (np.eye(unknowns) + 0.5)
    b = a[:, ::4].sum(axis=1) + rng.standard_normal(count)
    return lambda x: (float(np.sum((a @ x - b)**2)) / count / 2, a.T @ (a @ x - b) / count)


# Minima --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_diagonal_quadratic_is_softly_thresholded(dtype: Any, search: str) -> None:
    """sum h (x - c)²/2 + w |x|, by parameters of several weights, types of memory and no dimension at all."""
    rng, precision = np.random.default_rng(3), 1e-5 if dtype == np.float32 else 1e-7     # what losses resolve
    params = {"a": np.zeros((5, 4), dtype), "f": np.asfortranarray(rng.standard_normal((4, 3)).astype(dtype)),
              "s": rng.standard_normal((8, 2)).astype(dtype)[::2], "b": np.zeros((), dtype), "free": np.ones(3, dtype)}
    h = {name: 1 + 9 * rng.random(x.shape) for name, x in params.items()}
    c = {name: rng.standard_normal(x.shape) for name, x in params.items()}
    w = {"a": rng.random((5, 4)), "f": 2, "s": np.array([0.5, 4]), "b": 0.1}

    def closure() -> Any:
        loss = sum(float((h[name] * (x - c[name])**2).sum()) / 2 for name, x in params.items())
        return loss, {name: (h[name] * (x - c[name])).astype(dtype) for name, x in params.items()}

    opt = ol.LBFGS(params, l1=w, line_search_fn=search, max_iter=200, tolerance_change=0,
                   tolerance_grad=precision)
    opt.step(closure)
    best = {name: soft(h[name] * c[name], w.get(name, 0)) / h[name] for name in params}
    for name, x in params.items():
        np.testing.assert_allclose(x, best[name], atol=precision, err_msg=name)
        assert ((x == 0) == (best[name] == 0)).all()
    assert opt.result.converged
    norm = sum(float((w.get(name, 0) * abs(best[name])).sum()) for name in params)
    assert opt.result.loss == pytest.approx(closure()[0] + norm, rel=1e-6)


@pytest.mark.parametrize("search", ["nocedal_wright", "hager_zhang", "backtracking"])
@pytest.mark.parametrize("weight", [0.3, 0.03, 0.003])
@pytest.mark.parametrize("positive", [False, True])
def test_lasso_is_that_of_scikit_learns_coordinate_descent(positive: bool, weight: float, search: str) -> None:
    linear, datasets = (pytest.importorskip(f"sklearn.{name}") for name in ("linear_model", "datasets"))
    a, b = datasets.load_diabetes(return_X_y=True)
    a, b = a * np.sqrt(len(b)), (b - b.mean()) / b.std()

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(np.sum((a @ x - b)**2)) / len(b) / 2, a.T @ (a @ x - b) / len(b)

    found = ol.minimize(fun, np.zeros(10), bounds=(0, None) if positive else None,
                        options={"l1": weight, "gtol": 1e-9, "ftol": 0, "line_search_fn": search})
    theirs = linear.Lasso(alpha=weight, fit_intercept=False, tol=1e-14, max_iter=100_000, positive=positive).fit(a, b)
    best = fun(theirs.coef_)[0] + weight * abs(theirs.coef_).sum()
    assert found.fun == pytest.approx(best, rel=1e-9)
    assert found.fun == pytest.approx(fun(found.x)[0] + weight * abs(found.x).sum(), rel=1e-14)
    assert ((found.x == 0) == (theirs.coef_ == 0)).all()


@pytest.mark.parametrize("weight", [0.1, 0.01, 1e-3])
def test_sparse_logistic_regression_is_that_of_liblinear(weight: float) -> None:
    linear, datasets = (pytest.importorskip(f"sklearn.{name}") for name in ("linear_model", "datasets"))
    a, b = datasets.load_breast_cancer(return_X_y=True)
    a = (a - a.mean(axis=0)) / a.std(axis=0)

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = a @ x
        return float(np.logaddexp(0, z).sum() - b @ z) / len(b), a.T @ (1 / (1 + np.exp(-z)) - b) / len(b)

    found = ol.minimize(fun, np.zeros(30), options={"l1": weight, "gtol": 1e-7, "ftol": 0})
    theirs = linear.LogisticRegression(l1_ratio=1, C=1 / weight / len(b), solver="liblinear", fit_intercept=False,
                                       tol=1e-8, max_iter=10_000).fit(a, b).coef_[0]
    assert found.fun == pytest.approx(fun(theirs)[0] + weight * abs(theirs).sum(), rel=1e-6)
    assert ((found.x == 0) == (theirs == 0)).all()
    assert found.nfev < 250                      # 47, 68 and some 170


def test_multinomial_regression_has_the_conditions_of_a_minimum() -> None:
    """650 unknowns, of which most are 0: |g| <= w there, and g = -w sign(x) elsewhere; biases are free."""
    datasets = pytest.importorskip("sklearn.datasets")
    a, digits = datasets.load_digits(return_X_y=True)
    a, y = (a / 16).astype(np.float32), np.eye(10, dtype=np.float32)[digits]

    def fun(x: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        z = a @ x["W"] + x["b"]
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        r = (p - y) / len(y)
        return float(-np.log(p[y == 1], dtype=float).mean()), {"W": a.T @ r, "b": r.sum(axis=0)}

    found = ol.minimize(fun, {"W": np.zeros((64, 10), np.float32), "b": np.zeros(10, np.float32)},
                        options={"l1": {"W": 0.01, "b": 0}, "gtol": 1e-5})
    gradient, w = fun(found.x)[1], found.x["W"]
    assert found.success
    assert 0.8 < (w == 0).mean() < 0.95
    assert (abs(gradient["W"][w == 0]) <= 0.01 + 1e-6).all()
    np.testing.assert_allclose(gradient["W"][w != 0], -0.01 * np.sign(w[w != 0]), atol=2e-5)
    np.testing.assert_allclose(gradient["b"], 0, atol=2e-5)


@pytest.mark.parametrize("start", [1e-9, 1.0, 0.0, -7.0])
@pytest.mark.parametrize("low", [None, -2.0, 0.0, 0.5])
def test_a_small_step_to_zero_is_no_small_gradient(start: float, low: float | None) -> None:
    """(x + 4)²/2 + |x| falls through 0, down to -3 or to the bound."""
    found = ol.minimize(lambda x: (float((x + 4) @ (x + 4)) / 2, x + 4), np.array([start]), bounds=(low, None),
                        options={"l1": 1})
    np.testing.assert_allclose(found.x, -3 if low is None else low, atol=1e-5)
    assert found.success


@pytest.mark.parametrize("seed", [15, 61])
def test_an_element_next_to_zero_stops_no_search(seed: int) -> None:
    """d descends until that element is 0, and leads uphill from there: Armijo's steps became ever smaller, and the run
    ended by `ftol` at a loss of four to eight times the least.  After 400 iterations, the last bit of a start decides
    between 0.6 and 2.3 times the other search's loss."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((9, 50)) * np.logspace(0, 0.7, 50)
    b = a @ (rng.standard_normal(50) * (rng.random(50) < 0.3)) + rng.standard_normal(9)
    given = {"l1": abs(a.T @ b).max() * 2e-4, "maxiter": 400}
    start = rng.standard_normal(50)
    one, other = (ol.minimize(lambda x: (float((a @ x - b) @ (a @ x - b)) / 2, a.T @ (a @ x - b)), start,
                              options={**given, "line_search_fn": search})
                  for search in ("backtracking", "nocedal_wright"))
    assert one.fun <= 3 * other.fun


def test_signs_of_the_steepest_descent_everywhere_would_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Andrew & Gao set d to 0 wherever it doesn't descend; here this is done only at 0, as at a bound."""
    given = {"options": {"l1": 0.01, "gtol": 1e-6, "ftol": 0}}
    ours = ol.minimize(lasso(), np.zeros(30), **given)
    inward = VectorSpace.project_direction

    def aligned(space: VectorSpace, d: Any, g: Any, box: Any) -> tuple[float, float]:
        for way, slope in zip(d.arrays, g.arrays, strict=True):
            way[way * slope >= 0] = 0
        return inward(space, d, g, box)

    monkeypatch.setattr(VectorSpace, "project_direction", aligned)
    theirs = ol.minimize(lasso(), np.zeros(30), **given)
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-5)
    assert ours.nfev < theirs.nfev / 2


# What steps have -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bounds", [None, (-0.5, 0.8)])
@pytest.mark.parametrize("at", [1, 2, 5, 9, 14])
def test_a_run_goes_on_with_the_same_bits(at: int, bounds: Any, dtype: Any) -> None:
    plain = lasso()

    def fun(x: np.ndarray) -> Any:
        loss, gradient = plain(x.astype(float))
        return dtype(loss), gradient.astype(dtype)

    given = {"bounds": bounds, "options": {"l1": np.linspace(0, 0.5, 30), "gtol": 1e-4}}
    whole = ol.minimize(fun, np.ones(30, dtype), **given)
    with pytest.raises(KeyboardInterrupt) as caught:
        ol.minimize(interrupted(fun, at), np.ones(30, dtype), **given)
    rest = ol.minimize(fun, state=caught.value.state)        # type: ignore[attr-defined]
    assert same_bits(rest.x, whole.x)
    assert whole.nfev > 15
    assert (whole.x == 0).any()


def test_steps_of_few_iterations_are_the_bits_of_a_long_one() -> None:
    fun, runs = lasso(), []
    for parts in (1, 12):
        x, saved = np.ones(30), None
        for _ in range(parts):
            opt = ol.LBFGS([x], l1=0.1, line_search_fn="nocedal_wright", max_iter=12 // parts, max_eval=100,
                           tolerance_change=0)
            if saved is not None:
                opt.load_state_dict(saved)
            opt.step(lambda x=x: (fun(x)[0], [fun(x)[1]]))
            saved = opt.state_dict()
        runs.append(x)
    assert same_bits(*runs)


def test_a_path_of_weights_keeps_the_history() -> None:
    """Pairs are those of the loss without the norm, whatever the weights."""
    x, fun, warm, cold = np.zeros(30), lasso(), 0, 0
    opt = ol.LBFGS([x], line_search_fn="nocedal_wright", max_iter=200, tolerance_grad=1e-8, tolerance_change=0)
    for weight in (0.3, 0.2, 0.1, 0.05, None):
        opt.l1 = weight
        opt.step(lambda: (fun(x)[0], [fun(x)[1]]))
        alone = ol.minimize(fun, np.zeros(30), options={"l1": weight or 0, "gtol": 1e-8, "ftol": 0, "maxcor": 100})
        np.testing.assert_allclose(x, alone.x, atol=1e-6)
        warm, cold = warm + opt.result.evaluations, cold + alone.nfev
    assert warm < 0.8 * cold                     # 322 and 491


def test_weights_of_zero_change_no_bit() -> None:
    found = [ol.minimize(lasso(), np.zeros(30), options=options).x for options in ({}, {"l1": 0}, {"l1": np.zeros(30)})]
    assert same_bits(found[0], found[1])
    assert same_bits(found[0], found[2])


def test_to_maximize_is_to_maximize_the_loss_without_the_norm() -> None:
    fun = lasso()
    one = ol.minimize(fun, np.zeros(30), options={"l1": 0.1})
    other = ol.minimize(lambda x: tuple(-part for part in fun(x)), np.zeros(30), options={"l1": 0.1, "maximize": True})
    assert same_bits(one.x, other.x)
    assert other.fun == -one.fun


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_start_that_is_not_finite_is_seen_at_zero(bad: float) -> None:
    result = ol.minimize(lambda x: (1.0, np.array([bad, 0.0])), np.zeros(2), options={"l1": 1})
    assert result.status == 3
    assert same_bits(result.x, np.zeros(2))


def test_weights_stay_with_their_parameters() -> None:
    opt = ol.LBFGS({"a": np.ones(3), "b": np.ones(2)}, l1={"a": [0, 1, 2]}, line_search_fn="hager_zhang")
    with pytest.raises(ValueError, match=r"'a' has l1 for its shape \(3,\), and was to become \(4,\); set opt.l1 ="):
        opt.replace("a", np.ones(4))
    opt.replace("a", np.ones(3))
    opt.replace("b", np.ones(5))
    opt.add_param_group({"params": {"c": np.ones(2)}})
    parameters = [p for group in opt.param_groups for p in group["params"]]

    def closure() -> Any:
        for p in parameters:
            p.grad = p.data - 3
        return sum(float((p.data - 3) @ (p.data - 3)) / 2 for p in parameters)

    opt.step(closure)
    np.testing.assert_allclose(np.concatenate([p.data for p in parameters]), [3, 2, 1, *[3] * 7], atol=1e-6)


@pytest.mark.parametrize(("given", "message"), [
    ({"l1": -0.1}, "`l1` of 'x' must be >= 0 and finite, got -0.1"),
    ({"l1": np.inf}, "`l1` of 'x' must be >= 0 and finite, got inf"),
    ({"l1": [np.nan, 0]}, "`l1` of 'x' must be >= 0 and finite, got nan"),
    ({"l1": "much"}, "`l1` of 'x' must be a number or an array that broadcasts to"),
    ({"l1": {"y": np.ones(2)}}, r"`l1` of 'y' must be a number or an array that broadcasts to \(3,\)"),
    ({"l1": [1]}, "`l1` must have one weight for each of 2 parameters, got 1"),
    ({"l1": {"z": 1}}, r"`l1` has unknown names \['z'\]; the parameters are \['x', 'y'\]"),
    ({"l1": 1, "line_search_fn": None}, "`l1` must have a line search, got line_search_fn=None"),
    ({"l1": 1, "inner": np.dot}, "`l1` must have the plain inner product"),
])
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.LBFGS({"x": np.ones(2), "y": np.ones(3)}, **{"line_search_fn": "hager_zhang", **given})


def test_complex_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match="`l1` can't be had with complex parameters, and 'z' is one"):
        ol.LBFGS({"z": np.ones(2, complex)}, l1=0.1, line_search_fn="hager_zhang")


def test_groups_must_have_one_lr() -> None:
    with pytest.raises(ValueError, match=r"`l1` must have the same `lr` in all groups, .*, got \[0.5, 1\]"):
        ol.LBFGS([{"params": [np.ones(2)]}, {"params": [np.ones(2)], "lr": 0.5}], l1=1, line_search_fn="hager_zhang")


@pytest.mark.parametrize(("method", "l1", "message"), [
    ("cg", 1, "`options` has no `l1` with method 'cg', which needs smooth losses"),
    (None, {"a": 1}, r"`l1` must be nested as `x0` is, a dict with the keys \['a', 'b'\]"),
    (None, {"a": 1, "b": -1}, "`l1` of 'b' must be >= 0 and finite, got -1")])
def test_what_minimize_refuses(method: Any, l1: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ol.minimize(lambda x: 0.0, {"a": np.ones(2), "b": np.ones(2)}, method=method, options={"l1": l1})
