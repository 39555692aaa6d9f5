"""Newton-CG: truncated conjugate gradients by hand, negative curvature, products and differences, limits, resume."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.closures.truncated_cg import TruncatedCG
from optimlite.closures.vectors import Vector, VectorSpace
from optimlite.closures.workspace import Workspace
from optimlite.engine.parameter import Parameter
from support.bits import same_bits
from support.closures import Logistic, Rosenbrock, interrupted, rosenbrock

Array = np.ndarray


def hessian(x: Array) -> Array:
    H = np.diag(-400 * x[:-1], 1) + np.diag(-400 * x[:-1], -1)
    H[np.arange(len(x) - 1), np.arange(len(x) - 1)] += 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    H[np.arange(1, len(x)), np.arange(1, len(x))] += 200
    return H


def hessp(x: Array, v: Array) -> Array:
    return hessian(x) @ v


# Inside --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("least", [1.0, -0.5])
@pytest.mark.parametrize("radius", [0.01, 0.7, 100.0])
def test_the_step_within_a_region(radius: float, least: float, preconditioned: bool) -> None:
    """The minimum of the model where it lies inside, and else a point of the edge where the model is lower than at the
    steepest descent's best; lengths are those of the preconditioner's inverse."""
    rng = np.random.default_rng(3)
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    H, g, d = Q @ np.diag([least, 2, 3, 5, 8, 13]) @ Q.T, rng.normal(size=6), rng.uniform(0.5, 2, 6)
    H = (H + H.T) / 2
    space = VectorSpace([Parameter(np.zeros(6))])
    p = space.empty()

    def multiply(out: Vector, v: Vector) -> bool:
        out.arrays[0][...] = H @ v.arrays[0]
        return True

    def apply(out: Vector, v: Vector) -> None:
        out.arrays[0][...] = d * v.arrays[0]

    asked = []
    step = TruncatedCG(Workspace(space)).solve(p, Vector([g]), lambda length: asked.append(length) or radius, 1e-10,
                                               multiply, apply if preconditioned else None)
    inverse = 1 / d if preconditioned else np.ones(6)
    found, model = p.arrays[0], lambda v: g @ v + v @ H @ v / 2
    assert asked == [pytest.approx(math.sqrt(g @ (g / inverse)))]
    assert step.length == pytest.approx(math.sqrt(found @ (inverse * found)))
    assert step.length <= radius * (1 + 1e-12)
    assert step.predicted == pytest.approx(-model(found))
    descent = -g / inverse
    along = np.linspace(0, radius / math.sqrt(descent @ (inverse * descent)), 1001)
    assert model(found) <= min(model(t * descent) for t in along) + 1e-12
    assert step.cut == (step.length == radius)
    if not step.cut:
        np.testing.assert_allclose(found, -np.linalg.solve(H, g), rtol=1e-6)
    assert step.cut or (radius == 100.0 and least > 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("products", [False, True])
def test_it_leaves_a_saddle_and_finds_the_minimum(products: bool, dtype: type) -> None:
    """x⁴/4 - x²/2 + y²/2, from beside the saddle at 0, where the curvature along x is negative."""
    w = np.array([1e-3, 1.0], dtype)

    def closure() -> Any:
        x, y = w.astype(np.float64)
        return x**4 / 4 - x * x / 2 + y * y / 2, [np.array([x**3 - x, y], dtype)]

    given = {"hessp": lambda v: [np.array([(3 * w[0] ** 2 - 1) * v[0][0], v[0][1]], dtype)]} if products else {}
    opt = ol.NewtonCG([w], max_iter=50, tolerance_grad=1e-4, line_search_fn="hager_zhang", **given)
    opt.step(closure)
    assert opt.result.converged
    np.testing.assert_allclose(w, [1, 0], atol=1e-3)


def test_convergence_is_superlinear() -> None:
    problem, norms = Logistic(), []
    opt = ol.NewtonCG(problem.params, max_iter=30, tolerance_grad=1e-8, tolerance_change=0,    # which losses resolve
                      callback=lambda result: norms.append(result.grad_norm))
    opt.step(problem)
    assert opt.result.converged
    ratios = [after / before for before, after in itertools.pairwise(norms)]
    assert min(ratios[-3:]) < 0.1 < ratios[0]            # which of the last it is depends on rounding


# minimize ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["newton-cg", "Newton-CG", "trust-ncg"])
def test_scipys_calls(method: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    x0 = np.full(10, -1.2)
    for given in ({"hessp": hessp}, {"hess": hessian}, {}):
        ours = ol.minimize(rosenbrock, x0, method=method, tol=1e-6, **given)
        assert ours.success
        np.testing.assert_allclose(ours.x, 1, atol=1e-5)
        assert (ours.nhev > 0) == bool(given)
        assert ours.nfev == ours.njev
    theirs = optimize.minimize(rosenbrock, x0, jac=True, hessp=hessp, method="trust-ncg", options={"gtol": 1e-6})
    assert set(ours) - {"state"} <= set(theirs)
    ours = ol.minimize(rosenbrock, x0, hessp=hessp, method=method, tol=1e-6)
    assert ours.nfev + ours.nhev <= theirs.nfev + theirs.nhev


def test_hess_is_called_once_a_point_and_args_go_along() -> None:
    seen = []

    def hess(x: Array, shift: float) -> Array:
        seen.append(x.copy())
        return hessian(x - shift)

    result = ol.minimize(lambda x, shift: rosenbrock(x - shift), np.zeros((2, 3)).ravel(), args=(0.5,), hess=hess,
                         method="trust-ncg")
    np.testing.assert_allclose(result.x, 1.5, atol=1e-4)
    assert result.nhev == len(seen) == len({x.tobytes() for x in seen})
    by_products = ol.minimize(lambda x, shift: rosenbrock(x - shift), np.zeros(6), args=(0.5,), method="trust-ncg",
                              hessp=lambda x, v, shift: hessian(x - shift) @ v)
    assert same_bits(by_products.x, result.x)


def test_products_are_nested_as_the_unknowns_are() -> None:
    def fun(x: Any) -> Any:
        return float((x["a"] ** 4).sum() + (x["b"][0] ** 2).sum()), {"a": 4 * x["a"] ** 3, "b": [2 * x["b"][0]]}

    def products(x: Any, v: Any) -> Any:
        return {"a": 12 * x["a"] ** 2 * v["a"], "b": [2 * v["b"][0]]}

    x0 = {"a": np.ones((2, 2), np.float32), "b": [np.ones(3)]}
    result = ol.minimize(fun, x0, method="newton-cg", hessp=products)
    assert result.success
    assert result.x["a"].dtype == np.float32
    assert abs(result.x["b"][0]).max() < 1e-4


@pytest.mark.parametrize("products", [False, True])
def test_bounds(products: bool) -> None:
    low, high = -0.5, np.linspace(0.5, 1.5, 6)
    seen = []

    def fun(x: Array) -> tuple[float, Array]:
        seen.append(x.copy())
        return rosenbrock(x)

    result = ol.minimize(fun, np.full(6, -0.4), method="newton-cg", bounds=(low, high), tol=1e-7,
                         **({"hessp": hessp} if products else {}))
    other = ol.minimize(rosenbrock, np.full(6, -0.4), bounds=(low, high), tol=1e-9)
    assert result.success
    assert result.fun == pytest.approx(other.fun, rel=1e-6)
    assert all(((x >= low) & (x <= high)).all() for x in seen)


def test_a_preconditioner_saves_products() -> None:
    curvature = np.logspace(0, 5, 50)

    def fun(x: Array) -> tuple[float, Array]:
        return (float(curvature @ (x - 1) ** 2) / 2 + float(((x - 1) ** 4).sum()),
                curvature * (x - 1) + 4 * (x - 1) ** 3)

    def products(x: Array, v: Array) -> Array:
        return (curvature + 12 * (x - 1) ** 2) * v

    plain, helped = (ol.minimize(fun, np.zeros(50), method="newton-cg", hessp=products, **given)
                     for given in ({}, {"h0": 1 / curvature}))
    assert plain.success
    assert helped.success
    assert helped.nhev + helped.nfev < 0.4 * (plain.nhev + plain.nfev)


def test_an_inner_product_makes_the_path_that_of_its_units() -> None:
    """Representers in the inner product with weights are the plain method's in x sqrt(weights)."""
    weights = np.array([4.0, 0.25, 1.0, 16.0])
    root = np.sqrt(weights)
    plain = ol.minimize(lambda z: (rosenbrock(z / root)[0], rosenbrock(z / root)[1] / root), np.zeros(4),
                        method="newton-cg", hessp=lambda z, v: hessp(z / root, v / root) / root,
                        options={"max_iter": 8, "gtol": 0})
    inner = ol.minimize(lambda x: (rosenbrock(x)[0], rosenbrock(x)[1] / weights), np.zeros(4), method="newton-cg",
                        hessp=lambda x, v: hessp(x, v) / weights, inner=lambda u, v: float(weights @ (u * v)),
                        options={"max_iter": 8, "gtol": 0})
    np.testing.assert_allclose(inner.x * root, plain.x, rtol=1e-6)


def test_units_make_no_difference() -> None:
    for unit in (2.0**-80, 2.0**80):
        one, other = (ol.minimize(lambda x, u=u: (u * rosenbrock(x)[0], u * rosenbrock(x)[1]), np.full(4, -1.2),
                                  method="newton-cg", hessp=lambda x, v, u=u: u * hessp(x, v),
                                  options={"max_iter": 9, "gtol": 0}) for u in (1.0, unit))
        assert same_bits(one.x, other.x)


# Limits, stops, state ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize("products", [False, True])
def test_max_eval_counts_differences_and_is_never_exceeded(limit: int, products: bool) -> None:
    losses = []

    def fun(x: Array) -> tuple[float, Array]:
        losses.append(rosenbrock(x)[0])
        return rosenbrock(x)

    result = ol.minimize(fun, np.full(5, -1.2), method="newton-cg", options={"maxfun": limit},
                         **({"hessp": hessp} if products else {}))
    assert result.nfev == result.njev == len(losses) <= limit
    assert result.status == 1
    assert result.fun == rosenbrock(result.x)[0] <= losses[0]


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6, 9])
@pytest.mark.parametrize("products", [False, True])
def test_an_exception_leaves_the_last_accepted_point(at: int, products: bool) -> None:
    problem, accepted, calls = Rosenbrock(), [Rosenbrock().params[0]], itertools.count(1)
    given = {}
    if products:
        given["hessp"] = interrupted(lambda v: [hessp(problem.params[0], v[0])], at, calls)
    opt = ol.NewtonCG(problem.params, max_iter=50, callback=lambda result: accepted.append(problem.params[0].copy()),
                      **given)
    with pytest.raises(KeyboardInterrupt):
        opt.step(interrupted(problem, at, calls))
    assert same_bits(problem.params[0], accepted[-1])
    opt.step(problem)
    np.testing.assert_allclose(problem.params[0], 1, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("products", [False, True])
def test_resume_is_exact(products: bool, dtype: type) -> None:
    def run(x0: Any, **given: Any) -> Any:
        return ol.minimize(rosenbrock, x0, method="newton-cg", **given,
                           **({"hessp": lambda x, v: hessp(x, v).astype(dtype)} if products else {}))

    start = np.full(6, -1.2, dtype)
    whole = run(start, options={"max_iter": 20, "gtol": 1e-3})
    for cut in (1, 4, 11):
        first = run(start, options={"max_iter": cut, "gtol": 1e-3})
        rest = run(None, state=first.state, options={"max_iter": 20 - cut})
        assert same_bits(rest.x, whole.x)
        assert rest.nit + first.nit == whole.nit


def test_maximize_and_a_group_that_stands_still() -> None:
    w, b = np.zeros(3), np.zeros(2)
    opt = ol.NewtonCG([w, b], maximize=True, hessp=lambda v: [-2 * v[0], -2 * v[1]])
    opt.step(lambda: (-((w - 1) ** 2).sum() - (b**2).sum(), [-2 * (w - 1), -2 * b]))
    np.testing.assert_allclose(w, 1)
    assert opt.result.converged


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_products_that_are_not_finite_end_the_inner_iteration(value: float) -> None:
    result = ol.minimize(lambda x: (float(x @ x), 2 * x), np.ones(3), method="newton-cg", hessp=lambda x, v: value * v)
    assert result.success
    np.testing.assert_allclose(result.x, 0, atol=1e-5)


@pytest.mark.parametrize(("given", "message"), [
    ({"hessp": 3}, "^`hessp` must be a function, got 3$"), ({"hess": 3}, "^`hess` must be a function, got 3$"),
    ({"hessp": lambda x, v: v[:2]}, r"^`hessp` must give one number for each of 3 unknowns, got shape \(2,\)$"),
    ({"hess": lambda x: np.eye(2)[:, [0, 0, 1]]}, r"^`hess` must give one number for each of 3 unknowns, got shape"),
    ({"x0": {"a": np.ones(3)}, "hess": lambda x: x}, "^`hess` needs one array of unknowns, got a nesting; give the"),
    ({"fun": lambda x: float(x @ x)}, "^method 'newton-cg' needs gradients, got a loss alone; let `fun` return"),
    ({"options": {"maxcor": 3}}, "^`options` has no `maxcor` with method 'newton-cg', which keeps no history; leave"),
    ({"options": {"eta": 0.1}}, "^`options` has no `eta`; it is `c1` of the line search$"),
])
def test_what_minimize_refuses(given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ol.minimize(**{"fun": lambda x: (float(x @ x), 2 * x), "x0": np.ones(3), "method": "newton-cg", **given})


def test_what_the_optimizer_refuses() -> None:
    with pytest.raises(TypeError, match=r"^`hessp` must be a function of a list of arrays, got 3$"):
        ol.NewtonCG([np.ones(2)], hessp=3)
    with pytest.raises(ValueError, match=r"^`lr` must be > 0, got 0$"):
        ol.NewtonCG([np.ones(2)], lr=0)
    w = np.ones(2)
    with pytest.raises(ValueError, match=r"^`hessp` must return an array of shape \(2,\) for '0', got \(3,\)$"):
        ol.NewtonCG([w], hessp=lambda v: [np.ones(3)]).step(lambda: (w @ w, [2 * w]))
    opt = ol.NewtonCG([{"params": [w]}, {"params": [np.ones(1)], "lr": 0.5}], hessp=lambda v: v)
    with pytest.raises(ValueError, match=r"^`hessp` needs the same `lr` in all groups"):
        opt.step(lambda: (w @ w, [2 * w, np.ones(1)]))
